"""Write the tables of figures, the README's and that of hostile strings, from the files that the benchmarks wrote.

`python tools/render_figures.py` writes them; `--check` changes nothing and exits 1 when one differs. A benchmark
without a file has no row.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hostile_table import render_hostile

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
HOSTILE = ROOT / "docs" / "hostile-strings.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
NOT_RUN = "No benchmark has been run on this checkout: `make bench`.\n"
HEAD = "| what | measured | machine | repeat it |\n| --- | --- | --- | --- |\n"

Figures = dict[str, Any]
Rows = Iterator[tuple[str, str]]


def main(arguments: Sequence[str]) -> int:
    """Return the exit status: 0, or 1 when `--check` finds that the table differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, say whether the tables are up to date")
    check = parser.parse_args(arguments).check
    status = 0
    for page, table in ((README, render_table(RESULTS)), (HOSTILE, _render_hostile_page())):
        name = page.relative_to(ROOT)
        before = page.read_text(encoding="utf-8")
        after = insert_table(before, table)
        if before == after:
            continue
        if check:
            sys.stdout.write(
                f"{name}: the figures differ from benchmarks/results; run: python tools/render_figures.py\n"
            )
            status = 1
            continue
        page.write_text(after, encoding="utf-8")
        sys.stdout.write(f"{name}: figures written\n")
    return status


def insert_table(page: str, table: str) -> str:
    """Return the page with the table between the marks.

    Raises:
        ValueError: the page does not hold both marks, in order.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"found no {BEGIN} with {END} after it")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def render_table(results: Path) -> str:
    """Return the table of every benchmark that has a file; a line that says so when none has."""
    rows = [row for name in _ROWS for row in _read_rows(results / f"{name}.json")]
    return HEAD + "".join(rows) if rows else NOT_RUN


def _render_hostile_page() -> str:
    path = RESULTS / "hostile_strings.json"
    return render_hostile(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else NOT_RUN


def _read_rows(path: Path) -> Iterator[str]:
    if not path.exists():
        return
    figures: Figures = json.loads(path.read_text(encoding="utf-8"))
    machine = figures.get("hardware", {})
    where = f"{machine.get('cpu', 'unknown processor')}, {machine.get('cores', '?')} cores"
    day = figures.get("measured_on")
    where = f"{where}, {day}" if day else where
    for what, measured in _ROWS[path.stem](figures):
        yield f"| {what} | {measured} | {where} | `make bench-{path.stem}` |\n"


def _startup(figures: Figures) -> Rows:
    rows: dict[str, Any] = figures["cpu_seconds_of_help"]
    ours = rows["nexa"]["cpu_s_median"]
    others = ", ".join(
        f"{name} {row['cpu_s_median']:.2f} s ({row['times_ours']:.1f} ×)"
        for name, row in rows.items()
        if name != "nexa"
    )
    yield "processor time of `nexa --help`", f"{ours:.2f} s; {others}" if others else f"{ours:.2f} s"


def _index(figures: Figures) -> Rows:
    runs = figures["runs"]
    yield (
        f"`nexa runs` over {runs:,} runs, newest 50, processor time",
        f"{figures['warm_newest_50_cpu_s']:.2f} s; reading every manifest as JSON {figures['peer_scan_cpu_s']:.2f} s",
    )
    yield f"building that index anew from {figures['files']:,} files", f"{figures['cold_build_cpu_s']:.1f} s"


def _promotion(figures: Figures) -> Rows:
    for tree, result in figures["trees"].items():
        medians = dict(result["median_s"])
        ours = medians.pop("promote_folder")
        others = ", ".join(
            f"{name} {seconds:.2f} s ({result['our_speed_times_theirs'][name]:.2f} ×)"
            for name, seconds in medians.items()
        )
        yield f"promoting {tree}, digests, flushes and verification included", f"{ours:.2f} s; {others}"


def _training(figures: Figures) -> Rows:
    start = figures["start_to_first_step"]["processor_s"]
    yield "processor time until the first step", f"{start['ours']:.2f} s; bare Trainer {start['bare']:.2f} s"
    step = figures["callbacks_per_step"]
    each = step["processor_ms_a_step"]
    yield (
        "processor time of a training step",
        f"{each['ours']:.1f} ms, of which {step['within_our_hooks_ms_a_step']:.2f} ms ours; "
        f"bare Trainer {each['bare']:.1f} ms ({each['ratio']:.3f} ×)",
    )
    stall = figures["promotion_stall"]
    seconds = stall["seconds"]
    yield (
        f"a training stands still to promote a checkpoint of {stall['size_mib']} MiB",
        f"{seconds['handed over'] * 1000:.1f} ms, and is slower by {seconds['lost beside the promoter'] * 1000:.0f} ms "
        f"in all while it is promoted; copying it there and then {seconds['copied in place'] * 1000:.0f} ms",
    )


def _memory(figures: Figures) -> Rows:
    yield (
        f"memory while a sweep of {figures['trials']:,} trials runs",
        f"submitting {figures['launcher_peak_mib']:.0f} MiB, supervisor {figures['supervisor_peak_mib']:.0f} MiB",
    )
    yield (
        f"{figures['trials']:,} trials that do nothing",
        f"submitted in {figures['submit_s']:.1f} s, all ended after {figures['all_ended_s']:.0f} s",
    )


def _expansion(figures: Figures) -> Rows:
    points = f"{figures['points']:,}"
    for search, what in (("grid", f"a grid of {points} points"), ("random", f"{points} random points of four axes")):
        used = {name: row["cpu_s_median"] for name, row in figures[search].items() if name != "nexa --dry-run"}
        ours = used.pop("nexa")
        others = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in used.items())
        yield f"expanding {what}, processor time", f"{ours:.2f} s; {others}"
        dry = figures[search]["nexa --dry-run"]
        yield f"dry run of {what}, each one judged", f"{dry['cpu_s_median']:.1f} s, {dry['peak_mib']:.0f} MiB"


def _kills(figures: Figures) -> Rows:
    killed, broken = figures["killed"], len(figures["broken_promises"])
    yield (
        f"processes of a run killed at random moments ({', '.join(killed)})",
        f"{sum(killed.values())} killed in {figures['rounds']} rounds; promises broken: {broken}",
    )


def _submission(figures: Figures) -> Rows:
    ways = dict(figures["ways"])
    bare, ours, call = ways.pop("sbatch --array"), ways.pop("nexa sweep"), ways.pop("launch_slurm_sweep")
    others = ", ".join(
        f"{name} {row['wall_s_per_1000_rows']:.2f} s" + ("" if row["rows"] == ours["rows"] else f" (of {row['rows']})")
        for name, row in ways.items()
    )
    yield (
        f"a sweep of {ours['rows']:,} rows submitted to Slurm, from the command's start to Slurm's answer",
        f"{ours['wall_s_median']:.2f} s; a bare sbatch of the array {bare['wall_s_median']:.3f} s, {others}",
    )
    yield (
        "the same called from Python, without the start of the process",
        f"{call['call_s_median']:.2f} s; submitit map_array {ways['submitit map_array']['call_s_median']:.2f} s",
    )


def _status(figures: Figures) -> Rows:
    told = ", ".join(
        f"{name} {figures[name]['wall_s_median']:.2f} s" for name in ("all waiting", "half ended", "all ended")
    )
    asked = max(sum(figures[name]["asked"].values()) for name in ("all waiting", "half ended", "all ended"))
    yield f"`nexa status` of a sweep of {figures['rows']:,} rows on Slurm", f"{told}; questions to Slurm: {asked}"


def _hostile(figures: Figures) -> Rows:
    told = ", ".join(f"{tool} {broken} of {figures['sent'][tool]}" for tool, broken in figures["broken"].items())
    yield "texts that break something on their way to a job on Slurm (docs/hostile-strings.md)", told


def _slurm_faults(figures: Figures) -> Rows:
    sweep, training = figures["sweep"], figures["training"]
    yield (
        "a sweep on a Slurm that fails all the time (programs and nodes killed, preempted, out of time, "
        "slurmctld restarted and killed, scratch full)",
        f"{sweep['rows']} rows, {sum(sweep['strikes']['counts'].values())} faults, "
        f"{sum(sweep['attempts'].values())} attempts; goodput {sweep['of_the_bound']:.2f} of its bound; "
        f"promises broken: {_broken(figures, 'sweep')}",
    )
    yield (
        "a training on two nodes of it, weights compared bit by bit with an undisturbed one",
        f"{sum(training['strikes']['counts'].values())} faults; at most {training['most_lost']} steps lost at one; "
        f"goodput {training['of_the_bound']:.2f} of its bound; promises broken: {_broken(figures, 'training')}",
    )


def _broken(figures: Figures, part: str) -> int:
    return sum(line.startswith(f"{part}: ") for line in figures["broken_promises"])


_ROWS: dict[str, Callable[[Figures], Rows]] = {
    "cli_startup": _startup,
    "index_speed": _index,
    "promotion": _promotion,
    "training_overhead": _training,
    "sweep_expansion": _expansion,
    "launcher_memory": _memory,
    "kill_campaign": _kills,
    "slurm_submission": _submission,
    "slurm_status": _status,
    "slurm_faults": _slurm_faults,
    "hostile_strings": _hostile,
}
"""How the figures of each benchmark are told, by the name of its file; in the order of the table."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
