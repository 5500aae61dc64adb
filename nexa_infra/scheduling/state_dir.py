"""The folder of this user's local queue on this machine: the queue, the supervisor's lock and its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StateDir:
    """Where the local backend keeps what is no project's own; all projects of a user share it."""

    path: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], *, hostname: str) -> StateDir:
        """Return $NEXA_STATE_DIR, else $XDG_STATE_HOME/nexa, else ~/.local/state/nexa; in it, this machine's folder.

        A home folder may be shared by many machines, and each can only watch its own processes.

        Raises:
            ConfigError: none of the three variables is set.
        Source: https://specifications.freedesktop.org/basedir-spec/latest/ (relative paths there are invalid).
        """
        given = environment.get(env.STATE_DIR)
        shared = environment.get("XDG_STATE_HOME", "")
        if given:
            root = Path(given).absolute()
        elif shared.startswith("/"):
            root = Path(shared) / "nexa"
        elif environment.get("HOME"):
            root = Path(environment["HOME"]) / ".local" / "state" / "nexa"
        else:
            raise ConfigError(f"environment: no place for the local queue; set {env.STATE_DIR} to a folder")
        return cls(root / (hostname.partition(".")[0] or "localhost"))

    @property
    def queue(self) -> Path:
        """The database of jobs."""
        return self.path / "queue.sqlite3"

    @property
    def lock(self) -> Path:
        """Locked by the supervisor while it lives."""
        return self.path / "supervisor.lock"

    @property
    def launch_lock(self) -> Path:
        """Locked by whoever starts or replaces the supervisor."""
        return self.path / "launch.lock"

    @property
    def ends(self) -> Path:
        """Records of attempts that their run's folder cannot take yet, and the room for them."""
        return self.path / "ends"

    @property
    def log(self) -> Path:
        """What the supervisor and the job entries say of themselves."""
        return self.path / "supervisor.log"
