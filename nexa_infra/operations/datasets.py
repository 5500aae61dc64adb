"""The datasets a launch names: found, made when they are built in, and checked against their digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nexa_contracts.dataset import DatasetManifest, DatasetRef
from nexa_contracts.errors import NotFound
from nexa_contracts.run import RunConfig
from nexa_infra.operations.context import Context

CHECKED_AT_LAUNCH_BYTES = 1024**3
"""Larger datasets are checked in the job, before training; hashing them here would keep a person waiting."""


def resolve_datasets(context: Context, names: Sequence[str], *, write: bool) -> dict[str, DatasetRef]:
    """Return the version and digest of every dataset that configs name, by that name.

    With `write`, a built-in dataset that is not there yet is made; without, it is left out of the answer.

    Raises:
        NotFound: no such dataset.
        DigestMismatch: a file is not the one that was registered.
    """
    if not names:
        return {}
    from nexa_infra.storage.datasets import (
        describe_ref,
        verify_dataset,
    )  # 5 ms that a command of one's own need not pay

    found: dict[str, DatasetRef] = {}
    for name in names:
        manifest = _resolve(context, name, write=write)
        if manifest is None:
            continue
        if sum(file.size_bytes for file in manifest.files) <= CHECKED_AT_LAUNCH_BYTES:
            verify_dataset(context.tiers, manifest)
        found[name] = describe_ref(manifest)
    return found


def pin_dataset(config: RunConfig, found: Mapping[str, DatasetRef]) -> RunConfig:
    """Return a config that names its dataset with the version that was found.

    A version that is registered while the run waits must not reach it: its manifest says what it trains on.
    """
    data = config.data
    if data is None or data.dataset not in found:
        return config
    return config.model_copy(update={"data": data.model_copy(update={"dataset": found[data.dataset].label})})


def pin_newest(context: Context, config: RunConfig) -> RunConfig:
    """Return a config that names its dataset with the newest registered version; nothing is made or checked.

    Raises:
        NotFound: no such dataset.
    """
    from nexa_infra.storage.datasets import describe_ref

    data = config.data
    manifest = None if data is None else _resolve(context, data.dataset, write=False)
    return config if data is None or manifest is None else pin_dataset(config, {data.dataset: describe_ref(manifest)})


def _resolve(context: Context, name: str, *, write: bool) -> DatasetManifest | None:
    from nexa_infra.storage.datasets import find_dataset
    from nexa_infra.storage.sources import BUILT_IN_SOURCES, ensure_source

    if name in BUILT_IN_SOURCES and write:
        return ensure_source(context.tiers, name, clock=context.clock)
    try:
        return find_dataset(context.tiers, name)
    except NotFound:
        if name in BUILT_IN_SOURCES:
            return None
        raise
