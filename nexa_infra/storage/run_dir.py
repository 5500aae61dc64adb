"""Where everything lies in a run's own folder; the rest of the spelling of paths is in `layout`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RunDir:
    """`runs/<run_id>`: what one run asked for, did and said."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved RunConfig."""
        return self.path / "config.json"

    @property
    def point(self) -> Path:
        """What a study gave the run, if it is a trial of one; the config has it too."""
        return self.path / "point.json"

    @property
    def metrics(self) -> Path:
        """The metrics, one JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def events(self) -> Path:
        """Where the time of its attempts went, one JSON object a line."""
        return self.path / "events.jsonl"

    @property
    def heartbeat(self) -> Path:
        """The last sign of life of the program in the job."""
        return self.path / "heartbeat.json"

    @property
    def attempts(self) -> Path:
        """The folder of the attempts' records."""
        return self.path / "attempts"

    def attempt(self, number: int) -> Path:
        """Return the AttemptRecord of an attempt, from 1."""
        return self.attempts / f"{number}.json"

    def result(self, number: int) -> Path:
        """Return the WorkResult of an attempt, from 1."""
        return self.attempts / f"{number}.result.json"

    @property
    def owner(self) -> Path:
        """Which job of a cluster runs this run; any other one leaves it alone."""
        return self.path / "owner.json"

    @property
    def cancel(self) -> Path:
        """Somebody's wish that this run ends, for a job that runs others too and cannot be ended for it."""
        return self.path / "cancel.json"

    @property
    def fence(self) -> Path:
        """Which attempt may write now, where an earlier one may still live."""
        return self.path / "fence.json"

    def start(self, number: int) -> Path:
        """Return the file by which one process alone took an attempt, from 1, and said when and where it began."""
        return self.attempts / f"{number}.start.json"

    def ranks(self, number: int) -> Path:
        """Return the file with a line for each time that the training processes of an attempt, from 1, were started."""
        return self.attempts / f"{number}.ranks.jsonl"

    def crash(self, number: int, *, node: int, restart: int) -> Path:
        """Return the note of the first crash on a node of an attempt, from 1, after so many restarts there."""
        return self.attempts / f"{number}.crash-{node}-{restart}.json"

    def meeting(self, number: int) -> Path:
        """Return the folder in which the nodes of an attempt, from 1, meet before its processes start."""
        return self.attempts / f"{number}.meeting"

    def leaving(self, number: int) -> Path:
        """Return the file that says why an attempt, from 1, was told to leave, if it cannot say so any more."""
        return self.attempts / f"{number}.leaving.json"

    def log(self, number: int) -> Path:
        """Return the log of an attempt that ended, from 1."""
        return self.path / "logs" / f"attempt-{number}.log"
