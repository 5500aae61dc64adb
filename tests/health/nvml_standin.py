"""NVML without a GPU: the stand-in library where there is a C compiler, else what the reader printed with it.

`python -m tests.health.nvml_standin` writes the recordings anew.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from nexa_infra.process import Completed, SystemRunner

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
READER = (sys.executable, "-m", "nexa_infra.health.nvml_reader")
SCENES = {
    "healthy": "count 2\n",
    "none": "count 0\n",
    "no_driver": "init_error 9\n",
    "broken": "init_error 999\n",
    "hot": "count 2\n1 temp 88\n",
    "slowed": "0 throttle 104\n",
    "capped": "0 throttle 4\n",
    "ecc": "0 uncorrected 3\n0 remap_pending 1\n",
    "no_ecc": "0 unsupported ecc,remap,retired\n",
    "volta": "0 unsupported remap\n0 retired_pending 1\n",
    "corrected": "0 corrected 5000\n",
    "link_down": "count 2\n1 nvlink_down 7\n",
    "no_links": "0 unsupported nvlink\n",
    "narrow": "0 width 8\n",
    "replays": "0 replays 12\n",
    "busy": "0 pid 1\n",
    "left": "0 used 40960\n",
    "lost": "count 2\n1 lost 1\n",
    "no_handle": "count 2\n0 no_handle 1\n",
}
"""What the library is told, by name."""


@dataclass(frozen=True, slots=True)
class NvmlScenes:
    """Answers of the NVML reader by scene."""

    library: Path | None
    """The folder of the library that was built; None where there is no compiler."""

    def read(self, scene: str) -> Completed:
        """Return how the reader ended in a scene."""
        if self.library is None:
            return Completed(0, _recording(scene).read_text(encoding="utf-8"))
        with tempfile.TemporaryDirectory() as folder:
            state = Path(folder) / "state"
            state.write_text(SCENES[scene], encoding="utf-8")
            return SystemRunner().run(READER, timeout_s=60, cwd=ROOT, env=self.environment(state))

    def environment(self, state: Path) -> dict[str, str]:
        """Return what makes a process meet the stand-in, with the state in a file."""
        return {**os.environ, "LD_LIBRARY_PATH": str(self.library), "STANDIN_NVML": str(state)}


@cache
def find_compiler() -> str | None:
    return shutil.which("cc") or shutil.which("gcc")


def build(folder: Path) -> NvmlScenes:
    """Return scenes that are played by the library, where it can be built; else the recordings."""
    compiler = find_compiler()
    if compiler is None:
        return NvmlScenes(None)
    source, library = HERE / "standin_nvml.c", folder / "libnvidia-ml.so.1"
    argv = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)]
    SystemRunner().run(argv, timeout_s=120).require_success()
    return NvmlScenes(folder)


def _recording(scene: str) -> Path:
    return HERE / "recorded" / f"nvml_{scene}.json"


def record() -> None:
    """Write what the reader prints in each scene."""
    with tempfile.TemporaryDirectory() as folder:
        scenes = build(Path(folder))
        for scene in SCENES:
            said = scenes.read(scene).require_success().stdout
            _recording(scene).write_text(json.dumps(json.loads(said)) + "\n", encoding="utf-8")


if __name__ == "__main__":
    record()
