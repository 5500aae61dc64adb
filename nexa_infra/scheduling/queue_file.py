"""The file of the local queue: its tables, its transactions, and what can be wrong with it."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nexa_contracts.clock import Clock, SystemClock
from nexa_contracts.errors import StorageError, StorageUnavailable
from nexa_contracts.states import FINAL_STATES
from nexa_infra.storage.atomic import make_folder
from nexa_infra.storage.lock_holders import describe_holder

_BUSY_S = 15.0
"""Changes take milliseconds, and that of 100,000 new jobs some seconds."""
_LOOK_AGAIN_S = 0.02
_SURROUNDINGS = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""What is wrong around the file and not in it."""
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_SCHEMA = """
CREATE TABLE jobs (
    job_id INTEGER PRIMARY KEY AUTOINCREMENT,
    submission TEXT NOT NULL, spec TEXT NOT NULL, idx INTEGER NOT NULL, run_id TEXT NOT NULL,
    run_dir TEXT NOT NULL, outcome TEXT NOT NULL, scratch TEXT NOT NULL,
    cpus INTEGER NOT NULL, memory_bytes INTEGER NOT NULL, gpus INTEGER NOT NULL, share_gpus INTEGER NOT NULL,
    walltime_s REAL NOT NULL, grace_s REAL NOT NULL, max_retries INTEGER NOT NULL,
    max_preemptions INTEGER NOT NULL, max_time_outs INTEGER NOT NULL, max_parallel INTEGER,
    limit_cpus INTEGER, limit_memory_bytes INTEGER, limit_gpus INTEGER,
    secrets TEXT NOT NULL, submitted_at TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'PENDING', attempt INTEGER NOT NULL DEFAULT 0,
    cancel_requested INTEGER NOT NULL DEFAULT 0, reason TEXT,
    boot_id TEXT, not_before_s REAL, started_s REAL, started_at TEXT, ended_s REAL,
    pid INTEGER, start_ticks INTEGER, token TEXT, gpu_ids TEXT,
    UNIQUE (run_dir)
);
CREATE INDEX jobs_by_state ON jobs (state, job_id);
CREATE INDEX jobs_by_run ON jobs (run_id);
CREATE INDEX jobs_by_need ON jobs (state, secrets);
CREATE TABLE supervisor (
    one INTEGER PRIMARY KEY CHECK (one = 1), pid INTEGER NOT NULL, start_ticks INTEGER NOT NULL
);
"""
VERSION = zlib.crc32(_SCHEMA.encode()) & 0x7FFF_FFFF
"""Of the tables, from their own text: a change of them cannot forget to change it."""
_FINAL = ", ".join(f"'{state.value}'" for state in sorted(FINAL_STATES))


@contextmanager
def queue_errors(path: Path) -> Iterator[None]:
    """Turn what SQLite says of the file within into a StorageError that says what to do.

    It is a StorageUnavailable where the file itself is whole.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        # The low byte is the kind. Source: https://sqlite.org/rescode.html
        kind = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        if kind in _LOCKED:
            raise StorageUnavailable(
                f"{path}: the local queue has been locked for {_BUSY_S:g} s by {describe_holder(path)}",
                hint="wait for that process or end it, and try again; running jobs go on meanwhile",
            ) from error
        if kind in _SURROUNDINGS:
            raise StorageUnavailable(
                f"{path}: the local queue cannot be used: {error}",
                hint="free space there and check who may write it, or set NEXA_STATE_DIR to another folder",
            ) from error
        raise StorageError(
            f"{path}: the local queue is damaged: {error}",
            hint=f"move it away (mv {path} {path}.damaged); ended runs are safe in their manifests, and `nexa runs` "
            "shows which were waiting, to be launched again",
        ) from error


def open_queue_file(path: Path) -> sqlite3.Connection:
    """Return a connection to the queue in a file, made if it is missing; every statement commits by itself.

    Raises:
        StorageError: it cannot be read or written, is damaged, or belongs to another version.
    """
    make_folder(path.parent)
    with queue_errors(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
        try:
            path.chmod(0o600)
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Make the statements within one change, which is on the disk afterwards, or none.

    Raises:
        StorageError: the file cannot be written, or is damaged.
    """
    with queue_errors(path):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # WAL so that `nexa status` never waits for the supervisor. All processes that open the file are on one machine
    # (the folder carries its name), which WAL needs.
    _enter_wal(connection, SystemClock())
    connection.execute("PRAGMA synchronous = FULL")
    version = _read_version(connection)
    if version == VERSION:
        return
    with transaction(connection, path):
        version = _read_version(connection)
        if version == VERSION:
            return  # another process was faster
        if version != 0:
            _remove_settled(connection, path)
        for statement in _SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {VERSION}")


def _enter_wal(connection: sqlite3.Connection, clock: Clock) -> None:
    # Alone of all statements this one does not wait for a lock: two first launches at once would meet here.
    until_s = clock.monotonic_s() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in _LOCKED or clock.monotonic_s() > until_s:
                raise
            clock.sleep(_LOOK_AGAIN_S)
        else:
            return


def _remove_settled(connection: sqlite3.Connection, path: Path) -> None:
    # The queue holds nothing that the manifests do not, once every job in it has ended.
    unsettled = connection.execute(f"SELECT count(*) FROM jobs WHERE state NOT IN ({_FINAL})").fetchone()[0]  # noqa: S608
    if unsettled:
        raise StorageError(
            f"{path}: {unsettled} jobs of another version of nexa have not ended; this version reads other tables",
            hint="let them end with that version, or set NEXA_STATE_DIR to another folder",
        )
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'")
    for (name,) in tables.fetchall():
        connection.execute(f'DROP TABLE "{name}"')


def _read_version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
