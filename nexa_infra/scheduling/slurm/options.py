"""The arguments of sbatch, each checked as a whole: no value of a config can become another option or a command."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nexa_contracts.errors import ConfigError
from nexa_contracts.slurm_words import NAMED, NODES, make_rule, shorten
from nexa_contracts.units import parse_duration_s

if TYPE_CHECKING:
    from nexa_contracts.resources import Resources
    from nexa_contracts.site import SlurmSite

_MIB = 1024**2
_EXPORT = "--export="
_LONGEST_SIGNAL_LEAD_S = 65_535
_MOST_OF_WALLTIME = 0.25
"""Of a job that may be spent on leaving."""
_SET_BY_NEXA = (
    "account", "array", "chdir", "clusters", "constraint", "cpus-per-gpu", "cpus-per-task", "dependency", "error",
    "exclude", "export", "export-file", "get-user-env", "gid", "gpus", "gpus-per-node", "gpus-per-socket",
    "gpus-per-task", "help", "input", "job-name", "mem", "mem-per-cpu", "mem-per-gpu", "no-requeue", "nodes", "ntasks",
    "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "open-mode", "output", "parsable",
    "partition", "qos", "quiet", "requeue", "signal", "test-only", "time", "uid", "usage", "verbose", "version",
    "wait", "wrap",
)  # fmt: skip
_FLAGS = frozenset({"contiguous", "exclusive", "overcommit", "oversubscribe", "reboot", "spread-job", "use-min-nodes"})
"""Options that may stand alone. Any other one without `=` would take the script's name for its value."""


_JOB_NAME = make_rule(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", "letters, digits, . _ -; 128 characters at most")
_GRES = make_rule(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}|", "one name of letters, digits, . _ + -, or nothing for any type")
_PATH = make_rule(
    r"(?:/|[A-Za-z0-9._%])(?:[A-Za-z0-9._%@+=~:,-]|/){0,1023}", "a path of letters, digits, / . _ % @ + = ~ : , -"
)
_PYTHON = make_rule(r"/[^\x00-\x1f\x7f]{0,1023}", "the path of a program, from / on")
_VARIABLE = make_rule(r"[A-Za-z_][A-Za-z0-9_]{0,254}", "names of environment variables")
_ARRAY = make_rule(
    r"[0-9]{1,9}(?:-[0-9]{1,9})?(?:,[0-9]{1,9}(?:-[0-9]{1,9})?)*(?:%[1-9][0-9]{0,8})?", "task ids as 0-99,104%8"
)
_JOB_ID = make_rule(r"[1-9][0-9]{0,9}", "the number of a job")
_EXTRA = make_rule(
    r"--([a-z][a-z0-9-]{1,63})(?:=([A-Za-z0-9/][A-Za-z0-9._/:,@%+=~()\[\]&|*-]{0,1023}))?",
    "--name=value without spaces, quotes, $, ; or a leading dash in the value",
)


def render_options(
    resources: Resources,
    site: SlurmSite,
    *,
    job_name: str,
    output: str,
    export: Sequence[str],
    array: str | None = None,
) -> tuple[str, ...]:
    """Return what stands between `sbatch` and the script.

    `output` is Slurm's own log, relative to the script's folder or absolute; `export` names the variables that the
    job gets from the environment of sbatch, and no others come along.

    Raises:
        ConfigError: a value is none that the option takes; names its key, what was found and what is allowed.
    Source: https://slurm.schedmd.com/sbatch.html
    """
    path = _PATH.check("output", output)
    if ".." in path.split("/"):
        raise ConfigError(f"output: found {shorten(path)}; allowed: a path without ..")
    names = ",".join(_VARIABLE.check("secrets", name) for name in export)
    return (
        f"--job-name={_JOB_NAME.check('job name', job_name)}",
        f"--output={path}",
        "--open-mode=append",  # a requeued job goes on in its own log
        f"--export={names or 'NIL'}",
        *_render_resources(resources, site),
        *_render_site(site, resources.walltime_s),
        *([] if array is None else [f"--array={_ARRAY.check('array', array)}"]),
        *check_extra(site.extra),
    )


def hand_on(
    options: Sequence[str], environment: Mapping[str, str], *, besides: Collection[str]
) -> tuple[dict[str, str], list[str]]:
    """Return the environment for sbatch that holds what a job is to get by name, and options that hand all of it on.

    Given names, Slurm starts a login on the node as well, for every task: whatever stands in a person's shell files is
    run there, holds the job up or breaks it. `besides` are names that sbatch itself needs.

    Source: https://slurm.schedmd.com/sbatch.html (--export, --get-user-env).
    """
    named = next((word for word in options if word.startswith(_EXPORT) and word != f"{_EXPORT}NIL"), None)
    if named is None:
        return dict(environment), list(options)
    names = {*named.removeprefix(_EXPORT).split(","), *besides}
    chosen = {name: value for name, value in environment.items() if name in names}
    return chosen, [f"{_EXPORT}ALL" if word is named else word for word in options]


def render_after(job_id: str) -> str:
    """Return the option that lets a job wait for the end of another, however it ends; of an array: of all its tasks."""
    return f"--dependency=afterany:{_JOB_ID.check('job id', job_id)}"


def render_warning(site: SlurmSite, walltime_s: float) -> str:
    """Return the signal that warns a job of its time limit, and how many seconds before: `USR1@120`.

    At most a quarter of the time limit before: a job shorter than the site's lead would be told to leave at once.

    Raises:
        ConfigError: that is earlier than Slurm takes.
    """
    lead_s = math.ceil(parse_duration_s(site.signal_lead))
    if lead_s > _LONGEST_SIGNAL_LEAD_S:
        raise ConfigError(f"slurm.signal_lead: found {site.signal_lead}; allowed: at most {_LONGEST_SIGNAL_LEAD_S}s")
    return f"{site.signal}@{max(1, min(lead_s, int(walltime_s * _MOST_OF_WALLTIME)))}"


def check_extra(words: Iterable[str]) -> tuple[str, ...]:
    """Return the words themselves when each is one option that is the site's own business.

    Raises:
        ConfigError: a word is no `--name=value`, or sets something that nexa sets, abbreviated or not.
    """
    checked: list[str] = []
    for place, word in enumerate(words):
        key = f"slurm.extra.{place}"
        match = _EXTRA.pattern.fullmatch(word)
        if match is None:
            raise ConfigError(f"{key}: found {shorten(word)}; allowed: {_EXTRA.allowed}")
        name, value = match.groups()
        # sbatch takes any beginning of a name that only one option has: --arr is --array.
        taken = next((own for own in _SET_BY_NEXA if own.startswith(name)), None)
        if taken is not None:
            raise ConfigError(
                f"{key}: found --{name}; allowed: options other than those that nexa sets itself, such as --{taken}",
                hint="resources, slurm.partition, slurm.account and the like set them",
            )
        if value is None and name not in _FLAGS:
            raise ConfigError(f"{key}: found {word} without a value; allowed alone: --{', --'.join(sorted(_FLAGS))}")
        checked.append(word)
    return tuple(checked)


def _render_resources(resources: Resources, site: SlurmSite) -> list[str]:
    options = [
        f"--nodes={resources.held_nodes}",
        "--ntasks-per-node=1",  # without it srun would not know that each node gets one
        f"--cpus-per-task={resources.cpus}",
        f"--mem={math.ceil(resources.memory_bytes / _MIB)}M",
        f"--time={_render_time(resources.walltime_s)}",
    ]
    if resources.gpus_per_node:
        options.append(f"--gpus-per-node={_render_gpus(resources, site)}")
    return options


def _render_gpus(resources: Resources, site: SlurmSite) -> str:
    if resources.share_gpus:
        raise ConfigError(
            "resources.share_gpus: found true; allowed on slurm: false",
            hint="slurm gives a GPU to one job; slurm.rows_per_task lets one job take many small runs",
        )
    if resources.gpu_type is None:
        return str(resources.gpus_per_node)
    if resources.gpu_type not in site.gpu_types:
        known = ", ".join(site.gpu_types) or "none yet"
        raise ConfigError(
            f"resources.gpu_type: found {shorten(resources.gpu_type)}; allowed on slurm: {known}",
            hint="say in slurm.gpu_types of the site file what the cluster calls it (`sinfo -o %G`), or '' for any GPU",
        )
    name = _GRES.check(f"slurm.gpu_types.{resources.gpu_type}", site.gpu_types[resources.gpu_type])
    return f"{name}:{resources.gpus_per_node}" if name else str(resources.gpus_per_node)


def _render_site(site: SlurmSite, walltime_s: float) -> list[str]:
    options = [
        f"--{name}={rule.check(f'slurm.{name}', value)}"
        for name, rule in NAMED.items()
        if (value := getattr(site, name)) is not None
    ]
    if site.python is not None:
        _PYTHON.check("slurm.python", site.python)  # an argument of ours and no option; a job would find out late
    if site.exclude:
        nodes = [NODES.check(f"slurm.exclude.{place}", node) for place, node in enumerate(site.exclude)]
        options.append(f"--exclude={','.join(nodes)}")
    # B: to the job entry alone, which tells its work; without it every process of the job would get it.
    return [*options, f"--signal=B:{render_warning(site, walltime_s)}", "--requeue" if site.requeue else "--no-requeue"]


def _render_time(seconds: float) -> str:
    minutes, second = divmod(math.ceil(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}-{hour:02d}:{minute:02d}:{second:02d}"
