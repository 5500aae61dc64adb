"""Is this machine, and this project, ready: one finding a check, with what to do."""

from __future__ import annotations

import importlib.util
import os
import platform
import sys
from collections.abc import Iterator

from nexa_contracts.errors import NexaError, TierMissing
from nexa_contracts.site import TierPaths
from nexa_contracts.units import format_count, format_size
from nexa_infra.operations.check import Check
from nexa_infra.operations.context import Context
from nexa_infra.operations.slurm_check import check_slurm
from nexa_infra.storage.index import open_index
from nexa_infra.storage.tiers import check_tiers, describe_tiers

_LOW_SPACE_BYTES = 5 * 1024**3
_LOW_PROJECT_BYTES = 100 * 1024**2
"""Records and logs are small."""
_STACK = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors")
_EXTRAS = {"train": _STACK, "plot": ("matplotlib", "plotext")}


def examine(context: Context) -> Iterator[Check]:
    """Yield the checks of this machine and project, one at a time."""
    yield Check("python", "ok", f"{platform.python_version()} at {sys.executable}")
    yield _program(context, "git", ["git", "--version"])
    yield _program(context, "gpu driver", ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"])
    for extra, modules in _EXTRAS.items():
        yield _extra(extra, modules)
    yield _project(context)
    yield from _tiers(context)
    yield _index(context)
    yield from check_slurm(context)


def _program(context: Context, name: str, argv: list[str]) -> Check:
    try:
        reply = context.runner.run(argv, timeout_s=10.0).require_success()
    except NexaError as error:
        return Check(name, "warn", error.message, error.hint)
    return Check(name, "ok", reply.stdout.strip().replace("\n", ", "))


def _extra(extra: str, modules: tuple[str, ...]) -> Check:
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        return Check(
            f"extra {extra}", "warn", f"not installed: {', '.join(missing)}", f"pip install 'nexa-compute[{extra}]'"
        )
    return Check(f"extra {extra}", "ok", ", ".join(modules))


def _project(context: Context) -> Check:
    folder = context.project.runs if context.project.runs.is_dir() else context.project.root
    try:
        room = os.statvfs(folder)
    except OSError as error:
        return Check("project", "fail", f"{folder}: {error.strerror}")
    if room.f_flag & os.ST_RDONLY or not os.access(folder, os.W_OK | os.X_OK):
        why = "mounted read-only" if room.f_flag & os.ST_RDONLY else "not writable for this user"
        return Check("project", "fail", f"{folder} is {why}", "runs can be looked at; make it writable to launch any")
    free_bytes = room.f_bavail * room.f_frsize
    is_low = room.f_blocks > 0 and free_bytes < _LOW_PROJECT_BYTES
    found = f"{folder}, {format_size(free_bytes)} free"
    return Check("project", "warn" if is_low else "ok", found, "free some space" if is_low else None)


def _tiers(context: Context) -> Iterator[Check]:
    try:
        check_tiers(context.tiers)
    except NexaError as error:
        if isinstance(error, TierMissing) and context.site.tiers == TierPaths():
            yield Check("tiers", "ok", f"not made yet in {context.tiers.durable.parent}; the first launch makes them")
        else:
            yield Check("tiers", "fail", error.message, error.hint or "nexa storage init")
        return
    for tier in describe_tiers(context.tiers):
        low = tier.free_bytes < _LOW_SPACE_BYTES
        found = (
            f"{tier.path}, {format_size(tier.size_bytes)} in {format_count(tier.files, 'file')}, "
            f"{format_size(tier.free_bytes)} free"
        )
        yield Check(f"tier {tier.name}", "warn" if low else "ok", found, "free some space" if low else None)


def _index(context: Context) -> Check:
    with open_index(context.project) as index:
        problems, count = index.problems, index.count_runs()
    if problems:
        return Check("manifests", "warn", f"{len(problems)} cannot be read: {problems[0]}", "restore them from git")
    return Check("manifests", "ok", format_count(count, "run"))
