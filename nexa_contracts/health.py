"""Node health: what checks found, a node's report, the fleet's baseline, the quarantine ledger, what a site accepts,
and what is done about it for one run.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from nexa_contracts.base import Contract, Duration, Part

Result = Literal["ok", "warn", "fail", "unknown"]
SEVERITY: tuple[Result, ...] = ("ok", "warn", "unknown", "fail")
"""Results from good to bad."""


class CheckResult(Part):
    """What one check found on one node."""

    name: str = Field(min_length=1)
    """The check, as `gpu_ecc`; a disk's path follows after a space."""
    result: Result
    """`unknown`: it could not be found out, which is not healthy."""
    measured: str | None = None
    """What was found, with its unit; None: nothing could be."""
    threshold: str
    """What would have been healthy."""
    evidence: str
    """Where it was read, and the words that show it."""


class NodeFacts(Part):
    """What the nodes of one training must have in common. None: not known."""

    driver: str | None = None
    """Version of the GPU driver."""
    gpu_names: tuple[str, ...] = ()
    """Names of the GPUs, in order."""
    vbios: tuple[str, ...] = ()
    """Versions of the GPUs' firmware, each once."""
    environment_digest: str | None = None
    """SHA-256 over Python's version and the installed packages."""
    code_digest: str | None = None
    """SHA-256 over the code as this node sees it."""
    container_digest: str | None = None
    """Digest of the container image, where there is one."""
    clock_offset_s: float | None = None
    """How far this node's clock is ahead of the shared tier's file server."""
    speeds: dict[str, float] = {}
    """Measured speeds by name, whose unit the name ends with."""


class HealthReport(Contract):
    """What the checks found on one node."""

    node: str = Field(min_length=1)
    """The node's name, as the cluster calls it."""
    made_at: datetime
    """When the checks ended, by the node's clock."""
    checks: tuple[CheckResult, ...]
    """In the order of the page."""
    accepted: tuple[str, ...] = ()
    """Checks that may say `unknown` here, by the site file."""
    facts: NodeFacts = NodeFacts()
    """What other nodes are compared with."""

    @property
    def problems(self) -> tuple[CheckResult, ...]:
        """The checks that keep the node from joining."""
        return tuple(
            check
            for check in self.checks
            if check.result == "fail" or (check.result == "unknown" and check.name.split()[0] not in self.accepted)
        )

    @property
    def is_healthy(self) -> bool:
        """Whether the node may join: something was checked, and nothing failed or stayed unknown."""
        return bool(self.checks) and not self.problems

    @property
    def result(self) -> Result:
        """The worst result; `unknown` when nothing was checked."""
        return max((check.result for check in self.checks), key=SEVERITY.index, default="unknown")


class GpuProcess(Part):
    """A program that holds memory of a GPU."""

    pid: int
    memory_bytes: int | None = None
    """None: the driver does not say."""


class GpuReading(Part):
    """What the driver says of one GPU. None: it did not say; `missing` has its words by the field's name."""

    index: int = Field(ge=0)
    """Its number in the driver's order."""
    uuid: str = ""
    """Empty: not even this was answered."""
    name: str = ""
    """The model."""
    is_lost: bool = False
    """Fallen off the bus, or not answering any question."""
    vbios: str | None = None
    """Version of its firmware."""
    temperature_c: int | None = None
    """Of the core, in degrees Celsius."""
    throttle_mask: int | None = None
    """Reasons for a lower clock, as NVML's bits."""
    ecc_uncorrected: int | None = None
    """Errors since the driver was loaded."""
    ecc_corrected: int | None = None
    """Errors since the driver was loaded."""
    remap_pending: bool | None = None
    """Rows or pages of memory wait for a reset to be replaced."""
    remap_failed: bool | None = None
    """Rows could not be replaced."""
    nvlinks: int | None = None
    """NVLinks it has."""
    nvlinks_up: int | None = None
    """NVLinks that work."""
    pcie_width: int | None = None
    """Lanes in use."""
    pcie_width_max: int | None = None
    """Lanes that the GPU and its slot have."""
    pcie_replays: int | None = None
    """Packets sent again since the driver was loaded."""
    memory_total_bytes: int | None = None
    """All of its memory."""
    memory_used_bytes: int | None = None
    """Its memory in use, the driver's own included."""
    processes: tuple[GpuProcess, ...] | None = None
    """Programs that compute on it."""
    missing: dict[str, str] = {}
    """Why a field is None, by its name."""


class GpuReadings(Part):
    """What one source says of all GPUs of a node."""

    source: Literal["nvml", "nvidia-smi"]
    """Who answered."""
    driver: str | None = None
    """Version of the driver."""
    gpus: tuple[GpuReading, ...] = ()
    """Those it lists."""


class Baseline(Contract):
    """The fleet's stored speeds, which each node is held to 0.95 of."""

    made_at: datetime
    """When it was stored."""
    nodes: tuple[str, ...] = ()
    """Where it was measured."""
    speeds: dict[str, dict[str, float]] = {}
    """The median by GPU model, then by name of the speed, whose unit it ends with."""


class WatchedFolder(Part):
    """A folder to look at, and what is asked of it."""

    path: str = Field(pattern=r"^/")
    """Absolute."""
    must_write: bool = False
    """This user must be able to write there."""
    must_mount: bool = False
    """A file system must be mounted on it."""


class HealthRequest(Part):
    """What a node is checked for. None: whatever is there."""

    node: str = Field(min_length=1)
    """The node's name in its report."""
    gpus: int | None = Field(default=None, ge=0)
    """GPUs it must have; 0 leaves the GPU checks out."""
    cpus: int | None = Field(default=None, ge=1)
    """Cores it must have."""
    memory_bytes: int | None = Field(default=None, ge=1)
    """Main memory it is said to have."""
    folders: tuple[WatchedFolder, ...] = ()
    """Beside `/` and the network file systems."""
    clock_folder: str | None = None
    """Folder whose file server's clock is the reference; None: the clock is not checked."""
    code: str | None = None
    """Folder of the code that nodes must agree on."""
    container_digest: str | None = None
    """Digest of the container image the node runs."""
    accept_unknown: tuple[str, ...] = ()
    """Checks that may say `unknown`."""
    skip: tuple[str, ...] = ()
    """Checks that are left out, by name, as `disk` or `disk /data`."""
    measure_speed: bool = False
    """Measure copies and a matrix product too, which takes seconds of each GPU."""
    baseline: Baseline | None = None
    """What the speeds are held to."""


class HealthPlan(Part):
    """What is done about the nodes of a run, worked out at launch; `spec.json` carries it to them."""

    ledger: str | None = None
    """The cluster's quarantine ledger, which failures of nodes are written to; None: there is none."""
    request: HealthRequest | None = None
    """What each node is checked for before the processes start; None: they start unchecked."""
    all_reduce: bool = True
    """Nodes with GPUs run a short all-reduce over NCCL; without it they exchange over TCP, as nodes without GPUs do."""
    report_s: float = Field(default=180.0, gt=0)
    """Longest time in seconds that a node may take to check itself."""
    join_s: float = Field(default=60.0, gt=0)
    """Longest time in seconds of the exchange, or of the all-reduce with the loading of torch."""
    moves: int = Field(default=0, ge=0)
    """How often a job whose nodes were refused may be put back into the queue, to start without them."""


class LedgerEntry(Contract):
    """One line of the quarantine ledger, which is only ever appended to."""

    at: datetime
    """When it was written."""
    node: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,252}$")
    """The node's name."""
    event: Literal["failure", "quarantine", "clear"]
    """A failed job is a `failure`; two of different jobs quarantine the node."""
    job: str = ""
    """The run whose job failed."""
    reason: str = ""
    """Why, for people."""
    expires_at: datetime | None = None
    """When a quarantine ends."""


class HealthSite(Part):
    """What the nodes of this site are checked for, and what is done about bad ones."""

    before_start: bool = True
    """Check the nodes of a job that torchrun starts before its processes start; `check_nodes` of a run goes before."""
    all_reduce: bool = True
    """Let nodes with GPUs run a short all-reduce over NCCL then; it costs the loading of torch."""
    cluster: str = Field(default="default", pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the cluster that the quarantine ledger and the baseline are of."""
    accept_unknown: tuple[str, ...] = ()
    """Checks that a node may join without, as `gpu_ecc` where the GPUs have none."""
    skip: tuple[str, ...] = ()
    """Checks that are left out, as `gpu_leftovers` where a daemon of the site's holds the GPUs, or `disk /data`."""
    mounts: tuple[str, ...] = ()
    """Folders that must be mounted on every node."""
    quarantine_for: Duration = "1d"
    """How long a node stays out after two failures."""
