"""Bringing the index's database up to date with the manifests folder.

Three depths, the cheapest that is sure: nothing changed (two stats); the journal explains the folder's time (only the
files it names are read); the folder is listed (names are compared, only files that are new are read). Manifests never
change, so no file is read twice, except one that could not be read.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from nexa_infra.storage import journal
from nexa_infra.storage.journal import UNEXPLAINED_NS, Position
from nexa_infra.storage.run_records import parse_record, split_name
from nexa_infra.storage.where import FIELDS

SCHEMA = 2
"""Kept in the database's user_version; another one is built anew."""
RELIST_S = 900.0
"""The folder is listed at least so often (by the wall clock): files that were copied in by hand within the very
milliseconds of a journalled creation are explained away by its span, and this finds them.
"""
RACY_NS = 20_000_000
"""File systems stamp in ticks of 1 to 10 ms: a folder changed just now may change again within the same stamp."""
_BATCH = 2_000
_TABLES = (
    "CREATE TABLE runs (run_id TEXT PRIMARY KEY, asked TEXT, ended TEXT, costed TEXT) WITHOUT ROWID",
    f"CREATE INDEX runs_by_sweep ON runs ({FIELDS['sweep'][0]})",
    # With rowids: without them, a row beyond a quarter of a page takes a page of its own.
    "CREATE TABLE configs (run_id TEXT PRIMARY KEY, config TEXT NOT NULL)",
    "CREATE TABLE sweeps (sweep_id TEXT PRIMARY KEY, name, created_s, run_count, metric, direction) WITHOUT ROWID",
    "CREATE TABLE problems (name TEXT PRIMARY KEY, reason TEXT, mtime_ns INTEGER, size_bytes INTEGER) WITHOUT ROWID",
    "CREATE TABLE position (mtime_ns INTEGER, inode INTEGER, offset INTEGER, listed_s REAL)",
    f"INSERT INTO position VALUES ({UNEXPLAINED_NS}, 0, 0, 0)",  # noqa: S608 - a constant
)
# A run's row is made by whichever of its files is read first; each file fills in its own column.
_STATEMENTS = {
    "run": "INSERT INTO runs (run_id, asked) VALUES (?, ?) ON CONFLICT DO UPDATE SET asked = excluded.asked",
    "outcome": "INSERT INTO runs (run_id, ended) VALUES (?, ?) ON CONFLICT DO UPDATE SET ended = excluded.ended",
    "cost": "INSERT INTO runs (run_id, costed) VALUES (?, ?) ON CONFLICT DO UPDATE SET costed = excluded.costed",
    "sweep": "INSERT OR REPLACE INTO sweeps VALUES (?, ?, ?, ?, ?, ?)",
    "config": "INSERT OR REPLACE INTO configs VALUES (?, ?)",
    "problem": "INSERT OR REPLACE INTO problems VALUES (?, ?, ?, ?)",
}
_PREFIXES = ("", "outcome_", "cost_")
"""Of the files of a run, in the order of the columns."""


@dataclass(frozen=True, slots=True)
class _State:
    """What the database accounts for."""

    mtime_ns: int
    journal: Position
    listed_s: float


def refresh(connection: sqlite3.Connection, folder: Path, now: datetime, *, relist: bool) -> None:
    """Bring the database up to date; processes that do so at once wait for each other and do the work once.

    Raises:
        sqlite3.DatabaseError: the database is damaged; as sqlite3.OperationalError, it cannot be written or is locked.
    """
    if _has_schema(connection) and not relist and not _needs_update(connection, folder, now):
        return
    connection.execute("PRAGMA cache_size = -65536")  # KiB; a build that spills locks readers out
    connection.execute("BEGIN IMMEDIATE")
    try:
        if not _has_schema(connection):
            _create_schema(connection)
        if relist or _needs_update(connection, folder, now):
            _update(connection, folder, now, relist=relist)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _has_schema(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,))


def _create_schema(connection: sqlite3.Connection) -> None:
    # Dropped, not deleted with its file: another process may have the file open.
    tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    for (name,) in tables:
        connection.execute(f'DROP TABLE "{name}"')
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA}")


def _read_state(connection: sqlite3.Connection) -> _State:
    mtime_ns, inode, offset, listed_s = connection.execute("SELECT * FROM position").fetchone()
    return _State(mtime_ns=mtime_ns, journal=Position(inode=inode, offset=offset), listed_s=listed_s)


def _needs_update(connection: sqlite3.Connection, folder: Path, now: datetime) -> bool:
    state = _read_state(connection)
    return (
        state.mtime_ns != journal.folder_mtime_ns(folder)
        or state.journal != journal.find_end(folder)
        or _is_old(state, now)
        or bool(_changed_problems(connection, folder))
    )


def _is_old(state: _State, now: datetime) -> bool:
    return not 0 <= now.timestamp() - state.listed_s < RELIST_S


def _update(connection: sqlite3.Connection, folder: Path, now: datetime, *, relist: bool) -> None:
    state = _read_state(connection)
    mtime_ns = journal.folder_mtime_ns(folder)
    found = journal.read_spans(folder, state.journal)
    names: set[str] = set(_changed_problems(connection, folder))
    if relist or found is None or _is_old(state, now) or not journal.explain(found[0], state.mtime_ns, mtime_ns):
        # Both are read before the listing: what comes after them is looked for again the next time.
        state = _State(mtime_ns=mtime_ns, journal=journal.find_end(folder), listed_s=now.timestamp())
        names |= _list_new(connection, folder)
    else:
        spans, position = found
        state = _State(mtime_ns=mtime_ns, journal=position, listed_s=state.listed_s)
        names.update(name for span in spans for name in span.names)
    _read_files(connection, folder, names)
    is_racy = state.mtime_ns > now.timestamp() * 1e9 - RACY_NS
    connection.execute(
        "UPDATE position SET mtime_ns = ?, inode = ?, offset = ?, listed_s = ?",
        (UNEXPLAINED_NS if is_racy else state.mtime_ns, state.journal.inode, state.journal.offset, state.listed_s),
    )


def _changed_problems(connection: sqlite3.Connection, folder: Path) -> list[str]:
    rows = connection.execute("SELECT name, mtime_ns, size_bytes FROM problems").fetchall()
    return [name for name, mtime_ns, size_bytes in rows if _stamp(folder / name) != (mtime_ns, size_bytes)]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)


def _list_new(connection: sqlite3.Connection, folder: Path) -> set[str]:
    try:
        present = set(os.listdir(folder))  # noqa: PTH208 - 300,000 names; Path objects would cost four times as much
    except FileNotFoundError:
        present = set()
    known: set[str] = set()
    flags = "asked IS NOT NULL, ended IS NOT NULL, costed IS NOT NULL"
    for run_id, *parts in connection.execute(f"SELECT run_id, {flags} FROM runs"):  # noqa: S608 - a constant
        known.update(f"{prefix}{run_id}.json" for prefix, is_there in zip(_PREFIXES, parts, strict=True) if is_there)
    known.update(f"{sweep_id}.json" for (sweep_id,) in connection.execute("SELECT sweep_id FROM sweeps"))
    return (present - known) | _forget(connection, known - present, present)


def _forget(connection: sqlite3.Connection, gone: Iterable[str], present: set[str]) -> set[str]:
    # A run is forgotten whole, and what is left of it is read again: removals are rare and this has no special cases.
    again: set[str] = set()
    for name in gone:
        kind, identity = split_name(name) or ("", "")
        if kind == "sweep":
            connection.execute("DELETE FROM sweeps WHERE sweep_id = ?", (identity,))
            continue
        connection.execute("DELETE FROM runs WHERE run_id = ?", (identity,))
        connection.execute("DELETE FROM configs WHERE run_id = ?", (identity,))
        again.update(f"{prefix}{identity}.json" for prefix in _PREFIXES)
    return again & present


def _read_files(connection: sqlite3.Connection, folder: Path, names: Iterable[str]) -> None:
    base = os.fspath(folder)
    rows: dict[str, list[tuple[Any, ...]]] = {kind: [] for kind in _STATEMENTS}
    solved: list[tuple[str]] = []
    for count, name in enumerate(sorted(names), start=1):
        split = split_name(name)
        if split is None:
            continue
        kind, identity = split
        solved.append((name,))
        try:
            parsed = parse_record(kind, identity, _read(f"{base}/{name}"))
        except FileNotFoundError:
            continue  # announced but not created, or removed since
        except (OSError, ValueError) as error:
            solved.pop()
            rows["problem"].append((name, _reason(error), *_stamp(folder / name)))
            continue
        rows[kind].append((identity, *parsed.columns))
        if parsed.config_json is not None:
            rows["config"].append((identity, parsed.config_json))
        if count % _BATCH == 0:
            _store(connection, rows, solved)
    _store(connection, rows, solved)


def _store(connection: sqlite3.Connection, rows: dict[str, list[tuple[Any, ...]]], solved: list[tuple[str]]) -> None:
    connection.executemany("DELETE FROM problems WHERE name = ?", solved)
    solved.clear()
    for kind, waiting in rows.items():
        connection.executemany(_STATEMENTS[kind], waiting)
        waiting.clear()


def _read(path: str) -> bytes:
    # A third of the time of Path.read_bytes, which counts when there are 300,000.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        raw = os.read(descriptor, size + 1)
        while len(raw) < size and (more := os.read(descriptor, size - len(raw))):
            raw += more
        return raw
    finally:
        os.close(descriptor)


def _reason(error: OSError | ValueError) -> str:
    text = (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
    return text.encode(errors="replace").decode()
