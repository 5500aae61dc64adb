"""Ending runs that Slurm has, or is to have: the wish is written down first, so that their jobs know who asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexa_infra.scheduling.entry import locate_outcome
from nexa_infra.scheduling.slurm.belonging import Home, SlurmElsewhere
from nexa_infra.scheduling.slurm.chunks import Chunk, find_chunks, read_cancelled, request_cancel
from nexa_infra.scheduling.slurm.client import SlurmClient
from nexa_infra.scheduling.slurm.looker import Looker, read_outcome_state
from nexa_infra.scheduling.slurm.looking import choose_jobs


@dataclass(frozen=True, slots=True)
class Canceller:
    """Knows how to end the runs of a project."""

    project_runs: Path
    client: SlurmClient
    looker: Looker
    home: Home

    def cancel(self, run_ids: Sequence[str]) -> frozenset[str]:
        """Ask for the end of runs by their ids; return those that were handed to Slurm, or are to be.

        Raises:
            StorageError: the wish cannot be written down.
            SlurmElsewhere: jobs are of another cluster or user; the wish stands all the same.
            ExternalError: Slurm does not answer; the wish stands all the same.
        """
        chunks = self._keep_going_on(find_chunks(self.project_runs, run_ids))
        by_folder: dict[Path, list[str]] = {}
        for run_id, chunk in chunks.items():
            by_folder.setdefault(chunk.folder, []).append(run_id)
        for folder, ours in by_folder.items():
            request_cancel(folder, ours)
        unknown = self._cancel_jobs(chunks)
        reasons = {why for why in map(self.home.explain, unknown) if why is not None}
        if reasons:
            raise SlurmElsewhere(
                "; ".join(sorted(reasons)),
                hint="the wish is written down: `nexa cancel` or `nexa watch` there passes it on",
            )
        return frozenset(chunks)

    def pass_on(self, run_ids: Sequence[str]) -> None:
        """Tell Slurm again to end those of these runs that somebody asked to end and that have not ended.

        Raises: as `cancel`.
        """
        chunks = find_chunks(self.project_runs, run_ids)
        cancelled = {folder: read_cancelled(folder) for folder in {chunk.folder for chunk in chunks.values()}}
        wished = {run_id: chunk for run_id, chunk in chunks.items() if run_id in cancelled[chunk.folder]}
        self._cancel_jobs(self._keep_going_on(wished))

    def _keep_going_on(self, chunks: Mapping[str, Chunk]) -> dict[str, Chunk]:
        manifests = self.project_runs / "manifests"
        return {
            run_id: chunk
            for run_id, chunk in chunks.items()
            if read_outcome_state(locate_outcome(manifests, run_id)) is None
        }

    def _cancel_jobs(self, chunks: Mapping[str, Chunk]) -> list[Chunk]:
        """Return the chunks that Slurm was asked to take, and of which it knows no job."""
        jobs = choose_jobs(chunks, chunks)
        chosen = {job_id for job_ids in jobs.values() for job_id in job_ids}
        shared = {
            run_id: chunk
            for run_id, chunk in chunks.items()
            if chunk.rows_per_task > 1 and chosen.isdisjoint({chunk.job_id, chunk.job_of(run_id)})
        }
        self.looker.end_rows(shared)
        asked = {chunk.name: chunk for chunk in chunks.values() if chunk.asked_at is not None}
        # Not scancel by name: given that and one task of an array, it ends every task of it that waits (22.05).
        known = {(job.name, job.array_job_id) for job in self.client.list_jobs(names=asked)}
        self.client.cancel(
            job_id for name, job_ids in jobs.items() for job_id in job_ids if (name, job_id.partition("_")[0]) in known
        )
        names = {name for name, _ in known}
        return [chunk for name, chunk in asked.items() if name not in names]
