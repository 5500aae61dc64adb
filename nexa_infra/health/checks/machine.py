"""What the kernel's figures of cores, memory, load and clock mean."""

from __future__ import annotations

import re

from nexa_contracts.health import CheckResult
from nexa_contracts.units import format_size
from nexa_infra.health.checks.finding import unknown
from nexa_infra.health.folders import Offset
from nexa_infra.health.sources import Sources

MAX_SKEW_S = 0.5
LEAST_MEMORY = 0.95
"""The kernel and the firmware keep some of what the maker states."""
MAX_LOAD_PER_CORE = 2.0
_KIB = 1024


def judge_cores(sources: Sources, *, stated: int | None) -> CheckResult:
    """Return whether as many cores are online as were stated."""
    threshold = "any" if stated is None else f"{stated} or more"
    cores = count_cores(sources)
    if cores is None:
        return unknown("cores", "/proc/stat shows no cores", threshold=threshold)
    return CheckResult(
        name="cores",
        result="ok" if stated is None or cores >= stated else "fail",
        measured=str(cores),
        threshold=threshold,
        evidence="/proc/stat",
    )


def judge_memory(sources: Sources, *, stated_bytes: int | None) -> CheckResult:
    """Return whether as much main memory is there as was stated."""
    threshold = "any" if stated_bytes is None else f"{format_size(LEAST_MEMORY * stated_bytes)} or more"
    match = re.search(r"^MemTotal:\s*(\d+) kB$", sources.read("meminfo") or "", re.MULTILINE)
    if match is None:
        return unknown("memory", "/proc/meminfo shows no MemTotal", threshold=threshold)
    total_bytes = int(match[1]) * _KIB
    is_enough = stated_bytes is None or total_bytes >= LEAST_MEMORY * stated_bytes
    return CheckResult(
        name="memory",
        result="ok" if is_enough else "fail",
        measured=format_size(total_bytes),
        threshold=threshold,
        evidence="/proc/meminfo",
    )


def judge_load(sources: Sources) -> CheckResult:
    """Return whether others keep the machine busy."""
    cores = count_cores(sources)
    threshold = f"at most {MAX_LOAD_PER_CORE:g} for each core"
    match = re.match(r"([0-9.]+) ", sources.read("loadavg") or "")
    if match is None or not cores:
        return unknown("load", "/proc/loadavg or /proc/stat cannot be read", threshold=threshold)
    load = float(match[1])
    return CheckResult(
        name="load",
        result="warn" if load > MAX_LOAD_PER_CORE * cores else "ok",
        measured=f"{load:g} on {cores} cores",
        threshold=threshold,
        evidence="/proc/loadavg, last minute",
    )


def judge_clock(offset: Offset, *, folder: str) -> CheckResult:
    """Return whether the clock agrees with that of the file server below a folder."""
    threshold = f"within {MAX_SKEW_S * 1000:g} ms of the file server of {folder}"
    if offset.offset_s is None:
        return unknown("clock", offset.words, threshold=threshold)
    # Only what is certain counts: a server that answered late may be the whole difference.
    surely_s = max(0.0, abs(offset.offset_s) - offset.error_s)
    if surely_s <= MAX_SKEW_S < abs(offset.offset_s) + offset.error_s:
        return unknown("clock", f"the server answered after {offset.error_s:.2f} s", threshold=threshold)
    return CheckResult(
        name="clock",
        result="fail" if surely_s > MAX_SKEW_S else "ok",
        measured=f"{offset.offset_s * 1000:+.0f} ms",
        threshold=threshold,
        evidence="time stamp of a file written there",
    )


def count_cores(sources: Sources) -> int | None:
    """Return the cores that are online; None when the kernel does not show them."""
    text = sources.read("stat")
    return None if text is None else len(re.findall(r"^cpu[0-9]+ ", text, re.MULTILINE)) or None
