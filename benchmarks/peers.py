"""Peers, each installed from the registry into an environment of its own below `.bench/peers`."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PINS: dict[str, tuple[str, ...]] = {
    "submitit": ("submitit==1.5.4",),
    # Its argument parser needs pkg_resources, which later releases of setuptools do not have.
    "torchx": ("torchx==0.7.0", "setuptools<81"),
    # It does not bound leptonai, whose later releases it cannot import.
    "NeMo-Run": ("nemo_run==0.11.1", "leptonai==0.27.3"),
    "wandb": ("wandb==0.31.0",),
    "mlflow-skinny": ("mlflow-skinny==3.17.2",),
    "dstack": ("dstack==0.22.5",),
    "scikit-learn": ("scikit-learn==1.7.2",),
}


def install_peer(name: str) -> Path | None:
    """Return the Python that has a peer; None when it cannot be installed, which is said."""
    packages = PINS[name]
    folder = ROOT / ".bench" / "peers" / name
    python, marker = folder / "bin" / "python", folder / "installed"
    if marker.is_file() and marker.read_text() == " ".join(packages):
        return python
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=True)
    done = subprocess.run([python, "-m", "pip", "install", "-qq", *packages], check=False, stdout=sys.stderr)
    if done.returncode != 0:
        print(f"{name}: {packages[0]} does not install on Python {platform.python_version()}; left out")
        return None
    marker.write_text(" ".join(packages))
    return python
