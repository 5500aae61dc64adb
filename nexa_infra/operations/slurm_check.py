"""Is Slurm ready for this project: there, answering, and of the limits that the site file names."""

from __future__ import annotations

from collections.abc import Iterator

from nexa_contracts.errors import ExternalError, NexaError
from nexa_contracts.resources import Resources
from nexa_contracts.site import SlurmSite
from nexa_contracts.units import format_count, parse_duration_s
from nexa_infra.operations.check import Check
from nexa_infra.operations.context import Context
from nexa_infra.scheduling.slurm.client import SlurmClient, SlurmLimits, SlurmMissing
from nexa_infra.scheduling.slurm.options import render_options
from nexa_infra.scheduling.slurm.partitions import explain_misfit, resolve_partition

_LONGEST_LOOK_S = 5.0
"""Where the site does not use Slurm."""


def check_slurm(context: Context) -> Iterator[Check]:
    """Yield what there is to say of Slurm; nothing where neither this machine nor the site file knows of it."""
    site = context.site.slurm
    is_wanted = context.site.backend == "slurm" or site != SlurmSite()
    timeout_s = parse_duration_s(site.answer_timeout) if is_wanted else _LONGEST_LOOK_S
    client = SlurmClient(context.runner, environment=context.environment, clock=context.clock, timeout_s=timeout_s)
    try:
        limits = client.read_limits()
    except SlurmMissing as error:
        if is_wanted:
            yield Check("slurm", "fail", error.message, error.hint)
        return
    except ExternalError as error:
        yield Check("slurm", "fail" if is_wanted else "warn", error.message, error.hint)
        return
    yield Check("slurm", "ok", _describe(limits))
    yield _check_site(resolve_partition(site, context.environment), client)
    yield _check_array(site, limits)


def _describe(limits: SlurmLimits) -> str:
    accounting = "with" if limits.has_accounting else "without"
    return f"{limits.version or 'of unknown version'}, cluster {limits.cluster or 'unnamed'}, {accounting} accounting"


def _check_site(site: SlurmSite, client: SlurmClient) -> Check:
    try:
        render_options(Resources(), site, job_name="check", output="check", export=())
        groups = client.list_partitions()
    except NexaError as error:
        return Check("slurm site", "fail", error.message, error.hint)
    misfit = explain_misfit(Resources(memory="1MiB", walltime="1s"), site, groups)
    if misfit is not None:
        return Check("slurm site", "fail", misfit, "see `sinfo -s`")
    names = sorted({group.partition for group in groups})
    chosen = site.partition or next((group.partition for group in groups if group.is_default), None)
    nodes = sum(group.nodes for group in groups if group.partition in (chosen or "").split(","))
    if chosen is None:
        return Check("slurm site", "warn", f"no default partition among {', '.join(names)}", "set slurm.partition")
    return Check("slurm site", "ok", f"partition {chosen}, {format_count(nodes, 'node')}")


def _check_array(site: SlurmSite, limits: SlurmLimits) -> Check:
    name, most = "slurm arrays", limits.max_array_size
    if most is not None and site.max_array_size is not None and site.max_array_size > most:
        found = (
            f"slurm.max_array_size: found {site.max_array_size}; allowed: at most {most}, the cluster's MaxArraySize"
        )
        return Check(name, "fail", found, "lower it, or leave it out")
    if limits.max_job_count is not None and (site.max_submitted or 0) > limits.max_job_count:
        found = f"slurm.max_submitted: found {site.max_submitted}; allowed: at most {limits.max_job_count}"
        return Check(name, "fail", f"{found}, the cluster's MaxJobCount", "lower it")
    size = site.max_array_size or most
    jobs = "unknown" if limits.max_job_count is None else str(limits.max_job_count)
    return Check(name, "ok", f"{size or 'an unknown number of'} tasks an array, {jobs} jobs in all")
