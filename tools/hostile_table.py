"""The tables of `docs/hostile-strings.md`, from what `benchmarks/hostile_strings.py` wrote."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

from hostile_cases import COMMON, STRINGS

Table = Mapping[str, Mapping[str, str]]
"""What became of a text, by channel and text."""
_RIGHT = ("intact", "refused")
_ENDS = {
    "intact": "arrived",
    "refused": "refused",
    "ALTERED": "altered",
    "EXECUTED": "run as a command",
    "LEAKED": "leaked",
    "LOST": "job lost",
    "CRASHED": "crashed",
}
_LONGEST = 40


def render_hostile(figures: Mapping[str, Any]) -> str:
    """Return what became of the texts: counted for each tool, then for each text where it broke something."""
    tables: Mapping[str, Table] = figures["tables"]
    machine = figures["hardware"]
    return "\n".join(
        [
            f"Measured on {figures['measured_on']} on {machine['cpu']}, {machine['cores']} cores.",
            "",
            *_render_counts(tables),
            "",
            "Of the ways that all four have (environment, secret, argument, job name, partition, comment), where each",
            "text broke something:",
            "",
            *_render_texts(tables),
            "",
            "Ours also has these ways, on which nothing broke or what stands here did:",
            "",
            *_render_ours(tables.get("NexaCompute", {})),
            "",
        ]
    )


def _render_counts(tables: Mapping[str, Table]) -> list[str]:
    ends = [end for end in _ENDS if any(end in row.values() for table in tables.values() for row in table.values())]
    lines = [
        f"| | sent | {' | '.join(_ENDS[end] for end in ends)} | broke |",
        f"| --- | --- | {' | '.join('---' for _ in ends)} | --- |",
    ]
    for tool, table in tables.items():
        counts = Counter(end for row in table.values() for end in row.values())
        broken = sum(count for end, count in counts.items() if end not in _RIGHT)
        cells = " | ".join(str(counts[end]) for end in ends)
        lines.append(f"| {tool} | {counts.total()} | {cells} | {broken} |")
    return lines


def _render_texts(tables: Mapping[str, Table]) -> list[str]:
    lines = [f"| text | as | {' | '.join(tables)} |", f"| --- | --- | {' | '.join('---' for _ in tables)} |"]
    for label, text in STRINGS.items():
        cells = [_tell(tables[tool], label) for tool in tables]
        lines.append(f"| {label} | {_show(text)} | {' | '.join(cells)} |")
    return lines


def _tell(table: Table, label: str) -> str:
    found: dict[str, list[str]] = {}
    for channel in COMMON:
        end = table[channel][label]
        if end not in _RIGHT:
            found.setdefault(_ENDS[end], []).append(channel)
    return "; ".join(f"{end}: {', '.join(channels)}" for end, channels in found.items()) or "–"


def _render_ours(table: Table) -> list[str]:
    lines = ["| way | arrived or kept | refused | broke |", "| --- | --- | --- | --- |"]
    for channel, row in table.items():
        if channel not in COMMON:
            counts = Counter(row.values())
            broken = sum(count for end, count in counts.items() if end not in _RIGHT)
            lines.append(f"| {channel} | {counts['intact']} | {counts['refused']} | {broken} |")
    return lines


def _show(text: str) -> str:
    if not text:
        return "nothing"
    shown = repr(text)[1:-1] if len(text) <= _LONGEST else f"{text[:8]}…"
    return f"`` {shown.replace('|', chr(92) + '|')} ``"
