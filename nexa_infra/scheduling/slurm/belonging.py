"""Whose the jobs of a chunk are: from another cluster, or as another user, they cannot be seen, and nothing follows."""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from nexa_contracts.errors import ExternalError, StorageError
from nexa_infra.scheduling.slurm.chunks import Chunk
from nexa_infra.scheduling.slurm.client import SlurmClient

if TYPE_CHECKING:
    from nexa_infra.scheduling.slurm.looking import Jobs

logger = logging.getLogger(__name__)


class SlurmElsewhere(ExternalError):
    """Jobs of another cluster or user: from here nothing is known of them, and nothing can be done."""


class Home:
    """The cluster and the user that we are. The cluster is asked its name once, and only where it matters."""

    def __init__(self, client: SlurmClient) -> None:
        self._client = client

    @cached_property
    def cluster(self) -> str | None:
        """Name of the cluster; None where it has none.

        Raises:
            ExternalError: Slurm does not answer.
        """
        return self._client.read_limits().cluster

    def explain(self, chunk: Chunk) -> str | None:
        """Return whose the jobs of a chunk are when they are not ours; None too where the chunk does not say.

        Raises:
            ExternalError: Slurm does not answer.
        """
        if chunk.user_id is None:
            return None  # of an earlier version, or not written yet
        if chunk.user_id != os.getuid():
            here = f"user {_name_user(os.getuid())}"
        elif chunk.cluster is not None and self.cluster not in (None, chunk.cluster):
            here = f"cluster {self.cluster}"
        else:
            return None
        where = "" if chunk.cluster is None else f"cluster {chunk.cluster}, "
        return f"belongs to {where}user {_name_user(chunk.user_id)}; this is {here}"

    def check_ours(self, chunks: Iterable[Chunk]) -> None:
        """Return if all that Slurm is yet to take is ours to hand over.

        Raises:
            SlurmElsewhere: it is not.
            ExternalError: Slurm does not answer.
        """
        for chunk in chunks:
            why = self.explain(chunk) if chunk.job_id is None else None
            if why is not None:
                raise SlurmElsewhere(f"{chunk.name}: {why}", hint="hand it over there: `nexa watch`")

    def save_waiting(self, chunk: Chunk) -> Chunk:
        """Write down a chunk that waits, for others to hand over here; one that Slurm holds stays as it is.

        Raises:
            StorageError: it cannot be written.
            ExternalError: Slurm does not answer.
        """
        if chunk.job_id is not None:
            return chunk
        return replace(chunk, cluster=chunk.cluster or self.cluster).save()

    def find_foreign(self, chunks: Mapping[str, Chunk], jobs: Jobs) -> dict[str, str]:
        """Return which runs Slurm cannot know here though it was asked to take them, and why.

        Raises:
            ExternalError: Slurm does not answer.
        """
        doubtful = {
            run_id: chunk
            for run_id, chunk in chunks.items()
            if chunk.asked_at is not None and jobs.find(run_id, chunk) is None
        }
        reasons = {path: self.explain(chunk) for path, chunk in {each.path: each for each in doubtful.values()}.items()}
        found = {run_id: reasons[chunk.path] for run_id, chunk in doubtful.items()}
        return {run_id: f"{why}; look from there" for run_id, why in found.items() if why is not None}

    def learn(self, chunks: Mapping[str, Chunk], jobs: Jobs) -> None:
        """Write down the cluster of chunks whose submission did not ask for it, when their jobs are here.

        Raises:
            ExternalError: Slurm does not answer.
        """
        lacking = {
            chunk.path: chunk
            for chunk in chunks.values()
            if chunk.cluster is None and chunk.user_id is not None and chunk.job_id is not None
        }
        for chunk in lacking.values():
            if chunk.name in jobs.names and self.cluster is not None:
                try:
                    replace(chunk, cluster=self.cluster).save()
                except StorageError as error:
                    logger.info("cluster cannot be noted name=%s reason=%s", chunk.name, error)


def _name_user(user_id: int) -> str:
    try:
        return pwd.getpwuid(user_id).pw_name
    except (KeyError, OverflowError):
        return str(user_id)
