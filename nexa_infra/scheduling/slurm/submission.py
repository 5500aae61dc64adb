"""Handing chunks to Slurm, each exactly once, whatever becomes of us and of Slurm's answers meanwhile.

An intent is on disk before sbatch is called. When no answer comes the job may exist: Slurm is asked for its name, and
is handed the chunk again only after it has answered twice, some seconds apart, that it knows no such job. While it does
not answer nothing is handed over.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nexa_contracts.clock import Clock
from nexa_contracts.errors import ExternalError
from nexa_contracts.ids import is_sweep_id
from nexa_infra.scheduling.slurm.belonging import Home
from nexa_infra.scheduling.slurm.chunks import Chunk
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmJob, SlurmMissing, SlurmRefused, SlurmUnreachable
from nexa_infra.scheduling.slurm.options import render_after
from nexa_infra.scheduling.slurm.script import SCRIPT_NAME
from nexa_infra.scheduling.slurm.states import describe
from nexa_infra.storage.atomic import make_folder
from nexa_infra.storage.run_dir import RunDir

logger = logging.getLogger(__name__)

_APART_S = 3.0
"""A controller that is busy may answer a question before it has taken in what it was handed earlier."""
_TRIES = 2
_LATER = "nothing was handed over twice; when Slurm answers: "


def how_to_go_on(submission: str) -> str:
    """Return the command that takes a submission up again."""
    return f"nexa sweep --resume {submission}" if is_sweep_id(submission) else "nexa watch --once"


@dataclass(frozen=True, slots=True)
class Submitter:
    """Hands over the chunks of one submission; its caller sees to it that nobody else does so meanwhile."""

    client: SlurmClient
    clock: Clock
    how_to_go_on: str
    """The command that takes the submission up again."""

    def hand_over(
        self, chunks: Sequence[Chunk], *, earlier: Sequence[Chunk] = (), max_submitted: int | None = None
    ) -> list[Chunk]:
        """Return all chunks as they are now, after those that Slurm does not hold were handed over in their order.

        `earlier` are those of the same submission that were handed over before. With `max_submitted` what would be
        more jobs of this user than that is only written down, to be handed over when there is room.

        Raises:
            SlurmRefused: Slurm said no; what it took before stays, the rest is as if it had never been asked.
            SlurmUnreachable: it does not answer; what was asked of it is looked up later.
            SlurmMissing: it is not installed here.
            SlurmElsewhere: another cluster or user began to hand them over.
            StorageError: the intent cannot be written.
        """
        home = Home(self.client)
        home.check_ours(chunks)
        done = [each if each.user_id is not None else replace(each, user_id=os.getuid()) for each in chunks]
        queue = _Queue(self.client, max_submitted)
        last = next((chunk for chunk in reversed(earlier) if chunk.job_id is not None), None)
        for place, chunk in enumerate(tuple(done)):
            if chunk.job_id is None:
                if chunk.asked_at is None and not queue.has_room(chunk):
                    done[place:] = [home.save_waiting(each) for each in done[place:]]
                    return done
                try:
                    done[place] = self._hand_over(_put_in_turn(chunk, last, queue))
                except SlurmRefused as error:
                    raise self._explain_refusal(error, done, place) from error
                except SlurmUnreachable as error:
                    raise SlurmUnreachable(error.message, hint=f"{_LATER}{self.how_to_go_on}") from error
                queue.note(done[place])
            last = done[place]
        return done

    def find(self, chunk: Chunk, jobs: Sequence[SlurmJob]) -> Chunk | None:
        """Return a chunk completed with the id of its job, when Slurm holds it or it has left its mark on disk."""
        ids = sorted({job.array_job_id for job in jobs if job.name == chunk.name}, key=int)
        if not ids:
            owner = _read_owner(chunk)
            return None if owner is None else chunk.complete(owner)
        if len(ids) > 1:
            # Two answers were lost. The first counts; jobs of the other that have begun leave by themselves.
            logger.warning("submitted twice and ended once name=%s kept=%s ended=%s", chunk.name, ids[0], ids[1:])
            self.client.cancel(ids[1:], name=chunk.name)
        return chunk.complete(ids[0])

    def find_lost(self, chunk: Chunk) -> Chunk | None:
        """Return a chunk whose answer was lost completed with its job; None when Slurm has said twice that it has none.

        Raises: as `hand_over`.
        """
        for look in range(2):
            if look:
                self.clock.sleep(_APART_S)
            found = self.find(chunk, self.client.list_jobs(names=(chunk.name,)))
            if found is not None:
                return found
        return None

    def _hand_over(self, chunk: Chunk) -> Chunk:
        if chunk.asked_at is not None:
            found = self.find_lost(chunk)
            if found is not None:
                return found
        make_folder(chunk.path.parent)
        intent = replace(chunk, asked_at=self.clock.now().isoformat()).save()
        for tries in range(_TRIES):
            try:
                job_id = self.client.submit(intent.options, intent.folder / SCRIPT_NAME, intent.arguments)
            except (SlurmRefused, SlurmMissing):
                if chunk.asked_at is None and not tries:  # what was asked before may have been taken, and show later
                    intent.forget()
                raise
            except ExternalError as error:
                logger.warning("answer of sbatch is lost name=%s reason=%s", intent.name, error)
                found = self.find_lost(intent)
                if found is not None:
                    return found
                intent = Home(self.client).save_waiting(intent)
                lost = error
            else:
                return intent.complete(job_id)
        raise SlurmUnreachable(f"{chunk.name}: handed over {_TRIES} times and never taken: {lost.message}")

    def _explain_refusal(self, error: SlurmRefused, chunks: Sequence[Chunk], place: int) -> SlurmRefused:
        for chunk in chunks[place + 1 :]:
            if chunk.job_id is None and chunk.asked_at is None:
                chunk.forget()
        taken = [chunk for chunk in chunks if chunk.job_id is not None]
        if chunks[place].path.exists():
            lost = f"an answer of Slurm was lost before: it may hold {chunks[place].name} all the same"
            return SlurmRefused(error.message, hint=f"{lost}; to look again: {self.how_to_go_on}")
        if not taken:
            return SlurmRefused(error.message, hint=error.hint or f"nothing was submitted; later: {self.how_to_go_on}")
        runs = sum(len(chunk.runs) for chunk in taken)
        every = sum(len(chunk.runs) for chunk in chunks)
        return SlurmRefused(
            f"{runs} of {every} runs were submitted, in {len(taken)} of {len(chunks)} arrays; the next was refused: "
            f"{error.message}",
            hint=f"submit the others: {self.how_to_go_on}",
        )


class _Queue:
    """What this user has in Slurm's queue, asked at most once and only when it matters."""

    def __init__(self, client: SlurmClient, most: int | None) -> None:
        self._client = client
        self._most = most
        self._jobs: Sequence[SlurmJob] | None = None
        self._new: list[Chunk] = []

    def note(self, chunk: Chunk) -> None:
        """Take in a chunk that was handed over just now."""
        self._new.append(chunk)

    def has_room(self, chunk: Chunk) -> bool:
        """Whether the jobs of one more chunk are not too many."""
        if self._most is None:
            return True
        held = sum(max(1, len(job.task_ids)) for job in self._ask() if not _has_ended(job))
        listed = {job.name for job in self._ask()}
        unlisted = [each for each in self._new if each.name not in listed]
        return held + sum(each.task_count for each in (*unlisted, chunk)) <= self._most

    def holds(self, chunk: Chunk) -> bool:
        """Whether jobs of a chunk have not ended."""
        is_known = any(job.name == chunk.name and not _has_ended(job) for job in self._ask())
        return is_known or any(each.name == chunk.name for each in self._new)

    def _ask(self) -> Sequence[SlurmJob]:
        if self._jobs is None:
            self._jobs = self._client.list_jobs()
        return self._jobs


def _put_in_turn(chunk: Chunk, last: Chunk | None, queue: _Queue) -> Chunk:
    # A limit on how many run at a time holds within one array: several of them take turns.
    if not chunk.in_turn or chunk.asked_at is not None or last is None or not queue.holds(last):
        return chunk
    return chunk if last.job_id is None else replace(chunk, options=(*chunk.options, render_after(last.job_id)))


def _has_ended(job: SlurmJob) -> bool:
    return describe(job)[0].is_final


def _read_owner(chunk: Chunk) -> str | None:
    """Return the id of the job that has begun a run of a chunk; Slurm forgets ended jobs after minutes."""
    for run_id in chunk.runs:
        try:
            found = json.loads(RunDir(chunk.project_runs / run_id).owner.read_bytes())
            job_id, name = str(found["job_id"]).partition("_")[0], found["name"]
        except (OSError, ValueError, LookupError, TypeError):
            continue  # it was not begun
        if name == chunk.name and job_id.isdecimal():
            return job_id
    return None
