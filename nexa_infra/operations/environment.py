"""The machine and the packages a run is launched with, as its manifest records them."""

from __future__ import annotations

import getpass
import os
import platform
import re
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

from nexa_contracts.env import AXOLOTL, record_environment
from nexa_contracts.errors import ExternalError
from nexa_contracts.run import EnvironmentRecord, GpuRecord
from nexa_infra.process import CommandRunner

_SMI_QUERY = ["nvidia-smi", "--query-gpu=name,memory.total,uuid,driver_version", "--format=csv,noheader,nounits"]
_SMI_TIMEOUT_S = 10.0
_HEAD_BYTES = 1024
"""Of a distribution's metadata, which begin with its name and version."""
_INHERITED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LC_[A-Z]+|TZ|TMPDIR|SHELL|VIRTUAL_ENV|CONDA_PREFIX|PYTHONPATH|LD_LIBRARY_PATH|"
    r"XDG_[A-Z_]+|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|no_proxy|NO_PROXY"
)


def read_environment(environment: Mapping[str, str], *, runner: CommandRunner) -> EnvironmentRecord:
    """Return what can be known of this machine without loading a training stack; unknown fields are None."""
    driver, gpus = _read_gpus(runner)
    return EnvironmentRecord(
        hostname=socket.gethostname(),
        platform=platform.platform(),
        python=platform.python_version(),
        python_executable=sys.executable,
        cpu=_cpu_model(),
        cpu_count=os.cpu_count(),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        driver=driver,
        gpus=gpus,
        packages=_packages(),
        variables=record_environment(environment),
    )


def job_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a job inherits from whoever launches it: what programs need to run, and no credential."""
    recorded = record_environment(environment)
    kept = {name: value for name, value in environment.items() if _INHERITED.fullmatch(name)}
    kept.update({name: environment[name] for name, value in recorded.items() if value == environment[name]})
    return {name: value for name, value in sorted(kept.items()) if not name.startswith("NEXA_") or name == AXOLOTL}


def user_and_host() -> str:
    """Return who launches, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # no passwd entry, as in a container with a foreign uid
        user = f"uid{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _packages() -> dict[str, str]:
    # What importlib.metadata finds, in a tenth of its time: that one parses the whole of each file as an e-mail.
    found: dict[str, str] = {}
    for folder in dict.fromkeys(sys.path):
        try:
            listed = list(Path(folder).iterdir())
        except OSError:
            continue  # not every word of the search path is a folder
        for path in listed:
            if path.name.endswith(".dist-info"):
                head = _read_head(path / "METADATA")
            elif path.name.endswith(".egg-info"):
                head = _read_head(path / "PKG-INFO") or _read_head(path)
            else:
                continue
            if "name" in head and "version" in head:
                found.setdefault(head["name"], head["version"])  # the first on the path is the one that is imported
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def _read_head(path: Path) -> dict[str, str]:
    try:
        with path.open("rb", buffering=0) as stream:
            text = stream.read(_HEAD_BYTES).decode(errors="replace").replace("\r\n", "\n")
    except OSError:
        return {}
    fields = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {key.lower(): value.strip() for key, _, value in fields if key.lower() in {"name", "version"}}


def _cpu_model() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or None
    return platform.processor() or None


def _read_gpus(runner: CommandRunner) -> tuple[str | None, tuple[GpuRecord, ...]]:
    try:
        reply = runner.run(_SMI_QUERY, timeout_s=_SMI_TIMEOUT_S)
    except ExternalError:
        return None, ()
    if reply.returncode != 0:
        return None, ()
    return parse_smi(reply.stdout)


def parse_smi(text: str) -> tuple[str | None, tuple[GpuRecord, ...]]:
    """Return the driver's version and the GPUs in a reply of nvidia-smi; a field it does not know becomes None."""
    driver: str | None = None
    gpus: list[GpuRecord] = []
    for line in text.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != 4 or not fields[0]:
            continue
        name, memory, uuid, version = fields
        memory_gib = round(float(memory) / 1024, 1) if re.fullmatch(r"[0-9]+(\.[0-9]+)?", memory) else None
        gpus.append(GpuRecord(name=name, memory_gib=memory_gib, uuid=uuid or None))
        driver = driver or version or None
    return driver, tuple(gpus)
