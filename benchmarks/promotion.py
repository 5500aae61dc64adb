"""How fast a promotion is, digests, flushes and verification included, against copying with the system's own tools.

Three trees (one large file, a checkpoint, many small files) are promoted from a sealed folder and copied by each peer,
in turn, so that what else the machine does hits all alike: `python benchmarks/promotion.py [--rounds N] [--json FILE]`.
Peers: `cp -r` then `sync -f`; the same and then `sha256sum` of the copy; the same with the digest by hashlib, which
uses the processor's SHA instructions where `sha256sum` may not.
"""

from __future__ import annotations

import argparse
import hashlib
import mmap
import os
import random
import resource
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import write_figures

from nexa_contracts.clock import SystemClock
from nexa_contracts.units import format_size
from nexa_infra.process import SystemRunner
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.seal import seal_folder
from nexa_infra.storage.tiers import init_tiers

CLOCK = SystemClock()
RUNNER = SystemRunner()
RUN_ID = "run_20260102_030405_base"
TIMEOUT_S = 3600.0
MIB = 1024 * 1024
OURS = "promote_folder"
SYNCED, SUMMED, HASHED = "cp -r, sync -f", "cp -r, sync -f, sha256sum", "cp -r, sync -f, hashlib"
Method = Callable[[Tiers, Path], None]


def main() -> None:
    """Measure, print a table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size-mib", type=int, default=1536, help="of the one large file")
    parser.add_argument("--folder", type=Path, default=None, help="on the file system to measure")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    trees: dict[str, list[int]] = {
        "one large file": [options.size_mib * MIB],
        "a checkpoint": [300 * MIB, 300 * MIB, 400 * MIB, *[64 * 1024] * 20],
        "2,000 small files": [20_000] * 2000,
    }
    with tempfile.TemporaryDirectory(prefix="nexa-promotion-", dir=options.folder) as name:
        folder = Path(name)
        results = {tree: measure(folder, sizes, options.rounds) for tree, sizes in trees.items()}
        mounted = RUNNER.run(["stat", "-f", "-c", "%T", name], timeout_s=30).stdout.strip()
    show(results)
    figures = {"rounds": options.rounds, "trees": results, "file_system": mounted, "load_1_min": os.getloadavg()[0]}
    write_figures("promotion", figures, options.json)


def measure(folder: Path, sizes: list[int], rounds: int) -> dict[str, Any]:
    """Return the seconds of every method in every round, and how often faster we are than each peer."""
    tiers = Tiers(folder / "scratch", folder / "durable", folder / "shared")
    init_tiers(tiers, clock=CLOCK)
    source = make_source(tiers, sizes)
    methods: dict[str, Method] = {OURS: promote, SYNCED: copy, SUMMED: copy_and_sum, HASHED: copy_and_hash}
    wall_s: dict[str, list[float]] = {name: [] for name in methods}
    cpu_s: dict[str, list[float]] = {name: [] for name in methods}
    chance = random.Random(17)
    for number in range(rounds + 1):
        for name in chance.sample(list(methods), len(methods)):
            wall, cpu = time_one(methods[name], tiers, source)
            if number:  # the first round warms the caches
                wall_s[name].append(round(wall, 3))
                cpu_s[name].append(round(cpu, 3))
    shutil.rmtree(folder / "scratch")
    ratios = {
        name: round(
            statistics.median(theirs / ours for theirs, ours in zip(wall_s[name], wall_s[OURS], strict=True)), 2
        )
        for name in methods
        if name != OURS
    }
    return {
        "size_bytes": sum(sizes),
        "files": len(sizes),
        "median_s": {name: statistics.median(seconds) for name, seconds in wall_s.items()},
        "best_s": {name: min(seconds) for name, seconds in wall_s.items()},
        "median_cpu_s": {name: statistics.median(seconds) for name, seconds in cpu_s.items()},
        "our_speed_times_theirs": ratios,
        "wall_s": wall_s,
    }


def time_one(method: Method, tiers: Tiers, source: Path) -> tuple[float, float]:
    """Return the wall and CPU seconds of one copy onto an idle disk; what it wrote is removed."""
    os.sync()
    touch_memory(2 * sum(path.stat().st_size for path in source.rglob("*")))
    before_cpu_s, before_s = used_cpu_s(), CLOCK.monotonic_s()
    method(tiers, source)
    wall, cpu = CLOCK.monotonic_s() - before_s, used_cpu_s() - before_cpu_s
    shutil.rmtree(tiers.durable)
    init_tiers(tiers, clock=CLOCK)
    return wall, cpu


def touch_memory(size_bytes: int) -> None:
    """Have the hypervisor back as much memory as the page cache will take, for every method alike.

    A virtual machine gives freed memory back to its host; whoever writes next then pays for getting it again, which
    made equal runs differ by a factor of four.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
    mmap.mmap(-1, size_bytes, flags=flags).close()


def promote(tiers: Tiers, source: Path) -> None:
    """Promote the sealed folder: copy, digests, comparison with the seal, flushes, rename, manifest."""
    promote_folder(source, ArtifactLabel.of_model(RUN_ID), tiers=tiers, clock=CLOCK)


def copy(tiers: Tiers, source: Path) -> None:
    """Copy and flush, as a careful person does by hand."""
    target = str(tiers.checkpoint(RUN_ID))
    RUNNER.run(["cp", "-r", str(source), target], timeout_s=TIMEOUT_S).require_success()
    RUNNER.run(["sync", "-f", target], timeout_s=TIMEOUT_S).require_success()


def copy_and_sum(tiers: Tiers, source: Path) -> None:
    """Copy, flush, and take the digests of the copy with sha256sum."""
    copy(tiers, source)
    command = ["find", str(tiers.checkpoint(RUN_ID)), "-type", "f", "-exec", "sha256sum", "{}", "+"]
    RUNNER.run(command, timeout_s=TIMEOUT_S).require_success()


def copy_and_hash(tiers: Tiers, source: Path) -> None:
    """Copy, flush, and take the digests of the copy with Python's hashlib."""
    copy(tiers, source)
    for path in sorted(tiers.checkpoint(RUN_ID).rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                hashlib.file_digest(stream, "sha256").hexdigest()


def make_source(tiers: Tiers, sizes: list[int]) -> Path:
    """Return a sealed folder with files of these sizes and random content."""
    source = tiers.checkpoints_temp(RUN_ID) / "final"
    for number, size in enumerate(sizes):
        path = source / f"part-{number % 7}" / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            for start in range(0, size, 64 * MIB):
                stream.write(os.urandom(min(64 * MIB, size - start)))
    seal_folder(source, kind="model", run_id=RUN_ID, step=None, now=CLOCK.now())
    return source


def used_cpu_s() -> float:
    """Return the CPU seconds of this process and of the programs it waited for."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def show(results: dict[str, Any]) -> None:
    """Print one line a method; the last column says how often faster we are."""
    for tree, result in results.items():
        print(f"\n{tree}: {format_size(result['size_bytes'])} in {result['files']} files")
        print(f"  {'':28} {'median':>9} {'best':>9} {'cpu':>9}   ours against it")
        for name, median_s in result["median_s"].items():
            ratio = result["our_speed_times_theirs"].get(name)
            against = "" if ratio is None else f"{ratio:5.2f}x"
            best_s, cpu_s = result["best_s"][name], result["median_cpu_s"][name]
            print(f"  {name:28} {median_s:7.2f} s {best_s:7.2f} s {cpu_s:7.2f} s   {against}")


if __name__ == "__main__":
    main()
