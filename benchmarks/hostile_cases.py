"""Texts that break scripts, and the ways on which a user's text goes to a job."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

STRINGS = {
    "commas and equals signs": "A=1,B=2",
    "a single quote": "it's",
    "a command between single quotes": "'; touch CANARY; '",
    "a command between double quotes": '"; touch CANARY; "',
    "a command substitution": "$(touch CANARY)",
    "backticks": "`touch CANARY`",
    "a semicolon and a command": "x; touch CANARY",
    "an ampersand and a command": "x & touch CANARY & x",
    "a pipe and a command": "x | touch CANARY",
    "a redirection": "x > CANARY",
    "a command without spaces": ";touch${IFS}CANARY;",
    "a newline and a command": "x\ntouch CANARY\n#",
    "a newline and an option": "x\n#SBATCH --comment=smuggled",
    "a carriage return": "x\ry",
    "names of variables": "$HOME ${PATH} $0",
    "backslashes": "a\\nb\\\\c\\",
    "spaces and a tab": "  two  spaces\tand a tab ",
    "a leading dash": "--export=ALL",
    "percent signs": "%j %A_%a 100%",
    "patterns": "* ? [a-z] {a,b} ~",
    "templates": "{{ 7 * 7 }} {% x %} ${app_id} <% x %>",
    "a comment": "#!/bin/sh # !1",
    "a path that leads out": "../../outside",
    "other scripts": "naïve 日本語 🚀 \u202e",
    "a word that YAML reads as no text": "off",
    "nothing": "",
    "a NUL byte": "a\0b",
    "100,000 characters": "x" * 100_000,
    "200,000 characters": "x" * 200_000,
}
"""CANARY stands for a file: where it is after the job, a text was run as a command."""
PROBE = Path(__file__).parent / "peer_drivers" / "hostile_probe.py"
COMMON = ("environment", "secret", "argument", "job name", "partition", "comment")
"""Channels that every tool has."""
OURS = (
    *COMMON,
    "parameter", "parameter by --set", "axis", "tag", "description", "account", "qos", "constraint", "exclude",
    "gpu type", "option name", "python",
)  # fmt: skip
"""Ours have these too: what a config or a site file can say and what reaches a job, a script or a record."""
IN_THE_JOB = frozenset(
    {"environment", "secret", "argument", "parameter", "parameter by --set", "axis", "tag", "description"}
)
"""The others arrive nowhere in the job: there a text is right when the job ran all the same, or was refused."""


@dataclass(frozen=True, slots=True)
class Case:
    """One text on one channel."""

    number: int
    channel: str
    label: str
    value: str
    probe: list[str]
    out: str
    """Where the probe writes what has arrived."""
    canary: str


def make_cases(channels: tuple[str, ...], folder: Path) -> list[Case]:
    """Return every text on every one of these channels; `folder` takes what the probes write, and the canaries."""
    cases: list[Case] = []
    for channel in channels:
        for label, text in STRINGS.items():
            number = len(cases)
            canary = folder / f"canary-{number}"
            value = text.replace("CANARY", str(canary))
            if channel == "secret":
                value = f"hidden-{number}-{value}" if value else value
            probe = [sys.executable, "-I", "-S", str(PROBE)]
            cases.append(Case(number, channel, label, value, probe, str(folder / f"out-{number}"), str(canary)))
    return cases


def write_cases(cases: list[Case], path: Path) -> None:
    """Write cases for a driver."""
    path.write_text(json.dumps([asdict(case) for case in cases]))
