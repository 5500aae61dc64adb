"""A run or a sweep watched as it goes: a table that redraws on a terminal, lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from nexa_cli.output import note, printable
from nexa_contracts.states import JobState
from nexa_contracts.units import format_duration, format_usd
from nexa_infra.operations.live import live_states
from nexa_infra.operations.status import RunView, SubmissionView, Watcher

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nexa_infra.storage.layout import Project

_REDRAW_S = 0.5
_LOST_S = 10.0
"""How long a run that no backend knows is waited for."""
_WIDE = 100
"""Columns of a terminal from which there is room for a bar."""
_LINE_EVERY_S = 10.0
_ROWS = 16
_ORDER = {JobState.RUNNING: 0, JobState.PREEMPTED: 1, JobState.UNKNOWN: 2, JobState.PENDING: 4}
_STYLES = {
    JobState.RUNNING: "cyan",
    JobState.SUCCEEDED: "green",
    JobState.PENDING: "dim",
    JobState.UNKNOWN: "yellow",
    JobState.PREEMPTED: "yellow",
}


def watch_submission(
    project: Project, submission: str, run_ids: Sequence[str], *, quiet: bool = False
) -> SubmissionView:
    """Return the last view of a run or a sweep, after drawing it until every run has ended."""
    watcher = Watcher(project, submission, run_ids, live_states())
    looks = _looks(watcher, _REDRAW_S)
    if quiet:
        return _last(looks)
    return _draw(looks) if sys.stdout.isatty() else _print_lines(looks)


def _looks(watcher: Watcher, pause_s: float) -> Iterator[SubmissionView]:
    view = watcher.look()
    yield view
    lost_s = 0.0
    while not view.is_final and lost_s < _LOST_S:
        time.sleep(pause_s)
        view = watcher.look()
        # A run that nobody knows will not end; it may only be on its way into the queue.
        is_lost = all(run.state.is_final or run.state is JobState.UNKNOWN for run in view.runs)
        lost_s = lost_s + pause_s if is_lost and view.trouble is None else 0.0
        yield view


def _last(looks: Iterator[SubmissionView]) -> SubmissionView:
    # Nothing is said of how it goes, except why it does not.
    view = next(looks)
    said: set[str] = set()
    for view in looks:
        stuck = [f"{run.run_id}: {run.reason}" for run in view.runs if run.reason and run.state is JobState.RUNNING]
        for line in (*stuck, *filter(None, [view.trouble])):
            if line not in said:
                said.add(line)
                note(f"waiting: {printable(line)}")
    return view


def _draw(looks: Iterator[SubmissionView]) -> SubmissionView:
    from rich.live import Live

    started = time.monotonic()
    view = next(looks)
    with Live(render_live(view, 0.0), refresh_per_second=4, transient=False) as live:
        for view in looks:
            live.update(render_live(view, time.monotonic() - started))
        live.update(render_live(view, time.monotonic() - started))
    return view


def _print_lines(looks: Iterator[SubmissionView]) -> SubmissionView:
    states: dict[str, tuple[JobState, str | None]] = {}
    said = time.monotonic()
    view = next(looks)
    trouble: str | None = None
    _say_changes(view, states)
    for view in looks:
        if view.trouble is not None and view.trouble != trouble:
            click.echo(f"waiting: {printable(view.trouble)}")
        trouble = view.trouble
        changed = trouble is None and _say_changes(view, states)
        if changed or time.monotonic() - said >= _LINE_EVERY_S:
            said = time.monotonic()
            for run in view.runs:
                if run.state is JobState.RUNNING and run.progress.step is not None:
                    click.echo(f"{run.run_id}  {_progress_line(run)}")
    return view


def _say_changes(view: SubmissionView, states: dict[str, tuple[JobState, str | None]]) -> bool:
    changed = False
    for run in view.runs:
        why = run.failure or run.reason
        if states.get(run.run_id) != (run.state, why):
            states[run.run_id] = (run.state, why)
            changed = True
            attempt = f"  attempt {run.attempt}" if run.attempt is not None and run.attempt > 1 else ""
            click.echo(f"{run.run_id}  {run.label}{attempt}" + (f"  {printable(why)}" if why else ""))
    return changed


def _progress_line(run: RunView) -> str:
    progress = run.progress
    parts = [
        _steps(run),
        None if progress.loss is None else f"loss {progress.loss:.4f}",
        None if progress.tokens_per_s is None else f"{progress.tokens_per_s:,.0f} tokens/s",
        None if progress.seconds_left is None else f"{format_duration(progress.seconds_left)} left",
        None if run.cost is None else format_usd(run.cost),
    ]
    return ", ".join(part for part in parts if part)


def render_live(view: SubmissionView, elapsed_s: float) -> RenderableType:
    """Return what a terminal shows of a run or a sweep while it goes on."""
    from rich.console import Group
    from rich.text import Text

    shown, hidden = _choose_rows(view.runs)
    parts: list[RenderableType] = [_table(shown)]
    if hidden:
        parts.append(Text(f"… and {hidden} more", style="dim"))
    counts = ", ".join(f"{number} {state.lower()}" for state, number in view.counts.items())
    parts.append(Text(f"{view.submission}: {counts}; {format_duration(elapsed_s)}; cost so far {_cost(view)}"))
    troubles = [f"{run.run_id}: {run.reason}" for run in shown if run.reason and run.state is JobState.RUNNING]
    parts += [Text(printable(line), style="yellow") for line in (*troubles, *filter(None, [view.trouble]))]
    return Group(*parts)


def _table(runs: Sequence[RunView]) -> RenderableType:
    from rich import box
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    keys = list(dict.fromkeys(key for run in runs for key in run.point))
    is_wide = shutil.get_terminal_size().columns >= _WIDE
    for column in ("#" if runs[0].index is not None else "run", "state", *(key.rsplit(".", 1)[-1] for key in keys)):
        table.add_column(Text(column), no_wrap=True)
    if is_wide:
        table.add_column("", no_wrap=True)
    for column in ("step", "loss", "eval", "tokens/s", "left", "cost"):
        table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    for run in runs:
        progress = run.progress
        is_done = run.state is JobState.SUCCEEDED
        evaluated = run.metrics.get("eval_loss", progress.eval_loss)
        speed = run.metrics.get("tokens_per_s", progress.tokens_per_s)
        total = progress.max_steps or 1
        bar = [ProgressBar(total=total, completed=total if is_done else progress.step or 0, width=16)]
        table.add_row(
            str(run.index) if run.index is not None else run.run_id,
            Text(run.label, style=_STYLES.get(run.state, "red")),
            *(Text(_value(run.point.get(key))) for key in keys),
            *(bar if is_wide else []),
            _steps(run) or "-",
            "-" if progress.loss is None else f"{progress.loss:.3f}",
            "-" if evaluated is None else f"{evaluated:.3f}",
            "-" if speed is None else f"{speed:,.0f}",
            "-" if run.state.is_final else format_duration(progress.seconds_left),
            "-" if run.state is JobState.PENDING else format_usd(run.cost),
        )
    return table


def _choose_rows(runs: Sequence[RunView]) -> tuple[list[RunView], int]:
    if len(runs) <= _ROWS:
        return list(runs), 0
    ranked = sorted(runs, key=lambda run: (_ORDER.get(run.state, 3), run.index or 0))[:_ROWS]
    return sorted(ranked, key=lambda run: run.index or 0), len(runs) - _ROWS


def _steps(run: RunView) -> str | None:
    step, total = run.progress.step, run.progress.max_steps
    if step is None:
        return None
    return f"{step}/{total}" if total is not None else str(step)


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _cost(view: SubmissionView) -> str:
    if view.unknown_costs == len(view.runs):
        return "unknown"
    known = format_usd(view.known_cost)
    return known if not view.unknown_costs else f"{known} and {view.unknown_costs} unknown"
