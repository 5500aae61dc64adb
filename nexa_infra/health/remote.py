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
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail

_LIST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[0-9,-]+\][A-Za-z0-9._-]*)*(?:,(?=[A-Za-z0-9]))?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")
_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,:&|()\[\]*-]{0,252}")
_CHECK_S = 300.0
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
    if not text or "".join(match[0] for match in _LIST.finditer(text)) != text or text.endswith(","):
        raise ConfigError(f"--nodes: found {text!r:.120}; allowed: names such as n1,n2 or, with Slurm, n[1-4]")
    if "[" not in text:
        return tuple(dict.fromkeys(text.split(",")))
    reply = sources.run("scontrol", "show", "hostnames", text).require_success()
    names = tuple(dict.fromkeys(reply.stdout.split()))
    if not names or not all(_WORD.fullmatch(name) for name in names):
        raise ConfigError(f"--nodes: scontrol makes {tail(reply.stdout)!r:.120} of {text!r:.120}")
    return names


def check_nodes(cluster: Cluster, nodes: Sequence[str], request: HealthRequest) -> tuple[HealthReport, ...]:
    """Return a report for each node, in order; one that gives none is `unknown`, with the reason.

    Raises:
        CommandMissing: there is no srun here.
        ConfigError: the site file names a partition or the like that is no word.
    """
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, max(1, len(nodes)))) as pool:
        return tuple(pool.map(lambda node: _check_one(cluster, request.model_copy(update={"node": node})), list(nodes)))


def render_srun(cluster: Cluster, request: HealthRequest) -> tuple[str, ...]:
    """Return the command that checks one node; its values are arguments, and no shell reads them.

    Raises:
        ConfigError: a value is no word.
    """
    site = cluster.site
    named = {"partition": site.partition, "account": site.account, "qos": site.qos, "constraint": site.constraint}
    options = [f"--{name}={_checked(name, value)}" for name, value in named.items() if value is not None]
    options += [f"--gpus-per-node={request.gpus}"] if request.gpus else []
    options += ["--overlap"] if cluster.inside_job else [f"--immediate={cluster.queue_s}", "--time=10"]
    return (
        "srun",
        "--nodes=1",
        "--ntasks=1",
        f"--nodelist={_checked('nodelist', request.node)}",
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
    return unreachable(cluster.sources, request, f"srun ended with status {reply.returncode}: {said}")


def unreachable(sources: Sources, request: HealthRequest, why: str) -> HealthReport:
    """Return the report of a node that could not be asked."""
    check = CheckResult(name="node", result="unknown", threshold="runs the checks", evidence=why)
    return HealthReport(node=request.node, made_at=sources.clock.now(), checks=(check,))


def _checked(name: str, value: str) -> str:
    if not (_WORD if name == "nodelist" else _OPTION).fullmatch(value):
        raise ConfigError(f"slurm.{name}: found {value!r:.120}; allowed: a name of letters, digits, . _ and -")
    return value
