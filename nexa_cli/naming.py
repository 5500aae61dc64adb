"""How a person names a run or a sweep: its id, the beginning of its id, or `last`."""

from __future__ import annotations

from nexa_contracts import ids
from nexa_contracts.errors import ConfigError, NotFound
from nexa_infra.storage.index import RunIndex, open_index
from nexa_infra.storage.layout import Project
from nexa_infra.storage.where import Condition

LAST = "last"
_SHOWN = 5
_RUN_PREFIX = "run_"
_SWEEP_PREFIX = "sweep_"
_TO_THE_SECOND = len("run_20261101_120000")
_LISTED = {"run": "`nexa runs` lists them", "sweep": "`nexa sweeps` lists them"}
_LAUNCHED = {"run": "nexa launch FILE", "sweep": "nexa sweep FILE"}


def find_run(project: Project, text: str) -> str:
    """Return the id of the one run that a text names; `last` is the newest run, which may be a sweep's member.

    Raises:
        NotFound: no run is named so.
        ConfigError: several runs are, or a sweep is.
    """
    if text.startswith(_SWEEP_PREFIX):
        sweep_id = find_sweep(project, text)
        members = _list_members(project, sweep_id)
        shown = f", as {members[0]}" if members else ""
        raise ConfigError(
            f"{text}: found a sweep; allowed: a run{shown}", hint=f"`nexa status {sweep_id}` lists its runs"
        )
    return _find(project, text, kind="run")


def find_sweep(project: Project, text: str) -> str:
    """Return the id of the one sweep that a text names; `last` is the newest sweep.

    Raises: as `find_run`.
    """
    return _find(project, text, kind="sweep")


def find_submission(project: Project, text: str) -> str:
    """Return the id of the run or sweep that a text names; `last` is whichever was launched last.

    Raises: as `find_run`.
    """
    if text.startswith(_SWEEP_PREFIX):
        return find_sweep(project, text)
    if text == LAST:
        run_id = find_run(project, text)
        with open_index(project) as index:
            row = index.find_run(run_id)
        return row.sweep_id if row is not None and row.sweep_id is not None else run_id
    return find_run(project, text)


def _find(project: Project, text: str, *, kind: str) -> str:
    is_id = ids.is_run_id(text) if kind == "run" else ids.is_sweep_id(text)
    if is_id:
        path = project.manifest(text) if kind == "run" else project.sweep_manifest(text)
        if not path.exists():
            raise NotFound(f"{text}: no such {kind} in {project.runs}", hint=_LISTED[kind])
        return text
    if not text:
        raise ConfigError(f"found an empty name; allowed: the id of a {kind}, its beginning, or {LAST}")
    with open_index(project) as index:
        found = _find_ids(index, "" if text == LAST else text, kind=kind)
    if not found:
        if text == LAST:
            raise NotFound(f"no {kind} has been launched in {project.root} yet", hint=_LAUNCHED[kind])
        raise NotFound(f"{text!r}: no such {kind} in {project.runs}", hint=_LISTED[kind])
    if text != LAST and len(found) > 1:
        shown = ", ".join(found[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
        raise ConfigError(f"{text!r} names {len(found)} {kind}s: {shown}; give more of the id")
    return found[0]


def _list_members(project: Project, sweep_id: str) -> list[str]:
    with open_index(project) as index:
        return sorted(row.run_id for row in index.find_runs([Condition("sweep", "=", sweep_id)]))


def _find_ids(index: RunIndex, prefix: str, *, kind: str) -> list[str]:
    """Return the ids with that beginning, newest first; with no prefix only the newest."""
    if kind == "sweep":
        sweeps = sorted(index.find_sweeps(), key=lambda row: (row.created_s, row.sweep_id), reverse=True)
        return [row.sweep_id for row in sweeps if row.sweep_id.startswith(prefix)]
    if not prefix:
        return _find_newest(index)
    if not prefix.startswith(_RUN_PREFIX[: len(prefix)]):
        return []
    # Ids are of 0-9 a-z _ -, all of which sort before ~.
    return [
        row.run_id for row in index.find_runs([Condition("run", ">=", prefix), Condition("run", "<", f"{prefix}~")])
    ]


def _find_newest(index: RunIndex) -> list[str]:
    # An id tells the second; of several runs of one second only the manifest says which came last.
    newest = index.find_runs(limit=1)
    if not newest:
        return []
    second = newest[0].run_id[:_TO_THE_SECOND]
    rows = index.find_runs([Condition("run", ">=", second)])
    return [max(rows, key=lambda row: (row.created_at, row.run_id)).run_id]
