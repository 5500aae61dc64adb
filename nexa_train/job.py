"""What a training program is given by the job it runs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, NotFound
from nexa_contracts.run import RunConfig
from nexa_contracts.training import TrainConfig
from nexa_infra.storage.fence import Fence
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.run_dir import RunDir

RANK = "RANK"
WORLD_SIZE = "WORLD_SIZE"


@dataclass(frozen=True, slots=True)
class Job:
    """One attempt of one run, as this process sees it."""

    run_id: str
    attempt: int
    run_dir: RunDir
    tiers: Tiers
    config: RunConfig
    train: TrainConfig
    resume_from: str | None
    rank: int = 0
    world_size: int = 1
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What programs started beside the training inherit."""
    fence: Fence | None = None
    """Of this attempt, where a later one may start while it still lives."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the run's files; with torchrun only the first one does."""
        return self.rank == 0

    @property
    def checkpoints(self) -> Path:
        """The folder of this run's checkpoints on scratch."""
        return self.tiers.checkpoints_temp(self.run_id)

    @property
    def saving(self) -> Path:
        """The folder that is saved into: one that no other attempt writes, where another may be alive."""
        return self.checkpoints if self.fence is None else self.tiers.saving_temp(self.run_id, self.attempt)

    def check_fence(self) -> None:
        """Return if this attempt may still write.

        Raises:
            Fenced: a later attempt has started.
            StorageError: the run's folder cannot be read, so nobody knows.
        """
        if self.fence is not None:
            self.fence.check()


def read_job(environment: Mapping[str, str]) -> Job:
    """Return the job that the environment describes.

    Raises:
        ConfigError: a variable is missing or wrong, or the config does not fit the schema or holds no training.
        NotFound: the config file is not there.
    Source: https://docs.pytorch.org/docs/stable/elastic/run.html (RANK and WORLD_SIZE, set by torchrun).
    """
    run_id, run_dir, config_path = (_required(environment, name) for name in (env.RUN_ID, env.RUN_DIR, env.RUN_CONFIG))
    config = _read_config(Path(config_path))
    if config.train is None:
        raise ConfigError(f"{config_path}: found a command; nexa_train needs the keys model, data and training")
    return Job(
        run_id=run_id,
        attempt=_whole(environment, env.ATTEMPT, default=1),
        run_dir=RunDir(Path(run_dir)),
        tiers=Tiers.from_environment(environment),
        config=config,
        train=config.train,
        resume_from=environment.get(env.RESUME_FROM) or None,
        rank=_whole(environment, RANK, default=0),
        world_size=_whole(environment, WORLD_SIZE, default=1),
        environment=environment,
        fence=Fence.from_environment(environment),
    )


def _read_config(path: Path) -> RunConfig:
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"{path}: no such file; ${env.RUN_CONFIG} names the resolved run config") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    return RunConfig.from_json(text, source=str(path))


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise ConfigError(
            f"environment: {name} is not set; a training program finds its job there",
            hint="start it with `nexa launch FILE`",
        )
    return value


def _whole(environment: Mapping[str, str], name: str, *, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal():
        raise ConfigError(f"environment: {name}: found {text!r}; allowed: a whole number")
    return int(text)
