"""The local queue: every job of this user on this machine, of all projects, in one SQLite file.

Launchers add jobs and ask for their end; the supervisor alone changes anything else. Each change is one transaction
that is on the disk when the call returns. The runs' own records are the truth: without this file only what waits to
be run is forgotten. Every method raises StorageError when the file cannot be used or is damaged.
"""

# ruff: noqa: S608 - every piece of SQL below is a constant of this file; values are bound

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Self

from nexa_contracts.states import JobState
from nexa_infra.scheduling.process_tree import ProcessMark
from nexa_infra.scheduling.queue_file import open_queue_file, queue_errors, transaction
from nexa_infra.scheduling.queued_job import Job, NewJob, encode_field

_KEPT_JOBS = 20_000
"""Ended jobs that stay listed; how they ended stands in their runs' records."""
_NEW_FIELDS = tuple(field.name for field in fields(NewJob))
_FIELDS = tuple(field.name for field in fields(Job))
_ADD = (
    f"INSERT INTO jobs ({', '.join(_NEW_FIELDS)}) VALUES ({', '.join('?' for _ in _NEW_FIELDS)}) "
    "ON CONFLICT (run_dir) DO NOTHING"
)
_WAITING = "state IN ('PENDING', 'PREEMPTED')"
_RUNNING = "state = 'RUNNING'"
_UNSETTLED = "state IN ('PENDING', 'PREEMPTED', 'RUNNING')"
_LISTED = "IN (SELECT value FROM json_each(?))"
_HAS_TURN = (
    "submission NOT IN (SELECT submission FROM jobs WHERE state = 'RUNNING' AND ended_s IS NULL GROUP BY submission "
    "HAVING count(*) >= min(max_parallel))"
)


class LocalQueue:
    """An open queue. Use it from one thread; processes may share the file."""

    def __init__(self, path: Path) -> None:
        """Open the queue in a file, made if it is missing.

        Raises:
            StorageError: it cannot be read or written, is damaged, or belongs to another version.
        """
        self._path = path
        self._connection = open_queue_file(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def check_writable(self) -> None:
        """Return if a change can be made now."""
        with transaction(self._connection, self._path):
            self._connection.execute("DELETE FROM jobs WHERE job_id < 0")

    def add_jobs(self, jobs: Sequence[NewJob]) -> list[int]:
        """Add jobs in their order, all or none; return their ids.

        A run that is there already, from this or another spec, keeps its id and its state: no run is run twice.
        """
        with transaction(self._connection, self._path):
            self._connection.executemany(
                _ADD, [[encode_field(getattr(job, name)) for name in _NEW_FIELDS] for job in jobs]
            )
            return [
                int(self._connection.execute("SELECT job_id FROM jobs WHERE run_dir = ?", (run_dir,)).fetchone()[0])
                for run_dir in [job.run_dir for job in jobs]
            ]

    def find_jobs(self, job_ids: Sequence[int]) -> dict[int, Job]:
        """Return the jobs with these ids that are known, by id."""
        return {job.job_id: job for job in self._select(f"job_id {_LISTED}", json.dumps(list(job_ids)))}

    def find_runs(self, run_ids: Sequence[str]) -> dict[str, Job]:
        """Return the newest job of each of these runs that is known, by run id."""
        return {job.run_id: job for job in self._select(f"run_id {_LISTED}", json.dumps(list(run_ids)))}

    def find_states(self, job_ids: Sequence[int]) -> dict[int, tuple[str, JobState]]:
        """Return run id and state of the jobs with these ids that are known, by id."""
        rows = self._fetch(f"SELECT job_id, run_id, state FROM jobs WHERE job_id {_LISTED}", json.dumps(list(job_ids)))
        return {row[0]: (row[1], JobState(row[2])) for row in rows}

    def list_running(self) -> list[Job]:
        """Return the jobs that were started and are not settled."""
        return self._select(_RUNNING)

    def list_cancelled(self) -> list[Job]:
        """Return the jobs that are to end and have not."""
        return self._select(f"cancel_requested = 1 AND {_UNSETTLED}")

    def list_ready(self, held: Collection[str], *, boot_id: str, now_s: float, limit: int) -> list[Job]:
        """Return the first jobs that may start, in their order.

        Left out are those whose sweep runs as many as it may (what ended and cannot be recorded yet runs no more), that
        wait after a crash until later than `now_s` in this boot, or that need a secret which is not among the names
        `held`.
        """
        rows = self._fetch(f"SELECT DISTINCT secrets FROM jobs WHERE {_WAITING}")
        usable = [row[0] for row in rows if set(json.loads(row[0])) <= set(held)]
        return self._select(
            f"{_WAITING} AND cancel_requested = 0 AND {_HAS_TURN} AND secrets {_LISTED} "
            "AND (not_before_s IS NULL OR boot_id != ? OR not_before_s <= ?)",
            *(json.dumps(usable), boot_id, now_s),
            limit=limit,
        )

    def note_missing_secrets(self, held: Collection[str]) -> None:
        """Write down why those jobs wait that need a secret which is not among the names `held`."""
        rows = self._fetch(f"SELECT DISTINCT secrets FROM jobs WHERE {_WAITING}")
        with transaction(self._connection, self._path):
            for (text,) in rows:
                missing = sorted(set(json.loads(text)) - set(held))
                if missing:
                    reason = f"waits for {', '.join(missing)}: run any nexa command in a shell where it is set"
                    self._connection.execute(
                        f"UPDATE jobs SET reason = ? WHERE {_WAITING} AND secrets = ? AND reason IS NOT ?",
                        (reason, text, reason),
                    )

    def has_unsettled(self) -> bool:
        """Whether any job waits or runs."""
        return bool(self._fetch(f"SELECT EXISTS (SELECT 1 FROM jobs WHERE {_UNSETTLED})")[0][0])

    def list_needed_secrets(self) -> set[str]:
        """Return the names of the variables that jobs still waiting or running were promised."""
        rows = self._fetch(f"SELECT DISTINCT secrets FROM jobs WHERE {_UNSETTLED}")
        return {name for row in rows for name in json.loads(row[0])}

    def request_cancel(self, job_ids: Sequence[int]) -> None:
        """Mark jobs to be ended; one that has ended stays as it is."""
        with transaction(self._connection, self._path):
            self._connection.execute(
                f"UPDATE jobs SET cancel_requested = 1 WHERE {_UNSETTLED} AND job_id {_LISTED}",
                (json.dumps(list(job_ids)),),
            )

    def update_job(self, job_id: int, **values: Any) -> None:
        """Change fields of a job; only the supervisor does."""
        self.update_jobs({job_id: values})

    def update_jobs(self, changes: Mapping[int, Mapping[str, Any]]) -> None:
        """Change fields of several jobs at once; only the supervisor does."""
        with transaction(self._connection, self._path):
            for job_id, values in changes.items():
                if not values:
                    continue
                if not values.keys() <= set(_FIELDS):
                    raise ValueError(f"no such field: {sorted(values.keys() - set(_FIELDS))}")
                pairs = ", ".join(f"{name} = ?" for name in values)
                encoded = [encode_field(value) for value in values.values()]
                self._connection.execute(f"UPDATE jobs SET {pairs} WHERE job_id = ?", (*encoded, job_id))

    def forget_ended(self) -> None:
        """Remove the oldest ended jobs beyond the number that is kept."""
        with transaction(self._connection, self._path):
            self._connection.execute(
                f"DELETE FROM jobs WHERE NOT {_UNSETTLED} AND job_id <= (SELECT max(job_id) FROM jobs) - ?",
                (_KEPT_JOBS,),
            )

    def record_supervisor(self, mark: ProcessMark) -> None:
        """Note which process supervises."""
        with transaction(self._connection, self._path):
            self._connection.execute("REPLACE INTO supervisor VALUES (1, ?, ?)", (mark.pid, mark.start_ticks))

    def find_supervisor(self) -> ProcessMark | None:
        """Return the process that supervises, or did; None before the first."""
        rows = self._fetch("SELECT pid, start_ticks FROM supervisor")
        return ProcessMark(*rows[0]) if rows else None

    def _select(self, where: str, *values: Any, limit: int = -1) -> list[Job]:
        sql = f"SELECT {', '.join(_FIELDS)} FROM jobs WHERE {where} ORDER BY job_id LIMIT {limit}"
        return [Job.from_row(dict(zip(_FIELDS, row, strict=True))) for row in self._fetch(sql, *values)]

    def _fetch(self, sql: str, *values: Any) -> list[Any]:
        with queue_errors(self._path):
            return self._connection.execute(sql, values).fetchall()
