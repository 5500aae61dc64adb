"""One run of a submission as the job entry reads it from `spec.json`, without pydantic, and the environment it gets."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexa_contracts import env
from nexa_contracts.errors import ConfigError, NotFound
from nexa_infra.storage.layout import Project, RunDir

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
    grace_s: float
    cpus: int

    @property
    def outcome(self) -> Path:
        """The RunOutcome of this run."""
        return locate_outcome(self.manifests_dir, self.run_id)


def locate_outcome(manifests_dir: Path, run_id: str) -> Path:
    """Return the file of a run's outcome in a manifests folder."""
    # The folder is `<root>/runs/manifests`; the layout spells the name of the file in it.
    return manifests_dir / Project(manifests_dir.parent.parent).outcome(run_id).name


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
    try:
        found = json.loads(spec.read_bytes())
        common, entries = found.get("common", {}), found["entries"]
        missing = [index for index in indices if str(index) not in entries]
        if not missing:
            return {index: _build({**common, **entries[str(index)]}, index) for index in indices}
    except FileNotFoundError as error:
        raise NotFound(f"{spec}: no such file", hint="the folder of the run was moved or removed") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{spec}: not a job spec: {type(error).__name__}: {error}") from error
    raise NotFound(f"{spec}: no entry {missing[0]}; found {_show_range(entries)}")


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
    return built


def _build(data: dict[str, Any], index: int) -> Entry:
    return Entry(
        index=index,
        run_id=data["run_id"],
        sweep_id=data.get("sweep_id"),
        run_dir=RunDir(Path(data["run_dir"])),
        manifests_dir=Path(data["manifests_dir"]),
        cwd=Path(data["cwd"]),
        command=tuple(data["command"]),
        environment=dict(data.get("environment", {})),
        secrets=tuple(data.get("secrets", ())),
        scratch=Path(data["scratch"]),
        durable=Path(data["durable"]),
        shared=Path(data["shared"]),
        walltime_s=float(data["walltime_s"]),
        max_retries=int(data["max_retries"]),
        grace_s=float(data.get("grace_s", 30.0)),
        cpus=int(data["resources"]["cpus"]),
    )


def _show_range(entries: Mapping[str, Any]) -> str:
    indices = sorted(int(key) for key in entries)
    return f"{len(indices)} entries, {indices[0]} to {indices[-1]}" if indices else "none"
