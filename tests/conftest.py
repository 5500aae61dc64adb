"""What every test stands on: an environment without this user's settings, a home of its own, a closed network."""

from __future__ import annotations

import ipaddress
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Variables of these families change what our programs do, or carry credentials; GIT_ because a hook sets GIT_DIR.
FOREIGN_PREFIXES = (
    "NEXA_", "WANDB_", "MLFLOW_", "TRACKIO_", "HF_", "HUGGING", "TRANSFORMERS_", "SLURM_", "SBATCH_", "TORCHELASTIC_",
    "CUDA_", "NCCL_", "OMP_", "MKL_", "AWS_", "GOOGLE_", "AZURE_", "GIT_", "XDG_", "COMET_", "CLEARML_",
)  # fmt: skip
FOREIGN_NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "PYTHONPATH", "COLUMNS", "NO_COLOR")
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "MPLBACKEND": "Agg",
    "GIT_AUTHOR_NAME": "Test Author",
    "GIT_AUTHOR_EMAIL": "author@example.invalid",
    "GIT_COMMITTER_NAME": "Test Author",
    "GIT_COMMITTER_EMAIL": "author@example.invalid",
    "GIT_CONFIG_NOSYSTEM": "1",
}

# No example has a deadline: a busy machine must not fail a test that is right.
settings.register_profile("nexa", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
_HOME = pytest.StashKey[tempfile.TemporaryDirectory[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before a test module is imported: huggingface_hub reads it when it is imported."""
    settings.load_profile("nexa")
    for name in list(os.environ):
        if name.startswith(FOREIGN_PREFIXES) or name in FOREIGN_NAMES:
            del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="nexa-home-", ignore_cleanup_errors=True)
    config.stash[_HOME] = home
    os.environ.update(SETTINGS)
    os.environ.update(HOME=home.name, XDG_STATE_HOME=f"{home.name}/.local/state", NEXA_STATE_DIR=f"{home.name}/nexa")
    sys.addaudithook(_refuse_far_connections)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the home of this session."""
    config.stash[_HOME].cleanup()


@pytest.fixture(autouse=True)
def state_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a local queue of its own, so that no test sees another one's jobs."""
    folder = tmp_path_factory.mktemp("state", numbered=True)
    monkeypatch.setenv("NEXA_STATE_DIR", str(folder))
    return folder


def _refuse_far_connections(event: str, args: tuple[Any, ...]) -> None:
    # An audit hook, because it needs no patch of socket and holds for every library of this process.
    if event != "socket.connect":
        return
    address = args[1]
    if not isinstance(address, tuple) or not isinstance(address[0], str):
        return  # a Unix socket
    host = address[0]
    if host not in ("", "localhost") and not _is_loopback(host):
        raise ConnectionRefusedError(f"tests may not connect to {host}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
