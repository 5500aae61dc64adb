"""Axolotl's own program, in an environment of its own: found, asked whether it takes a config, and run.

Its interpreter finds our packages beside its own, for a plugin that tells how a training goes; where it cannot load
that, it trains without.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nexa_contracts
import nexa_infra
import nexa_train
from nexa_contracts import env
from nexa_contracts.base import digest_json
from nexa_contracts.errors import ConfigError, JobFailed
from nexa_infra.process import Child, SystemRunner
from nexa_infra.storage.atomic import make_folder, replace_file, storage_errors
from nexa_train.job import Job
from nexa_train.signals import LeaveNow

logger = logging.getLogger(__name__)

PROGRAM = env.AXOLOTL
"""Path of the `axolotl` program."""
CHECK_TIMEOUT_S = 300.0
LEAVE_TIMEOUT_S = 20.0
PLUGIN = "nexa_train.backends.axolotl_plugin.NexaPlugin"
_CHECK = """
import importlib, sys, yaml
from axolotl.utils.config import validate_config
from axolotl.utils.dict import DictDefault
from axolotl.utils.schemas.config import AxolotlInputConfig
config = yaml.safe_load(open(sys.argv[1]))
try:
    for name in config.pop("plugins", ()):
        importlib.import_module(name.rpartition(".")[0])
except Exception as error:
    print("nexa:", f"{type(error).__name__}: {error}".splitlines()[0])
unknown = sorted(set(config) - set(AxolotlInputConfig.model_fields))
if unknown:
    sys.exit("this Axolotl does not know " + ", ".join(unknown))
validate_config(DictDefault(config))
"""


def find_program(environment: Mapping[str, str]) -> Path:
    """Return the `axolotl` program.

    Raises:
        ConfigError: there is none.
    """
    named = environment.get(PROGRAM)
    found = shutil.which(named or "axolotl", path=environment.get("PATH"))
    if found is None:
        raise ConfigError(
            f"training.backend axolotl: found no program {named or 'axolotl on PATH'}",
            hint=f"install Axolotl in an environment of its own and set {PROGRAM} to its program",
        )
    return Path(found)


def open_program(job: Job) -> Program:
    """Return Axolotl as a run starts it.

    Raises:
        ConfigError: it is not there.
        StorageError: scratch cannot be written.
    """
    path = find_program(job.environment)
    # Its interpreter must find our packages, and nothing else of what stands beside them: those are other versions.
    packages = [Path(package.__path__[0]) for package in (nexa_contracts, nexa_infra, nexa_train)]
    key = digest_json({package.name: str(package) for package in packages})
    folder = job.tiers.dataloader_cache / f"packages-{key[:16]}"
    make_folder(folder)
    with storage_errors(folder, "linking our packages"):
        for package in packages:
            with suppress(FileExistsError):
                (folder / package.name).symlink_to(package)
    search = os.pathsep.join(filter(None, (str(folder), job.environment.get("PYTHONPATH"))))
    return Program(path, {**job.environment, "PYTHONPATH": search, "AXOLOTL_DO_NOT_TRACK": "1"})


@dataclass(frozen=True, slots=True)
class Program:
    """The program, and the variables that it gets."""

    path: Path
    environment: Mapping[str, str]

    def write_config(self, job: Job, config: Mapping[str, Any]) -> Path:
        """Return the file with a config that it takes, our callbacks in it where its interpreter can load them.

        Raises:
            ConfigError: it does not know a key, or refuses a value.
            CommandTimedOut: it did not answer in five minutes.
            StorageError: the run's folder cannot be written.
        """
        path = job.run_dir.path / "axolotl.yaml"
        replace_file(path, _render({**config, "plugins": [PLUGIN]}))
        misses = self.check_config(path)
        if misses is not None:
            logger.warning("axolotl cannot load our callbacks, so its metrics come at its end only: %s", misses)
            replace_file(path, _render(config))
        return path

    def check_config(self, path: Path) -> str | None:
        """Return why it cannot load the config's plug-ins, None when it can; its own interpreter is asked.

        Raises:
            ConfigError: it does not know a key, or refuses a value.
            CommandTimedOut: it did not answer in five minutes.
        """
        argv = [str(self.path.with_name("python")), "-c", _CHECK, str(path)]
        done = SystemRunner().run(argv, timeout_s=CHECK_TIMEOUT_S, env=self.environment)
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise ConfigError(f"{path}: refused by Axolotl: {' | '.join(lines[-3:]) or 'it says nothing'}")
        said = (line.removeprefix("nexa: ") for line in done.stdout.splitlines() if line.startswith("nexa: "))
        return next(said, None)

    def train(self, job: Job, config: Path) -> None:
        """Return when it has trained what a config says.

        Raises:
            JobFailed: it failed; its own words are in the log.
            Fenced: a later attempt of the run has started.
            LeaveNow: this process was told to leave, and the program has left.
        """
        # Under torchrun every process of ours starts one of Axolotl's, which finds its rank in the environment.
        command = [str(self.path), "train", str(config), "--launcher", "python"]
        child = SystemRunner().start(command, output="ours", env=self.environment)
        try:
            status = child.wait()
        except LeaveNow:
            child.send_signal(signal.SIGTERM)
            child.wait()  # it saves and leaves; whoever told us to leave ends both when that takes too long
            raise
        finally:
            if child.poll() is None:
                _end(child)
        if status != 0:
            job.check_fence()  # which ends it too
            raise JobFailed(f"axolotl ended with status {status}; its own words stand above in the log")


def _render(config: Mapping[str, Any]) -> bytes:
    return (json.dumps(dict(config), indent=2) + "\n").encode()  # JSON is YAML


def _end(child: Child) -> None:
    child.send_signal(signal.SIGTERM)
    if child.wait(LEAVE_TIMEOUT_S) is None:
        child.send_signal(signal.SIGKILL)
        child.wait()
