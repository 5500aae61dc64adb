"""Texts that break scripts, sent to jobs of a real Slurm on every way there is: `python benchmarks/hostile_strings.py`.

Ours, submitit, torchx and NeMo-Run get the same texts: as values of environment variables and of a secret, as
arguments, as names of jobs, as a partition and as a comment; ours also on every other way a config or a site file has.
Each job writes down what has arrived. A text is right when it arrives to the byte or is refused before anything is
submitted; it breaks when it arrives as another text, when it is run as a command, when its job never begins its work,
or when a secret stands in a log, a script or a record. Needs root, and Debian's packages of Slurm.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from figures import write_figures
from hostile_cases import COMMON, IN_THE_JOB, OURS, STRINGS, Case, make_cases, write_cases
from peers import install_peer
from slurm_bench import DRIVERS, brought_up, make_environment

from tests.cluster.slurm_cluster import Shape, SlurmCluster

DRIVER_OF = {
    "NexaCompute": "nexa_driver.py",
    "submitit": "submitit_driver.py",
    "torchx": "torchx_driver.py",
    "NeMo-Run": "nemo_driver.py",
}
RIGHT = ("intact", "refused")
_WAIT_S = 600.0


def main() -> int:
    """Send, judge, print and write; return 1 when a text breaks one of ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", nargs="*", default=list(DRIVER_OF), choices=list(DRIVER_OF))
    parser.add_argument("--keep", type=Path, help="leave everything the tools wrote in this folder")
    arguments = parser.parse_args()
    tables: dict[str, dict[str, dict[str, str]]] = {}
    with tempfile.TemporaryDirectory(prefix="nxh-") as folder, brought_up(Shape(nodes=2, cpus=3, gpus=1)) as cluster:
        root = arguments.keep or Path(folder)
        for tool in arguments.tools:
            python = Path(sys.executable) if tool == "NexaCompute" else install_peer(tool)
            if python is not None:
                tables[tool] = run_tool(tool, python, root=root / tool, cluster=cluster)
                print_tool(tool, tables[tool])
    broken = {tool: count_broken(table) for tool, table in tables.items()}
    sent = {tool: sum(map(len, table.values())) for tool, table in tables.items()}
    for tool in tables:
        print(f"{tool}: {broken[tool]} of {sent[tool]} break")
    write_figures("hostile_strings", {"texts": len(STRINGS), "broken": broken, "sent": sent, "tables": tables})
    return 1 if broken.get("NexaCompute") else 0


def run_tool(tool: str, python: Path, *, root: Path, cluster: SlurmCluster) -> dict[str, dict[str, str]]:
    """Return what became of every text, by channel and text."""
    seen = root / "seen"
    seen.mkdir(parents=True)
    cases = make_cases(OURS if tool == "NexaCompute" else COMMON, seen)
    write_cases(cases, root / "cases.json")
    work = root / "work"
    work.mkdir()
    environment = make_environment(cluster, NEXA_STATE_DIR=str(root / "state"), HOME=str(root))
    command = [str(python), str(DRIVERS / DRIVER_OF[tool]), "cases", str(root / "cases.json"), str(work)]
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)
    (work / "driver.out").write_text(done.stdout + done.stderr)
    answers = read_answers(done.stdout)
    if len(answers) != len(cases):
        sys.exit(f"{tool}: {len(answers)} of {len(cases)} answers: {done.stderr[-2000:]}")
    await_jobs(cluster)
    table: dict[str, dict[str, str]] = {}
    for case in cases:
        outcome = judge(case, answers[case.number], work)
        table.setdefault(case.channel, {})[case.label] = outcome
    return table


def read_answers(text: str) -> dict[int, str | None]:
    """Return what a driver said of each case: why it was refused; None when it was submitted."""
    answers: dict[int, str | None] = {}
    for line in text.splitlines():
        try:
            found = json.loads(line)
            answers[found["number"]] = found["refused"]
        except (ValueError, LookupError, TypeError):
            continue  # tools print what they like
    return answers


def await_jobs(cluster: SlurmCluster) -> None:
    """Return when no job runs or waits any more; those that cannot start are ended."""
    deadline_s = time.monotonic() + _WAIT_S
    while True:
        listed = cluster.run("squeue", "-h", "-o", "%i|%T|%r").splitlines()
        if not listed:
            return
        for line in listed:
            job_id, state, reason = line.split("|", 2)
            cannot = (
                "BadConstraints",
                "Licenses",
                "InvalidAccount",
                "InvalidQOS",
                "PartitionConfig",
                "ReqNodeNotAvail",
            )
            if state == "PENDING" and reason.startswith(cannot):
                cluster.run("scancel", job_id, check=False)
        if time.monotonic() > deadline_s:
            print(f"ended after {_WAIT_S:.0f} s: {len(listed)} jobs")
            cluster.run("scancel", *[line.partition("|")[0] for line in listed], check=False)
            deadline_s = time.monotonic() + 60.0
        time.sleep(0.5)


def judge(case: Case, refused: str | None, work: Path) -> str:
    """Return in one word what became of a text."""
    if Path(case.canary).exists():
        return "EXECUTED"
    out = Path(case.out)
    if refused is not None:
        is_clear = not out.exists() and "Traceback" not in refused and "internal error" not in refused
        return "refused" if is_clear else "CRASHED"
    if case.channel == "secret" and case.value and find_leak(case.value, work):
        return "LEAKED"
    if not out.exists():
        return "LOST"
    found = json.loads(out.read_text())
    if case.channel in IN_THE_JOB and find_arrived(case, found) != case.value:
        return "ALTERED"
    return "intact"


def find_arrived(case: Case, found: Mapping[str, Any]) -> str | None:
    """Return the text that the job got on the case's channel."""
    match case.channel:
        case "environment" | "secret":
            return None if found["environment"] is None else _text(found["environment"])
        case "argument":
            words = [_text(word) for word in found["arguments"]]
            return words[0] if len(words) == 1 else json.dumps(words)
        case "tag":
            value = found["config"]["tags"].get("label")
        case "description":
            value = found["config"]["description"]
        case _:
            value = found["config"]["params"].get("value")
    return value if isinstance(value, str) else repr(value)


def find_leak(secret: str, work: Path) -> Path | None:
    """Return a file below a folder that holds a secret: the first line of it is enough."""
    mark = secret.partition("\n")[0].partition("'")[0].encode()[:200]
    return next((path for path in work.rglob("*") if path.is_file() and mark in path.read_bytes()), None)


def count_broken(table: Mapping[str, Mapping[str, str]]) -> int:
    """Return how many texts broke something."""
    return sum(outcome not in RIGHT for outcomes in table.values() for outcome in outcomes.values())


def print_tool(tool: str, table: Mapping[str, Mapping[str, str]]) -> None:
    """Print what became of the texts on each channel, and each text that broke something."""
    print(f"\n{tool}")
    for channel, outcomes in table.items():
        counts = Counter(outcomes.values())
        print(f"  {channel:20} " + ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))
        for outcome in sorted(set(counts) - set(RIGHT)):
            print(f"    {outcome}: {', '.join(list_labels(outcomes, outcome))}")


def list_labels(outcomes: Mapping[str, str], outcome: str) -> Sequence[str]:
    """Return the texts that came to one end."""
    return [label for label, found in outcomes.items() if found == outcome]


def _text(hexadecimal: str) -> str:
    return bytes.fromhex(hexadecimal).decode(errors="surrogateescape")


if __name__ == "__main__":
    sys.exit(main())
