"""The manifests of runs and sweeps: created exclusively, never changed, each creation told to the index's journal.

The contracts are imported when a function needs them: pydantic costs 0.13 s of CPU, which listing and cancelling runs
do not pay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from nexa_contracts.errors import AlreadyExists, NotFound, StorageError
from nexa_infra.storage.batch import create_batch, create_missing
from nexa_infra.storage.journal import create_journaled
from nexa_infra.storage.layout import Project, Tiers
from nexa_infra.storage.points import find_point

if TYPE_CHECKING:
    from nexa_contracts.base import Contract
    from nexa_contracts.cost import CostManifest
    from nexa_contracts.run import AttemptRecord, EnvironmentRecord, RunManifest, RunOutcome
    from nexa_contracts.sweep import SweepManifest

    ContractT = TypeVar("ContractT", bound=Contract)


_MIRRORED_AT_ONCE = 300
"""Runs whose files are in memory together, each some 10 KB."""


def record_manifest(project: Project, manifest: RunManifest) -> None:
    """Create the manifest of a run.

    Raises:
        AlreadyExists: the run has one.
        StorageError: the disk is full, read-only or broken.
    """
    create_journaled(project.manifest(manifest.run_id), manifest.to_json().encode())


def record_manifests(project: Project, manifests: Iterable[RunManifest]) -> int:
    """Create the manifests of many runs, several at a time; return how many. An iterator is taken piece by piece.

    Raises:
        AlreadyExists: a run has one; those created before it stay.
        StorageError: the disk is full, read-only or broken.
    """
    return create_batch(project.manifests, _render(project, manifests))


def record_sweep(project: Project, manifest: SweepManifest) -> None:
    """Create the manifest of a sweep.

    Raises:
        AlreadyExists: the sweep has one.
        StorageError: the disk is full, read-only or broken.
    """
    create_journaled(project.sweep_manifest(manifest.sweep_id), manifest.to_json().encode())


def record_outcome(project: Project, outcome: RunOutcome) -> bool:
    """Create the outcome of a run; return False when it has one already, which then holds.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    return _create_once(project.outcome(outcome.run_id), outcome)


def record_cost(project: Project, cost: CostManifest) -> bool:
    """Create the cost manifest of a run; return False when it has one already, which then holds.

    Raises:
        StorageError: the disk is full, read-only or broken.
    """
    return _create_once(project.cost(cost.run_id), cost)


def record_costs(project: Project, costs: Iterable[CostManifest]) -> tuple[str, ...]:
    """Create the cost manifests of many runs; return those runs that had none. An iterator is taken piece by piece.

    Raises:
        StorageError: the disk is full, read-only or broken; some are recorded.
    """
    run_ids: dict[str, str] = {}

    def render() -> Iterator[tuple[str, bytes]]:
        for cost in costs:
            name = project.cost(cost.run_id).name
            run_ids[name] = cost.run_id
            yield name, cost.to_json().encode()

    created = create_missing(project.manifests, render(), has_journal=True)
    return tuple(run_id for name, run_id in run_ids.items() if name in created)


def read_run_manifest(project: Project, run_id: str) -> RunManifest:
    """Return the manifest of a run; of a trial with the point and the config that it got when it started.

    Raises:
        NotFound: there is no such run.
        ConfigError: the file does not fit the schema.
    """
    from nexa_contracts.run import RunManifest

    manifest = _read(project.manifest(run_id), RunManifest, what=f"run {run_id}")
    if manifest.sweep_id is None or manifest.point:
        return manifest
    return _add_point(project, manifest)


def read_sweep_manifest(project: Project, sweep_id: str) -> SweepManifest:
    """Return the manifest of a sweep.

    Raises:
        NotFound: there is no such sweep.
        ConfigError: the file does not fit the schema.
    """
    from nexa_contracts.sweep import SweepManifest

    return _read(project.sweep_manifest(sweep_id), SweepManifest, what=f"sweep {sweep_id}")


def read_outcome(project: Project, run_id: str) -> RunOutcome:
    """Return how a run ended.

    Raises:
        NotFound: it has not ended, or there is no such run.
        ConfigError: the file does not fit the schema.
    """
    from nexa_contracts.run import RunOutcome

    return _read(project.outcome(run_id), RunOutcome, what=f"outcome of {run_id}")


def find_outcome(project: Project, run_id: str) -> RunOutcome | None:
    """Return how a run ended; None while it has no outcome.

    Raises:
        ConfigError: the file does not fit the schema.
    """
    from nexa_contracts.run import RunOutcome

    return _find(project.outcome(run_id), RunOutcome)


def find_cost(project: Project, run_id: str) -> CostManifest | None:
    """Return what a run cost; None while that is not settled.

    Raises:
        ConfigError: the file does not fit the schema.
    """
    from nexa_contracts.cost import CostManifest

    return _find(project.cost(run_id), CostManifest)


def list_attempts(project: Project, run_id: str) -> tuple[int, ...]:
    """Return the numbers of a run's attempts that have ended, ascending."""
    try:
        names = [path.name for path in project.attempts(run_id).iterdir()]
    except FileNotFoundError:
        return ()
    stems = [name.removesuffix(".json") for name in names if name.endswith(".json")]
    return tuple(sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit()))


def read_attempt(project: Project, run_id: str, number: int) -> AttemptRecord:
    """Return the record of one attempt that has ended.

    Raises:
        NotFound: it has no record.
        ConfigError: the file does not fit the schema.
        StorageError: it cannot be read.
    """
    from nexa_contracts.run import AttemptRecord

    return _read(project.attempt(run_id, number), AttemptRecord, what=f"attempt {number} of {run_id}")


def read_attempts(project: Project, run_id: str) -> tuple[AttemptRecord, ...]:
    """Return the records of a run's attempts that have ended, in their order.

    Raises:
        ConfigError: a file does not fit the schema.
        StorageError: one cannot be read.
    """
    return tuple(read_attempt(project, run_id, number) for number in list_attempts(project, run_id))


def next_attempt_number(project: Project, run_id: str) -> int:
    """Return the number after that of the last attempt that has ended; 1 for a run that has none."""
    return max(list_attempts(project, run_id), default=0) + 1


def mirror_manifests(project: Project, tiers: Tiers, run_ids: Sequence[str]) -> int:
    """Copy what is known of runs (manifest, outcome, cost) to the durable tier; return how many files are new there.

    Raises:
        AlreadyExists: durable holds another text under the same name; it is left as it was.
        StorageError: the disk is full, read-only or broken.
    """
    copied = 0
    for start in range(0, len(run_ids), _MIRRORED_AT_ONCE):
        files: dict[str, bytes] = {}
        for run_id in run_ids[start : start + _MIRRORED_AT_ONCE]:
            for source in (project.manifest(run_id), project.outcome(run_id), project.cost(run_id)):
                try:
                    files[source.name] = source.read_bytes()
                except FileNotFoundError:
                    continue
        created = create_missing(tiers.durable_manifests, files.items(), has_journal=False)
        for name in files.keys() - created:
            _check_mirror(project.manifests / name, files[name], tiers.durable_manifests / name)
        copied += len(created)
    return copied


def _render(project: Project, manifests: Iterable[RunManifest]) -> Iterator[tuple[str, bytes]]:
    from nexa_contracts.run import EnvironmentRecord

    # The runs of a launch share their environment, which is most of the text: it is rendered once.
    nowhere = EnvironmentRecord(hostname="", platform="", python="", python_executable="")
    stand_in = _render_environment(nowhere)
    shared: EnvironmentRecord | None = None
    text = ""
    for manifest in manifests:
        if manifest.environment is not shared:
            shared = manifest.environment
            text = _render_environment(shared)
        bare = manifest.model_copy(update={"environment": nowhere}).to_json()
        # A line break stands in JSON only between values: nothing that a person wrote looks like the stand-in.
        yield project.manifest(manifest.run_id).name, bare.replace(stand_in, text, 1).encode()


def _render_environment(environment: EnvironmentRecord) -> str:
    inner = environment.model_dump_json(indent=2).replace("\n", "\n  ")
    return f'\n  "environment": {inner}'


def _add_point(project: Project, manifest: RunManifest) -> RunManifest:
    from nexa_contracts.run import RunConfig

    point = find_point(project.run_dir(manifest.run_id))
    config = _find(project.config(manifest.run_id), RunConfig) if point else None
    return manifest if config is None else manifest.model_copy(update={"point": point, "config": config})


def _check_mirror(source: Path, data: bytes, target: Path) -> None:
    if target.read_bytes() != data:
        raise AlreadyExists(
            f"{target}: differs from {source}; a manifest never changes",
            hint="compare the two: one was edited, or two projects share the durable tier",
        )


def _create_once(path: Path, contract: Contract) -> bool:
    try:
        create_journaled(path, contract.to_json().encode())
    except AlreadyExists:
        return False
    return True


def _read(path: Path, schema: type[ContractT], *, what: str) -> ContractT:
    found = _find(path, schema)
    if found is None:
        raise NotFound(f"{what}: no file {path}", hint="`nexa runs` lists what there is")
    return found


def _find(path: Path, schema: type[ContractT]) -> ContractT | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror}") from error
    return schema.from_json(text, source=str(path))
