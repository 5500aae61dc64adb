"""The partition that a job will get is the one its size is judged by."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nexa_contracts.errors import ConfigError
from nexa_contracts.resources import Resources
from nexa_contracts.site import SiteConfig, SlurmSite
from nexa_infra.process import Call, Completed
from nexa_infra.scheduling.slurm.backend import SlurmBackend
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.storage.layout import Project
from nexa_infra.testing.backend import make_request
from nexa_infra.testing.clock import FakeClock
from nexa_infra.testing.slurm import FakeSlurm

BIG = Resources(gpus_per_node=8, cpus=8, memory="8GiB")


class TwoPartitions(FakeSlurm):
    """A cluster whose default partition has no GPUs."""

    def _sinfo(self, call: Call) -> Completed:
        return Completed(0, "cpu*|10|64|256000|infinite|(null)\ngpu|10|64|256000|infinite|gpu:h100:8\n")


def make_backend(root: Path, **variables: str) -> SlurmBackend:
    environment, clock = {**os.environ, **variables}, FakeClock()
    client = SlurmClient(TwoPartitions(), environment=environment, clock=clock)
    return SlurmBackend(Project(root).runs, client=client, environment=environment, clock=clock)


def test_the_partition_of_the_environment_is_judged_and_asked_for(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, SBATCH_PARTITION="gpu")
    backend.check_fits(BIG, SiteConfig())
    (command,) = backend.plan(make_request(tmp_path, "pass"), SiteConfig()).commands
    assert "--partition=gpu" in command
    with pytest.raises(ConfigError, match="partition cpu"):
        make_backend(tmp_path).check_fits(BIG, SiteConfig())


def test_the_site_file_goes_before_the_environment(tmp_path: Path) -> None:
    backend = make_backend(tmp_path, SBATCH_PARTITION="cpu")
    site = SiteConfig(slurm=SlurmSite(partition="gpu"))
    backend.check_fits(BIG, site)
    (command,) = backend.plan(make_request(tmp_path, "pass"), site).commands
    assert "--partition=gpu" in command


@pytest.mark.parametrize("partition", ["nope", "a b", "-x", "cpu"])
def test_whose_partition_it_is_that_does_not_fit_is_said(tmp_path: Path, partition: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backend(tmp_path, SBATCH_PARTITION=partition).check_fits(BIG, SiteConfig())
    assert "SBATCH_PARTITION" in str(caught.value)


def test_a_partition_that_does_not_exist_is_not_answered_with_a_smaller_job(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        make_backend(tmp_path).check_fits(BIG, SiteConfig(slurm=SlurmSite(partition="nope")))
    assert caught.value.hint == "name another slurm.partition in the site file"


def test_an_empty_variable_names_no_partition(tmp_path: Path) -> None:
    (command,) = make_backend(tmp_path, SBATCH_PARTITION="").plan(make_request(tmp_path, "pass"), SiteConfig()).commands
    assert not any(word.startswith("--partition") for word in command)
