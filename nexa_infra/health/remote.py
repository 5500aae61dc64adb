"""The checks on other nodes of a Slurm cluster, through srun; each is asked apart, so that none holds up another."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from nexa_contracts.errors import CommandMissing, ConfigError, ExternalError
from nexa_contracts.health import CheckResult, HealthReport, HealthRequest
from nexa_contracts.site import SlurmSite
from nexa_contracts.slurm_words import NAMED, NODE, NODES
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail

_LIST = re.compile(r"(?:[^,\[\]]|\[[^\[\]]*\])+")
"""One entry of a list: a comma inside brackets is no end."""
_CHECK_S = 300.0
_BUSY = "Requested nodes are busy"
_FLAGS = "*~#!%$@+^-"
"""What sinfo puts behind a state."""
_CLOSED = frozenset({"down", "drained", "draining", "fail", "failing", "maint", "unknown", "powered_down", "future"})
"""States in which a node gets no job. Source: https://slurm.schedmd.com/sinfo.html (node state codes)."""
_MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Cluster:
    """How srun is asked for a node."""

    sources: Sources
    site: SlurmSite
    inside_job: bool = False
    """Steps run beside what the job does already."""
    queue_s: int = 60
    """How long a node that is busy or down is waited for."""


def expand_nodes(sources: Sources, text: str) -> tuple[str, ...]:
    """Return the names in a node list such as `n1,n[3-5]`, each once, in order.

    Raises:
        ConfigError: it is no list of node names.
        CommandMissing: it has ranges, and Slurm, which knows what they mean, is not here.
    """
    parts = _LIST.findall(text)
    if not parts or ",".join(parts) != text or not all(NODES.pattern.fullmatch(part) for part in parts):
        raise ConfigError(f"--nodes: found {text!r:.120}; allowed: names such as n1,n2 or, with Slurm, n[1-4]")
    if "[" not in text:
        return tuple(dict.fromkeys(parts))
    reply = sources.run("scontrol", "show", "hostnames", text).require_success()
    names = tuple(dict.fromkeys(reply.stdout.split()))
    if not names or not all(NODE.pattern.fullmatch(name) for name in names):
        raise ConfigError(f"--nodes: scontrol makes {tail(reply.stdout)!r:.120} of {text!r:.120}")
    return names


def check_nodes(cluster: Cluster, nodes: Sequence[str], request: HealthRequest) -> tuple[HealthReport, ...]:
    """Return a report for each node, in order; one that gives none is `unknown`, with the reason.

    A node that Slurm gives no job to is not waited for.

    Raises:
        CommandMissing: there is no srun here.
        ConfigError: the site file names a partition or the like that is no word.
    """
    closed = {} if cluster.inside_job else _ask_closed(cluster.sources, nodes)

    def check(node: str) -> HealthReport:
        asked = request.model_copy(update={"node": node})
        return unreachable(cluster.sources, asked, closed[node]) if node in closed else _check_one(cluster, asked)

    with ThreadPoolExecutor(min(_MOST_AT_ONCE, max(1, len(nodes)))) as pool:
        return tuple(pool.map(check, list(nodes)))


def render_srun(cluster: Cluster, request: HealthRequest) -> tuple[str, ...]:
    """Return the command that checks one node; its values are arguments, and no shell reads them.

    Raises:
        ConfigError: a value is no word.
    """
    site = cluster.site
    options = [
        f"--{name}={rule.check(f'slurm.{name}', value)}"
        for name, rule in NAMED.items()
        if (value := getattr(site, name)) is not None
    ]
    options += [f"--gpus-per-node={request.gpus}"] if request.gpus else []
    options += ["--overlap"] if cluster.inside_job else [f"--immediate={cluster.queue_s}", "--time=10"]
    return (
        "srun",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={NODE.check('slurm.nodelist', request.node)}",
        "--job-name=nexa-health",
        "--quiet",
        "--input=none",
        *options,
        site.python or sys.executable,
        "-m",
        "nexa_infra.health.node_check",
        request.model_dump_json(),
    )


def _check_one(cluster: Cluster, request: HealthRequest) -> HealthReport:
    argv = render_srun(cluster, request)
    try:
        reply = cluster.sources.runner.run(argv, timeout_s=cluster.queue_s + _CHECK_S)
    except CommandMissing:
        raise
    except ExternalError:
        return unreachable(cluster.sources, request, f"no answer in {cluster.queue_s + _CHECK_S:g} s")
    for line in reversed(reply.stdout.splitlines()):
        if line.startswith("{"):
            try:
                return HealthReport.from_json(line, source=request.node)
            except ConfigError as error:
                return unreachable(cluster.sources, request, error.message)
    said = tail(reply.stderr) or tail(reply.stdout) or "printed nothing"
    if not cluster.inside_job and _BUSY in said:
        why = f"in use: not free within {cluster.queue_s} s, so nothing is known of it ({said})"
        return unreachable(cluster.sources, request, why)
    return unreachable(cluster.sources, request, f"srun ended with status {reply.returncode}: {said}")


def _ask_closed(sources: Sources, nodes: Sequence[str]) -> dict[str, str]:
    """Return why Slurm gives those of these nodes no job that it gives none; nothing where it does not answer."""
    names = ",".join(NODE.check("slurm.nodelist", node) for node in nodes)
    try:
        reply = sources.run("sinfo", "--noheader", "--Node", "--format=%N|%T|%E", f"--nodes={names}")
    except ExternalError:
        return {}
    lines = (line.split("|", 2) for line in reply.stdout.splitlines())
    found = {words[0]: (words[1], words[2].strip()) for words in lines if len(words) == 3}
    return {
        node: f"Slurm says that it is {state.rstrip(_FLAGS)}" + ("" if why in ("", "none") else f": {why}")
        for node, (state, why) in found.items()
        if state.rstrip(_FLAGS) in _CLOSED
    }


def unreachable(sources: Sources, request: HealthRequest, why: str) -> HealthReport:
    """Return the report of a node that could not be asked."""
    check = CheckResult(name="node", result="unknown", threshold="runs the checks", evidence=why)
    return HealthReport(node=request.node, made_at=sources.clock.now(), checks=(check,))
