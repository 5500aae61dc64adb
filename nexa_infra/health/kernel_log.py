"""XIDs, the driver's error numbers, in the kernel's log since the machine started.

Source: https://docs.nvidia.com/deploy/xid-errors/
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nexa_contracts.errors import ExternalError
from nexa_infra.health.sources import Sources
from nexa_infra.process import tail

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<device>[0-9A-Fa-f:.]+)[^)]*\): (?P<number>\d+)")
_TOOLS = (("dmesg",), ("journalctl", "-k", "-b", "--no-pager", "-q", "-o", "short-iso"))
MAX_LINES = 3


@dataclass(frozen=True, slots=True)
class Xid:
    """One error the driver reported."""

    number: int
    device: str
    """The GPU's place on the PCI bus."""
    line: str


@dataclass(frozen=True, slots=True)
class KernelLog:
    """The XIDs of a log, or why it could not be read."""

    source: str
    """The tool that showed it, or why none did."""
    xids: tuple[Xid, ...] | None


def read_kernel_log(sources: Sources) -> KernelLog:
    """Return the XIDs that dmesg shows, else the journal; None when neither lets this user read it."""
    refusals = []
    for argv in _TOOLS:
        try:
            reply = sources.run(*argv).require_success()
        except ExternalError as error:
            refusals.append(error.message)
            continue
        # A user without the right to the journal gets an empty one and status 0; a kernel always says something.
        if reply.stdout.strip():
            return KernelLog(argv[0], parse_xids(reply.stdout))
        refusals.append(f"{argv[0]}: {tail(reply.stderr) or 'shows nothing'}")
    return KernelLog("; ".join(refusals), None)


def parse_xids(text: str) -> tuple[Xid, ...]:
    """Return the XIDs in a kernel log, in its order."""
    found = []
    for line in text.splitlines():
        if match := _XID.search(line):
            found.append(Xid(int(match["number"]), match["device"], line.strip()[:240]))
    return tuple(found)
