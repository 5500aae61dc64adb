"""What the partitions of a cluster have, and whether a job of some size can ever run there."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nexa_contracts.units import format_count, format_duration, format_size

if TYPE_CHECKING:
    from nexa_contracts.resources import Resources
    from nexa_contracts.site import SlurmSite

PARTITION_FIELDS = "%P|%D|%c|%m|%l|%G"
"""Of `sinfo -o`: name (the default one with a star), nodes, cores, MB, longest time, GPUs and the like. With `--Node`
there is a line for each node, whose name may follow."""
_LEAST_FIELDS = 6
_MIB = 1024**2
_GPUS = re.compile(r"gpu:(?:([^:(,]+):)?([0-9]+)")
_TIME = re.compile(r"(?:([0-9]+)-)?(?:([0-9]+):)?([0-9]+):([0-9]+)")


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one partition that have the same."""

    partition: str
    is_default: bool
    nodes: int
    cpus: int
    """At least."""
    memory_bytes: int
    """At least."""
    longest_s: float | None
    """None: no limit."""
    gpus: dict[str, int]
    """Of one node, by the type the cluster gives them."""


def parse_partitions(text: str, *, without: Collection[str] = ()) -> tuple[NodeGroup, ...]:
    """Return the groups of nodes in an answer of sinfo; a line that is none is left out.

    The node of a line that ends with a name in `without` does not count.
    """
    groups: list[NodeGroup] = []
    for line in text.splitlines():
        words = line.split("|")
        numbers = [re.match(r"[0-9]+", word) for word in words[1:4]]
        if len(words) < _LEAST_FIELDS or None in numbers:
            continue
        nodes, cpus, memory_mib = (int(number.group()) for number in numbers if number is not None)
        groups.append(
            NodeGroup(
                partition=words[0].removesuffix("*"),
                is_default=words[0].endswith("*"),
                nodes=0 if words[-1] in without else nodes,
                cpus=cpus,
                memory_bytes=memory_mib * _MIB,
                longest_s=_parse_time_s(words[4]),
                gpus=_count_gpus(words[5]),
            )
        )
    return tuple(groups)


def resolve_partition(site: SlurmSite, environment: Mapping[str, str]) -> SlurmSite:
    """Return the site with the partition that jobs get: its own, else that of SBATCH_PARTITION."""
    named = environment.get("SBATCH_PARTITION")
    return site.model_copy(update={"partition": named}) if named and site.partition is None else site


def explain_misfit(resources: Resources, site: SlurmSite, groups: Sequence[NodeGroup]) -> str | None:
    """Return why no node of the partition can ever run a job of this size; None when some can, or nothing is known.

    Jobs that can never run are taken by Slurm and wait for ever, unless a site sets EnforcePartLimits.
    """
    defaults = [each.partition for each in groups if each.is_default]
    names = defaults if site.partition is None else site.partition.split(",")
    known = {each.partition for each in groups}
    if not names or not groups:
        return None
    unknown = [name for name in names if name not in known]
    if unknown:
        return f"slurm.partition: found {unknown[0]}; allowed: {', '.join(sorted(known))}"
    reasons = [_explain(resources, site, name, [each for each in groups if each.partition == name]) for name in names]
    return None if None in reasons else f"{reasons[0]}{_tell_left_out(site)}"


def _tell_left_out(site: SlurmSite) -> str:
    if not site.exclude:
        return ""
    return f"; left out: {', '.join(site.exclude)} (slurm.exclude, or `nexa health quarantine list`)"


def _explain(resources: Resources, site: SlurmSite, name: str, groups: Sequence[NodeGroup]) -> str | None:
    longest_s = groups[0].longest_s
    if longest_s is not None and resources.walltime_s > longest_s:
        return (
            f"resources.walltime: found {resources.walltime}; allowed: at most {format_duration(longest_s)} in "
            f"partition {name}"
        )
    kind = site.gpu_types.get(resources.gpu_type or "") or None
    checks = (
        ("cpus", resources.cpus, max(each.cpus for each in groups)),
        ("gpus_per_node", resources.gpus_per_node, max(_gpus_of(each, kind) for each in groups)),
    )
    for key, asked, most in checks:
        if asked > most:
            return f"resources.{key}: found {asked}; allowed: at most {most} on a node of partition {name}"
    most_bytes = max(each.memory_bytes for each in groups)
    if resources.memory_bytes > most_bytes:
        return (
            f"resources.memory: found {resources.memory}; allowed: at most {format_size(most_bytes)} on a node of "
            f"partition {name}"
        )
    fitting = sum(each.nodes for each in groups if _fits(resources, kind, each))
    if resources.held_nodes <= fitting:
        return None
    spares = f" and {format_count(resources.spares, 'spare')}" if resources.spares else ""
    return (
        f"resources.nodes: found {resources.nodes}{spares}; allowed: at most {fitting} of this size in partition {name}"
    )


def _fits(resources: Resources, kind: str | None, group: NodeGroup) -> bool:
    return (
        resources.cpus <= group.cpus
        and resources.memory_bytes <= group.memory_bytes
        and resources.gpus_per_node <= _gpus_of(group, kind)
    )


def _gpus_of(group: NodeGroup, kind: str | None) -> int:
    return sum(count for name, count in group.gpus.items() if kind is None or name == kind)


def _count_gpus(text: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for kind, count in _GPUS.findall(text):
        counts[kind] = counts.get(kind, 0) + int(count)
    return counts


def _parse_time_s(text: str) -> float | None:
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
