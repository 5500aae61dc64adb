"""The index over the manifests folder: a database that answers questions about many runs, and can be deleted any time.

Whatever is wrong with the database is no error for its user: a damaged one is built anew, one that cannot be written
is replaced by one in memory for the time being. Only the manifests are the truth.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from nexa_contracts.clock import Clock, SystemClock
from nexa_infra.storage import index_update
from nexa_infra.storage.layout import Project
from nexa_infra.storage.lock_holders import describe_holder
from nexa_infra.storage.run_rows import RunRow, SweepRow
from nexa_infra.storage.where import Condition, render_condition, render_order

logger = logging.getLogger(__name__)

LOCK_WAIT_S = 20.0
"""How long one process waits for another that is building the index; 100,000 runs take some 15 s."""
_GIVEN_UP: set[Path] = set()
"""Indexes that this process waited for in vain: a command asks several times, and would wait each time."""
_SELECT = "SELECT run_id, asked, ended, costed FROM runs WHERE"
_IS_RUN = "asked IS NOT NULL"
"""An outcome without its manifest is a run only once that comes."""
ResultT = TypeVar("ResultT")


def open_index(project: Project, *, clock: Clock | None = None) -> RunIndex:
    """Return the project's index, up to date. Use it in a `with` statement, or close it."""
    index = RunIndex(project, clock=clock or SystemClock())
    index.refresh()
    return index


class RunIndex:
    """Answers from the state of the last `refresh`. Not shared between threads; any number of processes may."""

    def __init__(self, project: Project, *, clock: Clock) -> None:
        self._path = project.index
        self._folder = project.manifests
        self._clock = clock
        self._connection = _connect(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._connection.close()

    def refresh(self, *, relist: bool = False) -> None:
        """Take in what was created since the last time; `relist` compares the folder's names whatever the journal says.

        A file that was removed is noticed when the folder is listed: after changes the journal does not explain, and
        every 15 minutes.
        """
        self._ask(lambda connection: self._update(connection, relist=relist), is_refresh=True)

    def find_runs(
        self, where: Sequence[Condition] = (), *, limit: int | None = None, sort: str | None = None
    ) -> list[RunRow]:
        """Return the runs that meet every condition, newest first, or by the field `sort` (`-field`: descending).

        Raises:
            ConfigError: a condition or the sort key names no field.
        """
        condition, values = _render_where(where)
        order, keys = render_order(sort)
        query = f"{_SELECT} {condition} ORDER BY {order} LIMIT ?"
        parameters = [*values, *keys, -1 if limit is None else limit]
        return self._ask(lambda connection: _make_rows(connection.execute(query, parameters)))

    def count_runs(self, where: Sequence[Condition] = ()) -> int:
        """Return how many runs meet every condition.

        Raises:
            ConfigError: a condition names no field.
        """
        condition, values = _render_where(where)
        query = f"SELECT count(*) FROM runs WHERE {condition}"  # noqa: S608 - fixed pieces
        return int(self._fetch(query, values)[0][0])

    def find_run(self, run_id: str) -> RunRow | None:
        """Return one run; None when there is no manifest of it."""
        rows = self._fetch(f"{_SELECT} {_IS_RUN} AND run_id = ?", [run_id])
        return RunRow._make(rows[0]) if rows else None

    def find_sweeps(self, *, limit: int | None = None) -> list[SweepRow]:
        """Return the sweeps, newest first."""
        query = (
            "SELECT sweep_id, name, created_s, run_count, metric, direction FROM sweeps ORDER BY sweep_id DESC LIMIT ?"
        )
        return [SweepRow._make(row) for row in self._fetch(query, [-1 if limit is None else limit])]

    @property
    def problems(self) -> tuple[str, ...]:
        """One line for each manifest file that cannot be read: its path and the reason."""
        rows = self._fetch("SELECT name, reason FROM problems ORDER BY name", [])
        return tuple(f"{self._folder / name}: {reason}" for name, reason in rows)

    def _update(self, connection: sqlite3.Connection, *, relist: bool) -> None:
        index_update.refresh(connection, self._folder, self._clock.now(), relist=relist)

    def _fetch(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._ask(lambda connection: connection.execute(query, values).fetchall())

    def _ask(self, question: Callable[[sqlite3.Connection], ResultT], *, is_refresh: bool = False) -> ResultT:
        try:
            return question(self._connection)
        except sqlite3.DatabaseError as error:
            self._replace_connection(error)
        if not is_refresh:
            self._update(self._connection, relist=False)
        return question(self._connection)

    def _replace_connection(self, error: sqlite3.DatabaseError) -> None:
        self._connection.close()
        if not isinstance(error, sqlite3.OperationalError) and _remove_damaged(self._path, self._clock):
            logger.warning("index was damaged and is built anew path=%s reason=%s", self._path, error)
            self._connection = _connect(self._path)
            return
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            if self._path not in _GIVEN_UP:
                holder = describe_holder(self._path)
                logger.warning("index is locked by %s; read without it, which is slower path=%s", holder, self._path)
            _GIVEN_UP.add(self._path)
        # Else read-only or full. No `runs` folder at all is the same, and no event.
        logger.info("index is kept in memory path=%s reason=%s", self._path, error)
        self._connection = _copy_to_memory(self._path)


def _make_rows(cursor: sqlite3.Cursor) -> list[RunRow]:
    # As RunRow._make, without a Python call a row. The collector would look at 100,000 rows again and again, a third
    # of the time, and find no cycle, for they hold texts only.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return list(map(partial(tuple.__new__, RunRow), cursor))
    finally:
        if was_enabled:
            gc.enable()


def _render_where(where: Sequence[Condition]) -> tuple[str, list[Any]]:
    rendered = [render_condition(condition) for condition in where]
    text = " AND ".join([_IS_RUN, *(expression for expression, _ in rendered)])
    return text, [value for _, values in rendered for value in values]


def _connect(path: Path) -> sqlite3.Connection:
    # Autocommit, transactions are begun by hand. A rollback journal, not WAL: WAL needs shared memory, which network
    # file systems lack, and a listing that finds nothing new writes nothing at all.
    wait_s = LOCK_WAIT_S if path not in _GIVEN_UP else 0.0
    try:
        return sqlite3.connect(path, timeout=wait_s, isolation_level=None)
    except sqlite3.OperationalError:
        return _connect_memory()


def _connect_memory() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", isolation_level=None)


def _copy_to_memory(path: Path) -> sqlite3.Connection:
    # The index of a colleague, read-only to us, saves reading all the manifests.
    memory = _connect_memory()
    try:
        source = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.OperationalError:
        return memory
    try:
        # Asked first, because a backup waits without end for a writer that hangs.
        source.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(memory)
    except sqlite3.DatabaseError as error:
        logger.info("index cannot be copied path=%s reason=%s", path, error)
        memory.close()
        memory = _connect_memory()
    finally:
        source.close()
    return memory


def _remove_damaged(path: Path, clock: Clock) -> bool:
    # One process removes it; one that found it damaged too waits and then finds it whole.
    try:
        descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        if not _lock(descriptor, clock):
            return False
        if _is_damaged(path):
            for suffix in ("", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _lock(descriptor: int, clock: Clock) -> bool:
    deadline_s = clock.monotonic_s() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if clock.monotonic_s() > deadline_s:
                return False
            clock.sleep(0.05)
        else:
            return True


def _is_damaged(path: Path) -> bool:
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        return bool(connection.execute("PRAGMA quick_check").fetchone() != ("ok",))
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:
        return True
    finally:
        connection.close()
