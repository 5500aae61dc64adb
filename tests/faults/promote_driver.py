"""Promotions that are killed, or whose system calls fail, each followed by a judgement and a recovery.

`promote_driver.py FOLDER --mode calls --faults KILL,EIO,ENOSPC` strikes at the system calls of one promotion;
`--mode kills --rounds N` kills at random moments. One JSON line a round on stdout, the last one sums up.

Each round is a forked child, so that modules are loaded and only the promotion's own calls are counted. strace is
attached to it, and counts calls by thread.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from nexa_contracts.clock import SystemClock
from nexa_contracts.errors import NexaError
from nexa_infra.process import SystemRunner
from nexa_infra.storage.artifacts import find_artifact
from nexa_infra.storage.layout import Tiers
from nexa_infra.storage.promote import ArtifactLabel, promote_folder
from nexa_infra.storage.promoter import Inbox, serve
from nexa_infra.storage.promoter_messages import PromoterRequest, render_line
from nexa_infra.storage.recovery import recover_promotions
from nexa_infra.storage.seal import seal_folder, verify_seal
from nexa_infra.storage.tiers import init_tiers

RUN_ID = "run_20260102_030405_test"
STEP = 100
LABEL = ArtifactLabel.of_checkpoint(RUN_ID, STEP)
CHANGING = (
    "write pwrite64 writev mkdir mkdirat rmdir link linkat unlink unlinkat rename renameat renameat2 fsync fdatasync "
    "syncfs ftruncate flock sync_file_range copy_file_range sendfile chmod fchmod"
)
READING = (
    "open openat read readv pread64 close stat fstat lstat newfstatat statx lseek getdents64 statfs fstatfs "
    "fadvise64 readlink access faccessat faccessat2 fcntl ioctl"
)
CLOCK = SystemClock()
DONE, SAID_SO, SURPRISED = 0, 1, 2


@dataclass(frozen=True)
class Round:
    """What one strike did."""

    strike: str
    ending: str
    """done, error (a NexaError), surprise (another exception), killed."""
    visible: bool
    problems: tuple[str, ...]


def main() -> int:
    options = parse_options()
    root = Path(options.folder)
    root.mkdir(parents=True, exist_ok=True)
    warm_up(root)
    counts: Counter[str] = Counter()
    rounds = strike_calls(root, options) if options.mode == "calls" else strike_randomly(root, options)
    for done in rounds:
        counts["rounds"] += 1
        counts[done.ending] += 1
        counts["visible"] += done.visible
        counts["with_problems"] += bool(done.problems)
        print(json.dumps(asdict(done)), flush=True)
    print(json.dumps({"summary": counts}))
    return 1 if counts["with_problems"] or not counts["rounds"] else 0


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--mode", choices=("calls", "kills", "promoter-kills"), default="calls")
    parser.add_argument("--faults", default="KILL,EIO,ENOSPC")
    parser.add_argument("--all-calls", action="store_true", help="calls that only read, too")
    parser.add_argument("--only", help="strike at this call only")
    parser.add_argument("--every", type=int, default=1, help="strike at every n-th of the calls")
    parser.add_argument("--files", type=int, default=1, help="one file keeps the copy on one thread")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=17)
    return parser.parse_args()


def strike_calls(root: Path, options: argparse.Namespace) -> Iterator[Round]:
    wanted = options.only or (f"{CHANGING} {READING}" if options.all_calls else CHANGING)
    strikes = [
        (call, number, fault)
        for call, most in sorted(list_calls(root, wanted, options.files).items())
        for number in range(1, most + 1)
        for fault in options.faults.split(",")
    ]
    for call, number, fault in strikes[options.seed % options.every :: options.every]:
        how = "signal=KILL" if fault == "KILL" else f"error={fault}"
        tiers, source = prepare(root, options.files)
        inject = ("-e", f"trace={call}", "-e", f"inject={call}:{how}:when={number}")
        status = run_traced(partial(promote, source, tiers), inject, root / "strace.log")
        yield judge(f"{call}#{number} {fault}", status, tiers, source)


def strike_randomly(root: Path, options: argparse.Namespace) -> Iterator[Round]:
    chance = random.Random(options.seed)
    work = promote if options.mode == "kills" else promote_through_promoter
    spans = []
    for _ in range(5):
        tiers, source = prepare(root, 4, large=True)
        started_s = time.monotonic()
        run_child(partial(work, source, tiers))
        spans.append(time.monotonic() - started_s)
    longest_s = sorted(spans)[-1] * 1.1
    for number in range(options.rounds):
        tiers, source = prepare(root, 4, large=True)
        delay_s = chance.uniform(0, longest_s)
        status = run_child(partial(work, source, tiers), kill_after_s=delay_s)
        yield judge(f"kill#{number} after {delay_s * 1000:.1f} ms", status, tiers, source)


def list_calls(root: Path, wanted: str, files: int) -> dict[str, int]:
    """How often the busiest thread makes each call."""
    tiers, source = prepare(root, files)
    log = root / "strace.log"
    run_traced(partial(promote, source, tiers), ("-e", "trace=" + ",".join(f"?{call}" for call in wanted.split())), log)
    made = Counter(re.findall(r"^(\d+) +(\w+)\(", log.read_text(), re.MULTILINE))
    most: dict[str, int] = {}
    for (_, call), count in made.items():
        most[call] = max(count, most.get(call, 0))
    return most


def prepare(root: Path, files: int, large: bool = False) -> tuple[Tiers, Path]:
    shutil.rmtree(root / "tiers", ignore_errors=True)
    tiers = Tiers(root / "tiers/scratch", root / "tiers/durable", root / "tiers/shared")
    init_tiers(tiers, clock=CLOCK)
    source = tiers.checkpoints_temp(RUN_ID) / f"checkpoint-{STEP}"
    (source / "state").mkdir(parents=True)
    for number in range(files):
        path = source / ("state" if number % 2 else ".") / f"part-{number}.bin"
        path.write_bytes(os.urandom(6_000_000 if large and number == 0 else 3_000 + number))
    seal_folder(source, kind="checkpoint", run_id=RUN_ID, step=STEP, now=CLOCK.now())
    return tiers, source


def promote(source: Path, tiers: Tiers) -> None:
    promote_folder(source, LABEL, tiers=tiers, clock=CLOCK)


def promote_through_promoter(source: Path, tiers: Tiers) -> None:
    request = PromoterRequest.of_checkpoint(source, run_id=RUN_ID, step=STEP, promote=True, keep_last=1)
    reader, writer = os.pipe()
    os.write(writer, render_line(1, request))
    os.close(writer)
    with os.fdopen(reader, "rb") as asked, Path(os.devnull).open("wb") as answers:
        serve(Inbox(asked), answers, tiers=tiers, clock=CLOCK)


def run_child(work: Callable[[], None], *, kill_after_s: float | None = None) -> int:
    """The wait status of a forked child that does the work."""
    child = os.fork()
    if child == 0:
        os._exit(attempt(work))
    if kill_after_s is not None:
        time.sleep(kill_after_s)
        os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1]


def run_traced(work: Callable[[], None], inject: tuple[str, ...], log: Path) -> int:
    """As `run_child`, from the moment on that strace watches it."""
    gate, opener = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(opener)
        os._exit(attempt(partial(pass_gate, gate, work)))
    os.close(gate)
    command = ("strace", "-f", "-qq", "-o", str(log), "-p", str(child), *inject)
    complaints = log.with_suffix(".err")
    tracer = SystemRunner().start(command, output=complaints)
    try:
        while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{child}/status").read_text():
            if tracer.poll() is not None:
                if complaints.read_text():
                    raise SystemExit(f"strace does not work here: {complaints.read_text()}")
                break  # the strike hit the gate itself, before we saw that strace was there
            time.sleep(0.001)
    finally:
        os.close(opener)
        status = os.waitpid(child, 0)[1]
        tracer.wait()
    return status


def pass_gate(gate: int, work: Callable[[], None]) -> None:
    with suppress(OSError):  # the first read that strace sees, so a strike may hit it
        os.read(gate, 1)
    work()


def attempt(work: Callable[[], None]) -> int:
    try:
        work()
    except NexaError:
        return SAID_SO
    except BaseException as error:  # noqa: BLE001 - the child of a fork must not go on as its parent
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        return SURPRISED
    return DONE


def judge(strike: str, status: int, tiers: Tiers, source: Path) -> Round:
    """Look at what a strike left, recover, and look again."""
    code = os.waitstatus_to_exitcode(status)
    ending = {DONE: "done", SAID_SO: "error", SURPRISED: "surprise"}.get(code, "killed")
    problems = ["not a NexaError"] if ending == "surprise" else []
    target = tiers.checkpoint(LABEL.name)
    visible = target.exists()
    if visible:
        problems += check("visible and not whole", lambda: verify_seal(target))
    if ending == "done" and (not visible or find_artifact(tiers, LABEL.name) is None):
        problems.append("reported as done and not there")
    problems += check("the source was harmed", lambda: verify_seal(source))
    problems += check("recovery failed", lambda: recover_promotions(tiers, clock=CLOCK, temporary_age_s=-60))
    if target.exists() != (find_artifact(tiers, LABEL.name) is not None):
        problems.append("after recovery: visible and manifest disagree")
    if visible and not target.exists():
        problems.append("after recovery: what was visible is gone")
    expected = {f"checkpoints/{LABEL.name}", f"manifests/artifact_{LABEL.name}.json"} if target.exists() else set()
    problems += [f"after recovery: {path} is left" for path in sorted(list_left(tiers) - expected)]
    problems += check("cannot be promoted afterwards", lambda: promote(source, tiers))
    problems += check("promoted afterwards and not whole", lambda: verify_seal(target))
    return Round(strike, ending, visible, tuple(problems))


def check(problem: str, work: Callable[[], object]) -> list[str]:
    try:
        work()
    except NexaError as error:
        return [f"{problem}: {error}"]
    return []


def list_left(tiers: Tiers) -> set[str]:
    folders = (tiers.checkpoints, tiers.intents, tiers.durable_manifests)
    kept = {tiers.intents, tiers.dataset_manifests, tiers.audit, tiers.durable_manifests / "snapshots"}
    return {str(path.relative_to(tiers.durable)) for folder in folders for path in folder.iterdir() if path not in kept}


def warm_up(root: Path) -> None:
    # Modules that are loaded on first use are loaded here, so that no strike hits the loading of code.
    tiers, source = prepare(root, 3, large=True)
    promote(source, tiers)
    promote_through_promoter(source, tiers)
    recover_promotions(tiers, clock=CLOCK)
    check("a missing source", lambda: promote_folder(root / "none", LABEL, tiers=tiers, clock=CLOCK))


if __name__ == "__main__":
    sys.exit(main())
