"""The fence of an attempt: where another one may have started meanwhile, the older one must not write any more.

A node that a scheduler thought dead may live on, and with it a training that is paused, cut off or only slow. Its
successor raises the fence before it starts; whoever belongs to an attempt looks at the fence before it writes what the
successor will read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, StorageError
from nexa_infra.storage.atomic import rename_exclusively
from nexa_infra.storage.run_dir import RunDir


class Fenced(StorageError):
    """A later attempt of the same run has started: this one may write nothing any more."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The right of one attempt to write."""

    run_dir: RunDir
    attempt: int
    token: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Fence | None:
        """Return the fence that a job's program was told of; None where no other attempt can start meanwhile.

        Raises:
            ConfigError: the variable is not what a job entry writes.
        """
        text = environment.get(env.FENCE, "")
        if not text:
            return None
        token, separator, folder = text.partition(":")
        number = environment.get(env.ATTEMPT, "")
        if not (token and separator and folder and number.isdecimal()):
            raise ConfigError(f"environment: {env.FENCE}: found {text!r}; allowed: <token>:<folder of the run>")
        return cls(RunDir(Path(folder)), int(number), token)

    def tell(self) -> dict[str, str]:
        """Return the variable by which the programs of the attempt know of it."""
        return {env.FENCE: f"{self.token}:{self.run_dir.path}"}

    def check(self) -> None:
        """Return if this attempt may still write.

        The file is opened, because a network file system looks at the server then and may not for a mere question
        whether a name is there.

        Raises:
            Fenced: a later attempt has started.
            StorageError: the run's folder cannot be read, so nobody knows.
        Source: https://man7.org/linux/man-pages/man5/nfs.5.html (close-to-open cache consistency).
        """
        path = self.run_dir.fence
        try:
            found = json.loads(path.read_bytes())
            attempt, token = int(found["attempt"]), found["token"]
        except OSError as error:
            raise StorageError(
                f"{path}: cannot be read: {error.strerror}", hint="is the run's folder there?"
            ) from error
        except (ValueError, LookupError, TypeError) as error:
            raise StorageError(f"{path}: damaged: {error}") from error
        # An older number was written by a zombie, and takes no right away.
        if attempt > self.attempt or (attempt == self.attempt and token != self.token):
            raise self._explain(attempt)
        if self.run_dir.start(self.attempt + 1).exists():
            raise self._explain(self.attempt + 1)

    def _explain(self, later: int) -> Fenced:
        return Fenced(
            f"{self.run_dir.fence}: attempt {later} has the run now; attempt {self.attempt} writes nothing any more",
            hint="its node was thought dead; nothing needs to be done",
        )


def publish_folder(folder: Path, target: Path, fence: Fence | None) -> None:
    """Let a finished folder appear under its name, in the place of one that was there and is of no use.

    An attempt saves where no other one writes, so that a process that slept while it saved meets nothing of its
    successor's when it wakes up. Should it sleep in the moment between the look at the fence and the renaming, a whole
    folder takes the place of another whole one of the same step.

    Raises:
        Fenced: a later attempt has started.
        StorageError: the folder cannot be renamed.
    """
    if fence is not None:
        fence.check()
    from nexa_infra.storage.artifacts import discard_folder  # pydantic: most commands do not need it

    discard_folder(target)
    rename_exclusively(folder, target)
