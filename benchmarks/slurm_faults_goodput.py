"""Goodput beside what no scheduler could beat, given how long a save, a restart and noticing a fault took in this run.

Work is done in pieces of t seconds, each followed by a save of s. Faults come independently of each other, one in M
seconds in which steps are made; each costs r seconds until steps are made again (noticing it, waiting for a place,
starting, loading), and what was done since the last save. The expected time of a piece is then

    (exp((t + s) / M) - 1) * (M + r)

and the share that is left is t divided by it, with t, s, r and M all measured in the same run. What comes while nothing
runs belongs to the same interruption. It leaves out the wait for the first place and the first start, which nobody can
spend on steps; so does the goodput that stands beside it.

Source: A. Duda, The effects of checkpointing on program execution time (1983); J. T. Daly, A higher order estimate of
the optimum checkpoint interval for restart dumps (2006), whose model lets faults strike while a restart goes on.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from slurm_faults_promises import Record, read_lines
from slurm_faults_site import FaultSite

from nexa_infra.monitoring.goodput import Goodput
from nexa_infra.monitoring.run_events import START, Bucket
from nexa_infra.operations.goodput import account_run

TARGET = 0.95


@dataclass(frozen=True)
class Step:
    """One step that was made."""

    number: int
    at_s: float
    start: int
    """Which start of the program made it."""


@dataclass(frozen=True)
class Gap:
    """From the last step of one start to the first step of the next one."""

    seconds: float
    lost: int
    """Steps that were made again."""


@dataclass(frozen=True)
class Measured:
    """Seconds over some runs, with what their interruptions took."""

    kept_s: float
    wall_s: float
    interval_s: float
    save_s: float
    interruptions: int
    down_s: float
    """Of one interruption: noticing it and starting again."""
    most_lost: int

    @property
    def goodput(self) -> float:
        return self.kept_s / self.wall_s

    @property
    def bound(self) -> float:
        if not self.interruptions:
            return self.interval_s / (self.interval_s + self.save_s)
        up_s = self.wall_s / self.interruptions - self.down_s
        return self.interval_s / (math.expm1((self.interval_s + self.save_s) / up_s) * (up_s + self.down_s))

    def describe(self) -> dict[str, Any]:
        """Return the figures."""
        seconds = {name: round(value, 4) for name, value in asdict(self).items()}
        shares = {"goodput": self.goodput, "bound": self.bound, "of_the_bound": self.goodput / self.bound}
        return {**seconds, **{name: round(value, 4) for name, value in shares.items()}}


def measure(site: FaultSite, records: Iterable[Record], *, every: int) -> Measured:
    """Return where the time of some runs went, all together; `every` is the steps between two checkpoints."""
    kept_s = wall_s = saving_s = stepping_s = 0.0
    saves = steps = 0
    gaps: list[Gap] = []
    for record in records:
        goodput = account_run(site.project, record.manifest, attempts=record.attempts, outcome=record.outcome)
        made = read_steps(site, record)
        if goodput is None or not made:
            continue
        kept_s += _kept_s(goodput)
        wall_s += record.outcome.ended_at.timestamp() - made[0].at_s
        saves, saving_s = saves + goodput.saves, saving_s + goodput.saving_s
        steps, stepping_s = steps + goodput.steps_made, stepping_s + goodput.stepping_s
        gaps += find_gaps(made)
    step_s = stepping_s / max(1, steps)
    return Measured(
        kept_s=kept_s,
        wall_s=wall_s,
        interval_s=every * step_s,
        save_s=saving_s / max(1, saves),
        interruptions=len(gaps),
        down_s=max(0.0, sum(gap.seconds for gap in gaps) / max(1, len(gaps)) - step_s),
        most_lost=max((gap.lost for gap in gaps), default=0),
    )


def _kept_s(goodput: Goodput) -> float:
    return goodput.seconds[Bucket.COMPUTE] + goodput.seconds[Bucket.DATA]


def read_steps(site: FaultSite, record: Record) -> list[Step]:
    """Return the steps of a run in the order in which they were made."""
    run_dir = site.project.run_dir(record.run_id)
    starts = [_time_s(event) for event in read_lines(run_dir.events) if event["event"] == START]
    if record.manifest.config.command is None:
        made = [(int(line["step"]), _time_s(line)) for line in read_lines(run_dir.metrics) if "loss" in line]
    else:
        lines = [line for line in read_lines(site.evidence / f"{record.run_id}.jsonl") if line["event"] == "step"]
        made = [(int(line["step"]), float(line["at_s"])) for line in lines]
    return [Step(number, at_s, sum(start_s <= at_s for start_s in starts)) for number, at_s in made]


def find_gaps(steps: Sequence[Step]) -> list[Gap]:
    """Return what each interruption cost."""
    return [
        Gap(after.at_s - before.at_s, before.number + 1 - after.number)
        for before, after in itertools.pairwise(steps)
        if after.start != before.start or after.number <= before.number
    ]


def _time_s(line: dict[str, Any]) -> float:
    return datetime.fromisoformat(line["time"]).timestamp()
