"""The names of the environment variables we read or set, and what of the environment may be recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping

SITE_FILE = "NEXA_SITE"
"""Path of the site file; overrides the search from the working folder upwards."""
STATE_DIR = "NEXA_STATE_DIR"
"""Folder of this user's local queue; default is $XDG_STATE_HOME/nexa or ~/.local/state/nexa."""
DEBUG = "NEXA_DEBUG"
"""Set: the command line shows the traceback of an error."""
RUN_ID = "NEXA_RUN_ID"
SWEEP_ID = "NEXA_SWEEP_ID"
RUN_DIR = "NEXA_RUN_DIR"
PROJECT_DIR = "NEXA_PROJECT_DIR"
"""Root of the project a job was launched from; its code runs from a snapshot, its ignored files lie there."""
RUN_CONFIG = "NEXA_RUN_CONFIG"
"""Path of the resolved run config (JSON) inside a job."""
ATTEMPT = "NEXA_ATTEMPT"
"""Number of this attempt inside a job, from 1."""
SCRATCH_DIR = "NEXA_SCRATCH_DIR"
DURABLE_DIR = "NEXA_DURABLE_DIR"
SHARED_DIR = "NEXA_SHARED_DIR"
RESUME_FROM = "NEXA_RESUME_FROM"
"""Run id whose checkpoints a run goes on from; empty when it starts afresh."""
AXOLOTL = "NEXA_AXOLOTL"
"""The axolotl program, which lives in an environment of its own; default is the first on PATH."""
RESUME_CHECKPOINT = "NEXA_RESUME_CHECKPOINT"
"""Folder of the checkpoint that a program of one's own goes on from; empty when it starts afresh."""
JOB_TOKEN = "NEXA_JOB_TOKEN"  # noqa: S105 - the name of a variable
"""Random mark carried by every process of a job, by which its whole tree is found when it must end."""
FENCE = "NEXA_FENCE"
"""`<token>:<run's folder>` where another attempt may start while this one still lives; see storage/fence.py."""

HEALTH = "NEXA_HEALTH"
"""What the nodes of a distributed job are checked for before its processes start: a HealthPlan as JSON, on its way from
the job entry to the nodes. The program does not get it."""

_CREDENTIAL = re.compile(
    r"(?i)(?:^|_)(?:key|keys|tokens|pwd|pass|auth|authorization|cookie|pat|dsn|connection_string|webhook|private)"
    r"(?:$|_|[0-9])"
    # These stand inside a longer word too (PGPASSWORD, clientSecret, GITHUBTOKEN), but not TOKENIZERS_PARALLELISM.
    r"|password|passwd|passphrase|secret|credential|api_?key|access_?key|token(?:$|_|[0-9])"
)
# Repetitions before a mark are bounded: unbounded ones look through the rest of a long text from each of its letters.
_URL_WITH_USER = re.compile(r"[a-z][a-z0-9+.-]{0,31}://[^/\s:@]+:[^/\s@]+@", re.IGNORECASE)
_TOKEN_SHAPE = re.compile(
    r"(?:hf_[A-Za-z0-9]{20,}|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{30,}|sk-[A-Za-z0-9_-]{20,}|"
    r"AKIA[0-9A-Z]{16}|ASIA[0-9A-Z]{16}|xox[abprs]-[A-Za-z0-9-]{10,}|glpat-[A-Za-z0-9_-]{20}|"
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|eyJ[A-Za-z0-9_-]{15,500}\.[A-Za-z0-9_-]{15,}\.)"
)
RECORDED_PREFIXES = (
    "NEXA_", "CUDA_", "NCCL_", "TORCH_", "PYTORCH_", "OMP_", "MKL_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "SLURM_",
    "WANDB_", "MLFLOW_", "TRACKIO_",
)  # fmt: skip
PRESENT = "(present, not recorded)"


def looks_like_credential(name: str, value: str) -> bool:
    """Whether a variable's name or value looks like a secret; errs on the side of yes."""
    return _CREDENTIAL.search(name) is not None or holds_secret_text(value)


def holds_secret_text(text: str) -> bool:
    """Whether a text contains something of the shape of a known kind of secret."""
    return ("://" in text and _URL_WITH_USER.search(text) is not None) or _TOKEN_SHAPE.search(text) is not None


def record_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that shape a run, sorted; one that looks like a credential is named but not shown."""
    return {
        name: PRESENT if looks_like_credential(name, value) else value
        for name, value in sorted(environment.items())
        if name.startswith(RECORDED_PREFIXES) and name != JOB_TOKEN
    }
