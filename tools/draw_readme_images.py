"""Draw the README's pictures from a sweep that was run: `python tools/draw_readme_images.py [SWEEP]`.

The live table is drawn as it stood at a moment of the sweep, by the code that draws it on a terminal, from the times
in the run's own files; under it stands what `nexa leaderboard` prints. The curves are the picture the sweep wrote.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from nexa_cli.live import render_live
from nexa_cli.naming import find_sweep
from nexa_contracts.run import AttemptRecord
from nexa_contracts.states import JobState
from nexa_contracts.units import format_duration
from nexa_infra.operations.context import Context, open_context
from nexa_infra.operations.live import member_ids
from nexa_infra.operations.progress import Progress, read_object
from nexa_infra.operations.status import LiveState, RunView, SubmissionView, render_view
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Project
from nexa_infra.storage.manifests import read_attempts, read_run_manifest
from nexa_infra.storage.metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 112
TIMEOUT_S = 120.0
_FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_WEB_FONT = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def main(arguments: Sequence[str]) -> None:
    """Write sweep.svg and curves.png."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sweep", nargs="?", default="last")
    parser.add_argument("--project", type=Path, default=Path.cwd(), help="where the sweep was run")
    parser.add_argument("--moment", type=float, default=0.55, help="which part of the sweep's time has passed")
    parser.add_argument("--folder", type=Path, default=ROOT / "docs" / "images")
    options = parser.parse_args(arguments)
    context = open_context(options.project)
    sweep_id = find_sweep(context.project, options.sweep)
    options.folder.mkdir(parents=True, exist_ok=True)
    picture = draw_sweep(context, sweep_id, moment=options.moment)
    (options.folder / "sweep.svg").write_text(picture, encoding="utf-8")
    curves = context.tiers.reports / f"curves_{sweep_id}.png"
    shutil.copyfile(curves, options.folder / "curves.png")
    sys.stdout.write(f"written to {options.folder}\n")


def draw_sweep(context: Context, sweep_id: str, *, moment: float) -> str:
    """Return the SVG: the command, the live table at that moment, and the leaderboard of the end."""
    project = context.project
    run_ids = member_ids(project, sweep_id)
    attempts = {run_id: read_attempts(project, run_id) for run_id in run_ids}
    launched = read_run_manifest(project, run_ids[0]).created_at
    ended = max(attempt.ended_at for records in attempts.values() for attempt in records)
    now = launched + moment * (ended - launched)
    runs = tuple(view_at(project, run_id, attempts[run_id], now) for run_id in run_ids)
    console = Console(record=True, width=WIDTH, force_terminal=True, file=io.StringIO())
    source = read_run_manifest(project, run_ids[0]).config_source
    console.print(Text(f"$ nexa sweep {source}", style="bold"))
    os.environ["COLUMNS"] = str(WIDTH)  # the table asks the terminal how wide it is
    console.print(render_live(SubmissionView(sweep_id, runs), (now - launched).total_seconds()))
    console.print(Text(f"\n… and at the end, {format_duration((ended - now).total_seconds())} later:\n", style="dim"))
    argv = [sys.executable, "-m", "nexa_cli.main", "leaderboard", sweep_id, "--no-write"]
    board = SystemRunner().run(argv, timeout_s=TIMEOUT_S, cwd=project.root).require_success().stdout
    console.print(Text(board.rstrip()))
    svg = console.export_svg(title="nexa")
    # A picture in a README may load nothing, so it is drawn with what the reader's machine has.
    return _WEB_FONT.sub("", svg).replace("Fira Code, monospace", _FONTS)


def view_at(project: Project, run_id: str, attempts: Sequence[AttemptRecord], now: datetime) -> RunView:
    """Return the view of a run that was tried once, as it was at a moment."""
    manifest = read_object(project.manifest(run_id))
    attempt = attempts[-1]
    records = [line for line in read_metrics(project.metrics(run_id)) if datetime.fromisoformat(line["time"]) <= now]
    if attempt.started_at > now:
        waiting = LiveState(state=JobState.PENDING)
        return render_view(run_id, manifest, {}, live=waiting, progress=Progress())
    losses = [line for line in records if "loss" in line]
    last = losses[-1] if losses else {}
    total = int(manifest["config"]["training"]["max_steps"])
    progress = Progress(
        step=last.get("step"),
        max_steps=total,
        loss=last.get("loss"),
        tokens_per_s=last.get("tokens_per_s"),
        seconds_left=seconds_left(losses, total),
    )
    if attempt.ended_at <= now:
        outcome = read_object(project.outcome(run_id))
        return render_view(run_id, manifest, outcome, live=None, progress=progress)
    running = LiveState(state=JobState.RUNNING, attempt=1, seconds=(now - attempt.started_at).total_seconds())
    return render_view(run_id, manifest, {}, live=running, progress=progress)


def seconds_left(losses: Sequence[dict[str, Any]], total: int) -> float | None:
    """Return the time left at the pace between the first and the last line."""
    if len(losses) < 2:
        return None
    first, last = losses[0], losses[-1]
    elapsed_s = (datetime.fromisoformat(last["time"]) - datetime.fromisoformat(first["time"])).total_seconds()
    return float(elapsed_s / (last["step"] - first["step"]) * (total - last["step"]))


if __name__ == "__main__":
    main(sys.argv[1:])
