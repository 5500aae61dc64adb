"""The text of a test cluster's slurm.conf."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.slurm_cluster import Shape


def render_conf(shape: Shape, folder: Path, *, port: int) -> str:
    """Return the text; the controller listens on the port, accounting on the next, the nodes on those after it."""
    first = port + 2
    nodes = f"n{render_range(shape.nodes, first=1)}"
    ports = str(first) if shape.nodes == 1 else f"[{first}-{first + shape.nodes - 1}]"
    gres = f" Gres=gpu:fake:{shape.gpus}" if shape.gpus else ""
    machine = f"CPUs={shape.cpus} RealMemory={shape.memory_mb}{gres}"
    lines = [f"{name}={value}" for name, value in (_daemons(shape, folder, port) | _jobs(shape)).items()]
    lines.append(f"NodeName={nodes} NodeAddr=127.0.0.1 Port={ports} {machine} State=UNKNOWN")
    lines.append(f"PartitionName=main Nodes={nodes} MaxTime=INFINITE State=UP Default=YES")
    lines.append(f"PartitionName=short Nodes={nodes} MaxTime=5 State=UP")
    return "\n".join([*lines, *shape.extra]) + "\n"


def render_range(count: int, *, first: int) -> str:
    """Return numbers as Slurm writes them in names: `3`, or `[1-3]`."""
    return str(first) if count == 1 else f"[{first}-{first + count - 1}]"


def _daemons(shape: Shape, folder: Path, port: int) -> dict[str, object]:
    return {
        "ClusterName": "nexatest",
        "SlurmctldHost": f"{socket.gethostname()}(127.0.0.1)",
        "SlurmctldPort": port,
        "SlurmUser": "root",
        "SlurmdUser": "root",
        "AuthType": "auth/munge",
        "CredType": "cred/munge",
        "AuthInfo": f"socket={folder}/munge.socket,cred_expire={shape.requeue_hold_s}",
        "CommunicationParameters": "NoInAddrAny,NoCtldInAddrAny",
        "StateSaveLocation": f"{folder}/spool/controller",
        "SlurmdSpoolDir": f"{folder}/spool/%n",
        "SlurmctldPidFile": f"{folder}/slurmctld.pid",
        "SlurmdPidFile": f"{folder}/slurmd-%n.pid",
        "SlurmctldLogFile": f"{folder}/slurmctld.log",
        "SlurmdLogFile": f"{folder}/slurmd-%n.log",
        "SlurmdParameters": "config_overrides",
        "SlurmctldTimeout": 5,
        "SlurmdTimeout": 10,
        "BatchStartTimeout": 10,
        "MessageTimeout": 60,
        "TCPTimeout": 2,
        **_accounting(shape, folder, port),
    }


def _accounting(shape: Shape, folder: Path, port: int) -> dict[str, object]:
    if not shape.accounting:
        return {"AccountingStorageType": "accounting_storage/none"}
    return {
        "AccountingStorageType": "accounting_storage/slurmdbd",
        "AccountingStorageHost": "127.0.0.1",
        "AccountingStoragePort": port + 1,
        "AccountingStoragePass": f"{folder}/munge.socket",
    }


def _jobs(shape: Shape) -> dict[str, object]:
    return {
        "ProctrackType": "proctrack/linuxproc",  # no control groups here: memory limits are not enforced
        "TaskPlugin": "task/none",
        "MpiDefault": "none",
        "PropagateResourceLimits": "NONE",
        "SelectType": "select/cons_tres",
        "SelectTypeParameters": "CR_CPU_Memory",
        "DefMemPerCPU": 64,
        **({"GresTypes": "gpu"} if shape.gpus else {}),
        "KillWait": 3,
        "InactiveLimit": 0,
        "ReturnToService": 2,
        "JobRequeue": 1,
        "SchedulerType": "sched/backfill",
        "SchedulerParameters": "batch_sched_delay=0,sched_interval=2,bf_interval=2",
        "MinJobAge": 300,
        "MaxJobCount": 50000,
        "MaxArraySize": shape.max_array_size,
    }
