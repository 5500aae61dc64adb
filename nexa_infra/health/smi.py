"""What `nvidia-smi` says of every GPU, for nodes without nvidia-ml-py; what it does not tell stays None, with why.

Source: nvidia-smi --help-query-gpu; `[N/A]` is its word for what a GPU does not have or does not say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from nexa_contracts.errors import ExternalError, UnreadableReply
from nexa_contracts.health import GpuReading, GpuReadings
from nexa_infra.health.sources import DRIVER_TIMEOUT_S, Sources
from nexa_infra.process import Completed

_MIB = 1024**2
_STYLE = "--format=csv,noheader,nounits"
_REFUSED = re.compile(r'Field "([\w.]+)" is not a valid field')
_RENAMED = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}
_LINK = re.compile(r"\s*Link\s+\d+:\s*(.+?)\s*")
_GPU_HEAD = re.compile(r"GPU\s+(\d+):.*")
NO_DEVICES = 6
DRIVER_GONE = 9
"""Source: nvidia-smi(1), return values: 6 a query found no object, 9 the driver is not loaded."""


def _words(text: str) -> str:
    if text.startswith("[") or text == "N/A":
        raise ValueError(text)
    return text


def _flag(text: str) -> bool:
    return {"yes": True, "no": False, "1": True, "0": False}[text.lower()]


def _mib(text: str) -> int:
    return int(text) * _MIB


def _mask(text: str) -> int:
    return int(text, 16)


_FIELDS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "index": ("index", int),
    "uuid": ("uuid", _words),
    "driver_version": ("driver", _words),
    "vbios_version": ("vbios", _words),
    "temperature.gpu": ("temperature_c", int),
    "clocks_event_reasons.active": ("throttle_mask", _mask),
    "ecc.errors.uncorrected.volatile.total": ("ecc_uncorrected", int),
    "ecc.errors.corrected.volatile.total": ("ecc_corrected", int),
    "retired_pages.pending": ("remap_pending", _flag),
    "pcie.link.width.current": ("pcie_width", int),
    "pcie.link.width.max": ("pcie_width_max", int),
    "memory.total": ("memory_total_bytes", _mib),
    "memory.used": ("memory_used_bytes", _mib),
    "name": ("name", _words),
}
"""By the name that nvidia-smi has: ours, and how its text is read. The name is last: it may hold a comma."""


def read_smi(sources: Sources) -> GpuReadings | None:
    """Return the readings; None when the driver is not loaded.

    Raises:
        CommandMissing: there is no nvidia-smi.
        CommandTimedOut: it hangs.
        ExternalError: it failed, or printed what cannot be read.
    """
    fields = list(_FIELDS)
    reply = _query(sources, fields)
    for _ in _FIELDS:
        refused = _REFUSED.search(reply.stdout + reply.stderr)
        if refused is None or refused[1] not in fields:
            break
        # An older driver: by the older name, or without.
        place = fields.index(refused[1])
        fields[place : place + 1] = [_RENAMED[refused[1]]] if refused[1] in _RENAMED else []
        reply = _query(sources, fields)
    if reply.returncode == DRIVER_GONE:
        return None
    if reply.returncode == NO_DEVICES or "No devices were found" in reply.stdout + reply.stderr:
        return GpuReadings(source="nvidia-smi")
    gpus, driver = parse_gpus(reply.require_success().stdout, fields)
    return GpuReadings(source="nvidia-smi", driver=driver, gpus=_with_more(sources, gpus))


def parse_gpus(text: str, fields: list[str]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the readings of each GPU, with why one is missing, and the driver's version.

    Raises:
        UnreadableReply: a line does not have the fields that were asked for.
    """
    known = {**_FIELDS, **{old: _FIELDS[new] for new, old in _RENAMED.items()}}
    gpus = []
    for line in filter(str.strip, text.splitlines()):
        if line.startswith("WARNING:"):
            continue  # of an infoROM, after the list
        values = [value.strip() for value in line.split(",", len(fields) - 1)]
        if len(values) != len(fields) or not values[0].isdecimal():
            raise UnreadableReply(f"nvidia-smi: found {line.strip()[:120]!r}; expected {len(fields)} fields")
        found: dict[str, Any] = {"missing": {}}
        for field, value in zip(fields, values, strict=True):
            _take(found, known[field], value)
        gpus.append(found)
    drivers = [driver for gpu in gpus if (driver := gpu.pop("driver", None))]
    return gpus, drivers[0] if drivers else None


def _take(found: dict[str, Any], field: tuple[str, Callable[[str], Any]], text: str) -> None:
    name, read = field
    try:
        found[name] = read(text)
    except (ValueError, KeyError):
        found["missing"][name] = f"nvidia-smi says {text}"


def _with_more(sources: Sources, gpus: list[dict[str, Any]]) -> tuple[GpuReading, ...]:
    _add_rows(gpus, _ask(sources, "--query-remapped-rows=gpu_uuid,remapped_rows.pending,remapped_rows.failure", _STYLE))
    _add_processes(gpus, _ask(sources, "--query-compute-apps=gpu_uuid,pid,used_gpu_memory", _STYLE))
    _add_links(gpus, _ask(sources, "nvlink", "-s"))
    return tuple(_complete(gpu) for gpu in gpus)


def _complete(gpu: Mapping[str, Any]) -> GpuReading:
    missing = {name: why for name, why in gpu["missing"].items() if name not in gpu}
    values = {name: value for name, value in gpu.items() if name != "missing"}
    return GpuReading(**values, missing=missing)


def _add_rows(gpus: list[dict[str, Any]], reply: str | ExternalError) -> None:
    for gpu in gpus:
        row = _find_rows(reply, gpu.get("uuid", ""))
        if row:
            _take(gpu, ("remap_pending", _flag), row[0][1])
            _take(gpu, ("remap_failed", _flag), row[0][2])
        elif isinstance(reply, ExternalError):
            gpu["missing"].update(remap_failed=reply.message)
        elif "remap_pending" in gpu:
            gpu["remap_failed"] = False  # before Ampere there are pages, and no rows
        else:
            gpu["missing"].setdefault("remap_pending", "nvidia-smi lists no rows")


def _add_processes(gpus: list[dict[str, Any]], reply: str | ExternalError) -> None:
    for gpu in gpus:
        if isinstance(reply, ExternalError):
            gpu["missing"]["processes"] = reply.message
            continue
        rows = [row for row in _find_rows(reply, gpu.get("uuid", "")) if row[1].isdecimal()]
        gpu["processes"] = tuple(
            {"pid": int(row[1]), "memory_bytes": _mib(row[2]) if row[2].isdecimal() else None} for row in rows
        )


def _add_links(gpus: list[dict[str, Any]], reply: str | ExternalError) -> None:
    by_index: dict[int, list[str]] = {}
    current: list[str] = []
    for line in "" if isinstance(reply, ExternalError) else reply.splitlines():
        if head := _GPU_HEAD.fullmatch(line):
            current = by_index.setdefault(int(head[1]), [])
        elif link := _LINK.fullmatch(line):
            current.append(link[1])
    for gpu in gpus:
        if isinstance(reply, ExternalError):
            gpu["missing"].update(nvlinks=reply.message)
            continue
        links = by_index.get(gpu["index"], [])
        gpu.update(nvlinks=len(links), nvlinks_up=sum("inactive" not in link for link in links))


def _find_rows(reply: str | ExternalError, uuid: str) -> list[list[str]]:
    lines = [] if isinstance(reply, ExternalError) else reply.splitlines()
    rows = [[cell.strip() for cell in line.split(",")] for line in lines]
    return [row for row in rows if len(row) == 3 and row[0] == uuid]


def _query(sources: Sources, fields: list[str]) -> Completed:
    return sources.run("nvidia-smi", f"--query-gpu={','.join(fields)}", _STYLE, timeout_s=DRIVER_TIMEOUT_S)


def _ask(sources: Sources, *words: str) -> str | ExternalError:
    try:
        return sources.run("nvidia-smi", *words, timeout_s=DRIVER_TIMEOUT_S).require_success().stdout
    except ExternalError as error:
        return error  # one question without an answer leaves the others
