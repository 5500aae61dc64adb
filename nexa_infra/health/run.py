"""All checks of one node, one after another, as a report."""

from __future__ import annotations

import re
from pathlib import Path

from nexa_contracts.errors import StorageError
from nexa_contracts.health import CheckResult, HealthReport, HealthRequest, NodeFacts
from nexa_infra.health.checks.disk import judge_folder
from nexa_infra.health.checks.driver import judge_count, judge_driver, judge_xids
from nexa_infra.health.checks.gpu import judge_gpus
from nexa_infra.health.checks.machine import judge_clock, judge_cores, judge_load, judge_memory
from nexa_infra.health.dcgm import NAME as DIAGNOSIS
from nexa_infra.health.dcgm import diagnose
from nexa_infra.health.facts import digest_environment, digest_folder, list_vbios
from nexa_infra.health.folders import choose_folders, list_mounts, read_folders, read_offset
from nexa_infra.health.gpus import assigned, read_gpus
from nexa_infra.health.kernel_log import read_kernel_log
from nexa_infra.health.sources import Sources
from nexa_infra.health.speed import judge_speed, measure_speed

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def check_node(sources: Sources, request: HealthRequest) -> HealthReport:
    """Return what the checks find on this node; a check that cannot run says `unknown`, and none raises."""
    gpu_checks, facts = _check_gpus(sources, request)
    checks = [*gpu_checks, *_check_folders(sources, request)]
    checks += [
        judge_memory(sources, stated_bytes=request.memory_bytes),
        judge_cores(sources, stated=request.cpus),
        judge_load(sources),
    ]
    if request.clock_folder is not None:
        offset = read_offset(sources, Path(request.clock_folder))
        checks.append(judge_clock(offset, folder=request.clock_folder))
        facts = facts.model_copy(update={"clock_offset_s": offset.offset_s})
    return HealthReport(
        node=request.node,
        made_at=sources.clock.now(),
        checks=tuple(check for check in checks if not _is_skipped(check.name, request)),
        accepted=request.accept_unknown,
        facts=facts.model_copy(
            update={
                "environment_digest": digest_environment(),
                "code_digest": _digest_code(request.code),
                "container_digest": request.container_digest,
            }
        ),
    )


def _check_gpus(sources: Sources, request: HealthRequest) -> tuple[list[CheckResult], NodeFacts]:
    visible = sources.environment.get(_VISIBLE)
    if request.gpus == 0 or (request.gpus is None and visible == ""):
        return [], NodeFacts()
    answer = read_gpus(sources)
    is_bare = answer.state == "absent" or (answer.state == "answered" and not answer.readings.gpus)
    if is_bare and not request.gpus:
        return [], NodeFacts()  # none asked for, and none here
    gpus, absent = assigned(answer.readings, visible)
    checks = [judge_driver(answer), judge_count(answer, gpus, wanted=request.gpus or 1, absent=absent)]
    checks.append(judge_xids(read_kernel_log(sources)))
    # Without an answer every reading is unknown, which no GPU stands for.
    checks += judge_gpus(gpus, source=answer.words, owner=lambda pid: describe_owner(sources, pid))
    names = tuple(gpu.name for gpu in gpus)
    facts = NodeFacts(driver=answer.readings.driver, gpu_names=names, vbios=list_vbios(gpus))
    # What loads the GPUs comes last, and never onto a driver that does not answer.
    if answer.state != "answered":
        return checks, facts
    return _check_under_work(sources, request, checks, facts)


def _check_under_work(
    sources: Sources, request: HealthRequest, checks: list[CheckResult], facts: NodeFacts
) -> tuple[list[CheckResult], NodeFacts]:
    diagnosis = None if _is_skipped(DIAGNOSIS, request) else diagnose(sources)
    if diagnosis is not None:
        checks.append(diagnosis)
    if request.measure_speed:
        speeds, words = measure_speed(sources)
        checks.append(judge_speed(speeds, request.baseline, gpu_names=facts.gpu_names, words=words))
        facts = facts.model_copy(update={"speeds": speeds})
    return checks, facts


def _is_skipped(name: str, request: HealthRequest) -> bool:
    return name in request.skip or name.partition(" ")[0] in request.skip


def _check_folders(sources: Sources, request: HealthRequest) -> list[CheckResult]:
    mounts = list_mounts(sources)
    answers = read_folders(sources, choose_folders(request.folders, mounts))
    return [judge_folder(answer, mounts=mounts) for answer in answers]


def _digest_code(folder: str | None) -> str | None:
    try:
        return None if folder is None else digest_folder(Path(folder))
    except StorageError:
        return None  # unknown, which no node may join with where code is compared


def describe_owner(sources: Sources, pid: int) -> str:
    """Return whose a process is and what it is called, as ` of alice (python)`; empty when the kernel hides it."""
    status = sources.read(f"{pid}/status") or ""
    name, uid = re.search(r"^Name:\s*(.+)$", status, re.MULTILINE), re.search(r"^Uid:\s*(\d+)", status, re.MULTILINE)
    if name is None or uid is None:
        return ""
    return f" of {_user_name(int(uid[1]))} ({name[1]})"


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
