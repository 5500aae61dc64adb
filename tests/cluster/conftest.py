"""One real Slurm for each worker of the test run, whole again after every test that used it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cluster.slurm_cluster import Shape, SlurmCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[SlurmCluster]:
    """Give a cluster of three nodes with 8 cores each."""
    with ExitStack() as stack:
        yield _bring_up(stack, Shape(nodes=3, cpus=8))


@pytest.fixture
def make_cluster() -> Iterator[Callable[[Shape], SlurmCluster]]:
    """Give a test clusters of its own, of any shape; each takes about half a second."""
    with ExitStack() as stack:
        yield lambda shape: _bring_up(stack, shape)


@pytest.fixture(autouse=True)
def whole_again(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave no jobs and no dead daemons to the next test."""
    cluster: SlurmCluster | None = request.getfixturevalue("cluster") if "cluster" in request.fixturenames else None
    yield
    if cluster is not None:
        cluster.restore()


def _bring_up(stack: ExitStack, shape: Shape) -> SlurmCluster:
    # Unix sockets have short paths: pytest's own folders are too deep.
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="nxs-", dir="/tmp", ignore_cleanup_errors=True))
    cluster = SlurmCluster(Path(folder) / "c", shape)
    stack.callback(cluster.stop)
    cluster.start()
    return cluster
