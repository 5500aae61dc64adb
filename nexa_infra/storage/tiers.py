"""The tiers as they are on this machine: initialised, checked, measured.

A tier is the folder that was initialised, not the path: an unmounted disk leaves an empty folder with the right name,
and writing there would hide the data from everyone. The marker file tells them apart.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from nexa_contracts.clock import Clock
from nexa_contracts.errors import AlreadyExists, ConfigError, StorageError, TierMissing
from nexa_infra.storage.atomic import create_file, make_folder, storage_errors
from nexa_infra.storage.layout import TIER_MARKER, Project, Tiers

if TYPE_CHECKING:
    from nexa_contracts.site import TierPaths

logger = logging.getLogger(__name__)

TierName = Literal["scratch", "durable", "shared"]
TIER_NAMES: tuple[TierName, ...] = get_args(TierName)
_MARKER_BYTES = 4096


@dataclass(frozen=True, slots=True)
class TierUse:
    """What a tier holds and how much room its file system has."""

    name: TierName
    path: Path
    tier_id: str
    files: int
    size_bytes: int
    """Of the files' contents."""
    free_bytes: int
    total_bytes: int


def plan_tiers(paths: TierPaths, root: Path) -> Tiers:
    """Return where a site's tiers are; relative folders start at the project's root. Nothing is looked at.

    Raises:
        ConfigError: two tiers are the same folder, durable lies inside scratch, or one inside the folder of the runs.
    """
    chosen = {name: Path(os.path.normpath(root / Path(getattr(paths, name)).expanduser())) for name in TIER_NAMES}
    tiers = Tiers(**chosen)
    if len(set(chosen.values())) < len(chosen):
        raise ConfigError(f"tiers: found {_listed(tiers)}; allowed: three different folders")
    if tiers.durable.is_relative_to(tiers.scratch):
        raise ConfigError(
            f"tiers.durable: found {tiers.durable} inside scratch {tiers.scratch}; allowed: a folder outside scratch",
            hint="scratch dies with its node; durable is what stays",
        )
    runs = Project(root).runs
    for name, folder in chosen.items():
        if folder.is_relative_to(runs):
            raise ConfigError(f"tiers.{name}: found {folder}; allowed: a folder outside {runs}, which holds the runs")
    return tiers


def open_tiers(paths: TierPaths, root: Path, *, clock: Clock) -> Tiers:
    """Return a site's tiers, ready to be written; those the site does not name are made on first use.

    Raises:
        ConfigError: the folders exclude each other.
        TierMissing: a tier the site names is not there, or is another one.
        StorageError: a tier is read-only or broken.
    """
    tiers = plan_tiers(paths, root)
    for name in TIER_NAMES:
        if name not in paths.model_fields_set and not (_folder(tiers, name) / TIER_MARKER).exists():
            init_tier(tiers, name, clock=clock)
    return check_tiers(tiers)


def init_tiers(tiers: Tiers, *, clock: Clock) -> tuple[TierName, ...]:
    """Make every tier that is not there yet; return the names of those that were made now.

    Raises:
        TierMissing: a folder is initialised as another tier.
        StorageError: a folder cannot be written.
    """
    return tuple(name for name in TIER_NAMES if init_tier(tiers, name, clock=clock))


def init_tier(tiers: Tiers, name: TierName, *, clock: Clock) -> bool:
    """Make one tier: its folders, and the marker last. Return False when it was there.

    Raises:
        TierMissing: the folder is initialised as another tier.
        StorageError: the folder cannot be written.
    """
    folder = _folder(tiers, name)
    marker = folder / TIER_MARKER
    if not marker.exists():
        for part in _folders(tiers):
            if part.is_relative_to(folder):
                make_folder(part)
        content = {"schema_version": 1, "tier": name, "id": os.urandom(8).hex(), "created_at": clock.now().isoformat()}
        try:
            create_file(marker, (json.dumps(content) + "\n").encode())
            return True
        except AlreadyExists:
            logger.debug("tier was initialised by another process tier=%s", name)
    check_tier(tiers, name)
    return False


def check_tiers(tiers: Tiers, *, writable: bool = True) -> Tiers:
    """Return the tiers, each of which is there and can be written.

    Raises:
        TierMissing: one is not mounted, was never initialised, or is another tier.
        StorageError: one is read-only or broken.
    """
    for name in TIER_NAMES:
        check_tier(tiers, name, writable=writable)
    return tiers


def check_tier(tiers: Tiers, name: TierName, *, writable: bool = True) -> str:
    """Return the id of a tier that is there and can be written.

    Raises:
        TierMissing: it is not mounted, was never initialised, or is another tier.
        StorageError: it is read-only or broken.
    """
    folder = _folder(tiers, name)
    found, tier_id = _read_marker(folder, name)
    if found != name:
        raise TierMissing(
            f"tiers.{name}: {folder} is initialised as {found!r}; allowed: a folder initialised as {name}",
            hint="correct `tiers` in nexa.yaml",
        )
    if writable:
        with storage_errors(folder, "looking at the file system"):
            read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        if read_only or not os.access(folder, os.W_OK | os.X_OK):
            why = "mounted read-only" if read_only else "not writable for this user"
            raise StorageError(
                f"tiers.{name}: {folder} is {why}; allowed: a folder this user can write",
                hint="remount it, change its rights, or name another folder in nexa.yaml",
            )
    return tier_id


def describe_tiers(tiers: Tiers) -> tuple[TierUse, ...]:
    """Return what each tier holds; files that vanish meanwhile are not counted.

    Raises:
        TierMissing: one is not there.
        StorageError: one cannot be read.
    """
    return tuple(_measure(tiers, name) for name in TIER_NAMES)


def _measure(tiers: Tiers, name: TierName) -> TierUse:
    folder = _folder(tiers, name)
    tier_id = check_tier(tiers, name, writable=False)
    files = size_bytes = 0
    with storage_errors(folder, "measuring"):
        stack = [str(folder)]
        while stack:
            try:
                for entry in os.scandir(stack.pop()):
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        size_bytes += entry.stat(follow_symlinks=False).st_size
                        files += 1
            except FileNotFoundError:
                continue  # removed while we looked
        room = shutil.disk_usage(folder)
    return TierUse(name, folder, tier_id, files, size_bytes, room.free, room.total)


def _read_marker(folder: Path, name: TierName) -> tuple[str, str]:
    marker = folder / TIER_MARKER
    try:
        with storage_errors(marker, "reading"), marker.open("rb") as stream:
            raw = stream.read(_MARKER_BYTES)
    except StorageError as error:
        if not isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise
        why = f"{folder} has no marker {TIER_MARKER}" if folder.is_dir() else f"{folder} does not exist"
        raise TierMissing(
            f"tiers.{name}: {why}; it is not mounted, or was never initialised",
            hint="mount it; if it is new: nexa storage init",
        ) from error
    try:
        content = json.loads(raw)
        return str(content["tier"]), str(content["id"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise TierMissing(
            f"tiers.{name}: {marker} is not a tier's marker", hint="see whether this is the right folder"
        ) from error


def _folder(tiers: Tiers, name: TierName) -> Path:
    return {"scratch": tiers.scratch, "durable": tiers.durable, "shared": tiers.shared}[name]


def _folders(tiers: Tiers) -> tuple[Path, ...]:
    return (
        tiers.dataloader_cache,
        tiers.checkpoints_temp("x").parent,
        tiers.logs_temp("x").parent,
        tiers.wandb_offline,
        tiers.datasets,
        tiers.checkpoints,
        tiers.reports,
        tiers.outputs("x").parent,
        tiers.intents,
        tiers.dataset_manifests,
        tiers.snapshot("x").parent,
        tiers.audit,
        tiers.shared / "common_datasets",
        tiers.shared / "eval_prompts",
        tiers.active_jobs,
    )


def _listed(tiers: Tiers) -> str:
    return ", ".join(f"{name} {_folder(tiers, name)}" for name in TIER_NAMES)
