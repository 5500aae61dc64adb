"""What Slurm's error messages mean: it is not set up, it did not answer, or it said no and what helps."""

from __future__ import annotations

_ABSENT = ("could not establish a configuration source", "unable to process configuration file")
_SILENT = (
    "unable to contact slurm controller",
    "socket timed out",
    "zero bytes were transmitted",
    "communication connection failure",
    "communication shutdown failure",
    "connection refused",
    "connection reset",
    "connection timed out",
    "no route to host",
    "network is unreachable",
    "broken pipe",
    "transport endpoint",
    "header lengths are longer than data received",
    "message receive failure",
    "message send failure",
    "in standby mode",
    "munge encode failed",
    "munge decode failed",
    "failed to access \"",
    "authentication credential",
    "resource temporarily unavailable",
    "slurmdbd",
    "temporarily unable to",
)  # fmt: skip
_ENDED = ("invalid job id specified", "already completing or completed", "no active jobs match")
_HINTS = (
    ("partition name", "set slurm.partition of the site file to one that `sinfo -s` lists"),
    ("account or account/partition", "set slurm.account of the site file; `sacctmgr show assoc` lists yours"),
    ("job array specification", "larger than MaxArraySize: set slurm.max_array_size of the site file to it"),
    ("submit limit", "wait for jobs to end, or set slurm.max_submitted or slurm.rows_per_task of the site file"),
    ("submitjob", "wait for jobs to end, or set slurm.max_submitted or slurm.rows_per_task of the site file"),
    ("qos", "set slurm.qos of the site file; `sacctmgr show assoc format=qos` lists yours"),
    ("feature specification", "set slurm.constraint of the site file to features that `sinfo -o %f` lists"),
    ("node name", "set slurm.exclude of the site file to nodes that `sinfo -N` lists"),
    ("generic resource", "compare resources.gpus_per_node and slurm.gpu_types with `sinfo -o %G`"),
    ("time limit", "ask for less resources.walltime; `sinfo -o '%P %l'` lists the limits"),
    ("node configuration", "ask for less in resources; `sinfo -o '%P %c %m %G'` lists cores, MB and GPUs of the nodes"),
    ("node count", "ask for fewer resources.nodes; `sinfo -s` counts them"),
    ("processors", "ask for fewer resources.cpus; `sinfo -o '%P %c'` lists the cores of the nodes"),
    ("memory", "ask for less resources.memory; `sinfo -o '%P %m'` lists the MB of the nodes"),
    ("unrecognized option", "take the option out of slurm.extra of the site file"),
    ("group not permitted", "ask the cluster's administrators, or set another slurm.partition in the site file"),
    ("invalid job id", "the controller does not know it any more"),
    ("presently disabled", "the job was submitted with slurm.requeue: false"),
)  # fmt: skip


def is_absent(said: str) -> bool:
    """Whether a command could not even find out which cluster it belongs to."""
    return _holds(said, _ABSENT)


def is_silence(said: str) -> bool:
    """Whether a command got no answer, so that its error says nothing about jobs."""
    return _holds(said, _SILENT)


def is_all_ended(said: str) -> bool:
    """Whether scancel complains about nothing but jobs that have ended, or that the controller does not know."""
    lines = [line.lower() for line in said.splitlines() if line.strip()]
    return bool(lines) and all(any(words in line for words in _ENDED) for line in lines)


def find_hint(said: str) -> str | None:
    """Return what a person can do about a refusal; None for one that is not known here."""
    lowered = said.lower()
    return next((hint for words, hint in _HINTS if words in lowered), None)


def _holds(said: str, phrases: tuple[str, ...]) -> bool:
    lowered = said.lower()
    return any(phrase in lowered for phrase in phrases)
