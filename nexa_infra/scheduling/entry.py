"""One run of a submission as the job entry reads it from `spec.json`, without pydantic, and the environment it gets."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, NotFound
from nexa_infra.storage.layout import Project
from nexa_infra.storage.run_dir import RunDir

INHERITED = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
        "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "XDG_RUNTIME_DIR",
    }
)  # fmt: skip
"""What every program needs to start; with LC_* all that a job takes from whoever starts it."""
ASSIGNED = (env.JOB_TOKEN, "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
"""What the supervisor, or Slurm, gives to one job; no config may change it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """`SpecEntry`, with the array index it stands under."""

    index: int
    run_id: str
    sweep_id: str | None
    run_dir: RunDir
    manifests_dir: Path
    cwd: Path
    command: tuple[str, ...]
    environment: dict[str, str]
    secrets: tuple[str, ...]
    scratch: Path
    durable: Path
    shared: Path
    walltime_s: float
    max_retries: int
    max_preemptions: int
    max_time_outs: int
    stall_s: float | None
    grace_s: float
    cpus: int
    nodes: int = 1
    study: Path | None = None
    """Journal of the study of which the run is a trial."""
    point: dict[str, Any] = field(default_factory=dict)
    """What was known at launch of the run's point."""
    health: dict[str, Any] | None = None
    """What is done about its nodes, as `HealthPlan` has it."""

    @property
    def max_moves(self) -> int:
        """How often it may be started elsewhere after its nodes were refused."""
        return 0 if self.health is None else int(self.health.get("moves", 0))

    @property
    def ledger(self) -> Path | None:
        """The cluster's quarantine ledger; None: there is none."""
        path = None if self.health is None else self.health.get("ledger")
        return None if path is None else Path(path)

    @property
    def outcome(self) -> Path:
        """The RunOutcome of this run."""
        return locate_outcome(self.manifests_dir, self.run_id)


def locate_outcome(manifests_dir: Path, run_id: str) -> Path:
    """Return the file of a run's outcome in a manifests folder."""
    return manifests_dir / locate_project(manifests_dir).outcome(run_id).name


def locate_project(manifests_dir: Path) -> Project:
    """Return the project of a manifests folder, which is `<root>/runs/manifests`."""
    return Project(manifests_dir.parent.parent)


def read_entry(spec: Path, index: int) -> Entry:
    """Return the entry of a spec file under an array index.

    Raises:
        NotFound: no such file, or no such index in it.
        ConfigError: the file is not a spec.
    """
    return read_entries(spec, (index,))[index]


def read_entries(spec: Path, indices: Collection[int]) -> dict[int, Entry]:
    """Return the entries of a spec file under these array indices.

    Raises:
        NotFound: no such file, or no such index in it.
        ConfigError: the file is not a spec.
    """
    found = _read(spec, indices)
    missing = [index for index in indices if index not in found.entries]
    if missing:
        raise NotFound(f"{spec}: no entry {missing[0]}; found {found.listed}")
    return found.entries


def find_entries(spec: Path, indices: Collection[int]) -> list[Entry]:
    """Return the entries of a spec file that stand under one of these array indices, in rising order.

    Raises:
        NotFound: no such file.
        ConfigError: the file is not a spec.
    """
    return [entry for _, entry in sorted(_read(spec, indices).entries.items())]


def inherit_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that every program needs to start."""
    return {name: text for name, text in environment.items() if name in INHERITED or name.startswith("LC_")}


def build_environment(entry: Entry, *, attempt: int, ours: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a run's program: little of ours, what the entry adds, what it is told of itself.

    `ours` is the job entry's own environment; of it come the secrets the entry names.
    """
    built = inherit_environment(ours)
    built["OMP_NUM_THREADS"] = str(entry.cpus)
    built["PYTHONUNBUFFERED"] = "1"  # a log is followed while it is written, and ends with the last word before a kill
    built.update(entry.environment)
    built.update({name: ours[name] for name in (*entry.secrets, *ASSIGNED) if name in ours})
    built[env.RUN_ID] = entry.run_id
    built[env.SWEEP_ID] = entry.sweep_id or ""
    built[env.RUN_DIR] = str(entry.run_dir.path)
    built[env.RUN_CONFIG] = str(entry.run_dir.config)
    built[env.ATTEMPT] = str(attempt)
    built[env.SCRATCH_DIR] = str(entry.scratch)
    built[env.DURABLE_DIR] = str(entry.durable)
    built[env.SHARED_DIR] = str(entry.shared)
    built.setdefault(env.RESUME_FROM, "")
    if entry.health is not None and entry.health.get("request") is not None:
        built[env.HEALTH] = json.dumps(entry.health)
    return built


@dataclass(frozen=True, slots=True)
class _Found:
    entries: dict[int, Entry]
    listed: str
    """What there is besides, for people."""


def _read(spec: Path, indices: Collection[int]) -> _Found:
    try:
        found = json.loads(spec.read_bytes())
        common, entries = found.get("common", {}), found["entries"]
        built = {i: _build({**common, **entries[str(i)]}, i) for i in indices if str(i) in entries}
        return _Found(built, "" if len(built) == len(indices) else _show_range(entries))
    except FileNotFoundError as error:
        raise NotFound(f"{spec}: no such file", hint="the folder of the run was moved or removed") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{spec}: not a job spec: {type(error).__name__}: {error}") from error


def _build(data: dict[str, Any], index: int) -> Entry:
    # Defaults and bounds are those of `SpecEntry`, whose reader costs pydantic; a test holds the two together.
    stall_s = None if data.get("stall_s") is None else _number(data, "stall_s", above=0)
    return Entry(
        index=index,
        run_id=_text(data, "run_id"),
        sweep_id=None if data.get("sweep_id") is None else _text(data, "sweep_id"),
        run_dir=RunDir(Path(_text(data, "run_dir"))),
        manifests_dir=Path(_text(data, "manifests_dir")),
        cwd=Path(_text(data, "cwd")),
        command=_texts(data["command"], "command"),
        environment=_environment(data.get("environment", {})),
        secrets=_texts(data.get("secrets", []), "secrets"),
        scratch=Path(_text(data, "scratch")),
        durable=Path(_text(data, "durable")),
        shared=Path(_text(data, "shared")),
        walltime_s=_number(data, "walltime_s", above=0),
        max_retries=_count(data, "max_retries"),
        max_preemptions=_count(data, "max_preemptions", default=100),
        max_time_outs=_count(data, "max_time_outs", default=0),
        stall_s=stall_s,
        grace_s=_number(data, "grace_s", default=30.0),
        cpus=_count(data["resources"], "cpus", default=1, least=1),
        nodes=_count(data["resources"], "nodes", default=1, least=1),
        study=None if data.get("study") is None else Path(_text(data, "study")),
        point=_point(data.get("point", {})),
        health=_health(data.get("health")),
    )


def _text(data: Mapping[str, Any], name: str) -> str:
    found = data[name]
    if not isinstance(found, str):
        raise _refuse(name, found, "a text")
    return found


def _texts(found: object, name: str) -> tuple[str, ...]:
    # A text is a sequence of texts too: "echo" would become four words.
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise _refuse(name, found, "a list of texts")
    return tuple(found)


def _environment(found: object) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise _refuse("environment", found, "texts by their names")
    return found


def _point(found: object) -> dict[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(value, bool | int | float | str) for value in found.values()):
        raise _refuse("point", found, "values by their keys")
    return found


def _health(found: object) -> dict[str, Any] | None:
    # What a node is checked for is judged by the program that checks it.
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _refuse("health", found, "a health plan")
    _count(found, "moves", default=0)
    if found.get("ledger") is not None:
        _text(found, "ledger")
    return found


def _number(data: Mapping[str, Any], name: str, *, default: float | None = None, above: float | None = None) -> float:
    found = data[name] if default is None else data.get(name, default)
    is_number = isinstance(found, int | float) and not isinstance(found, bool) and math.isfinite(found)
    if not is_number or found < 0 or (above is not None and found <= above):
        raise _refuse(name, found, "a number of at least 0" if above is None else f"a number above {above:g}")
    return float(found)


def _count(data: Mapping[str, Any], name: str, *, default: int | None = None, least: int = 0) -> int:
    found = data[name] if default is None else data.get(name, default)
    if not isinstance(found, int) or isinstance(found, bool) or found < least:
        raise _refuse(name, found, f"a whole number of at least {least}")
    return found


def _refuse(name: str, found: object, allowed: str) -> TypeError:
    shown = repr(found) if isinstance(found, int | float) else type(found).__name__  # a text could hold a credential
    return TypeError(f"{name}: found {shown}; allowed: {allowed}")


def _show_range(entries: Mapping[str, Any]) -> str:
    indices = sorted(int(key) for key in entries)
    return f"{len(indices)} entries, {indices[0]} to {indices[-1]}" if indices else "none"
