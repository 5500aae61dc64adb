"""The datasets a launch names: found, made when they are built in, and checked against their digests."""

from __future__ import annotations

from collections.abc import Iterable

from nexa_contracts.dataset import DatasetManifest, DatasetRef
from nexa_contracts.errors import NotFound
from nexa_contracts.run import RunConfig
from nexa_infra.operations.context import Context
from nexa_infra.storage.datasets import describe_ref, find_dataset, verify_dataset
from nexa_infra.storage.sources import BUILT_IN_SOURCES, ensure_source

CHECKED_AT_LAUNCH_BYTES = 1024**3
"""Larger datasets are checked in the job, before training; hashing them here would keep a person waiting."""


def resolve_datasets(context: Context, configs: Iterable[RunConfig], *, write: bool) -> dict[str, DatasetRef]:
    """Return the version and digest of every dataset the configs name, by that name.

    With `write`, a built-in dataset that is not there yet is made; without, it is left out of the answer.

    Raises:
        NotFound: no such dataset.
        DigestMismatch: a file is not the one that was registered.
    """
    names = dict.fromkeys(config.data.dataset for config in configs if config.data is not None)
    found: dict[str, DatasetRef] = {}
    for name in names:
        manifest = _resolve(context, name, write=write)
        if manifest is None:
            continue
        if sum(file.size_bytes for file in manifest.files) <= CHECKED_AT_LAUNCH_BYTES:
            verify_dataset(context.tiers, manifest)
        found[name] = describe_ref(manifest)
    return found


def _resolve(context: Context, name: str, *, write: bool) -> DatasetManifest | None:
    if name in BUILT_IN_SOURCES and write:
        return ensure_source(context.tiers, name, clock=context.clock)
    try:
        return find_dataset(context.tiers, name)
    except NotFound:
        if name in BUILT_IN_SOURCES:
            return None
        raise
