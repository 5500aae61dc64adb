"""CPU seconds of `--help`, ours and peers', in turn: `python benchmarks/cli_startup.py`.

Peers are installed from the registry into `.bench/peers`, each in an environment of its own; one that does not install
is left out and said.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import venv
from pathlib import Path

from figures import write_figures

ROOT = Path(__file__).resolve().parent.parent
PEERS: dict[str, tuple[str, list[str]] | None] = {
    "bare python": None,
    "torchx": ("torchx==0.7.0", ["bin/torchx", "--help"]),
    "wandb": ("wandb==0.31.0", ["bin/wandb", "--help"]),
    "mlflow-skinny": ("mlflow-skinny==3.17.2", ["bin/mlflow", "--help"]),
    "dstack": ("dstack==0.22.5", ["bin/dstack", "--help"]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    arguments = parser.parse_args()
    commands = {"nexa": [str(Path(sys.executable).with_name("nexa")), "--help"]}
    for name in arguments.peers:
        command = install_peer(name)
        if command is not None:
            commands[name] = command
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for round_number in range(arguments.rounds + 1):
        for name, command in commands.items():
            used = cpu_seconds(command)
            if round_number > 0:  # the first one warms the file cache
                seconds[name].append(used)
    ours = statistics.median(seconds["nexa"])
    rows = {
        name: {"cpu_s_median": round(statistics.median(values), 4), "cpu_s_min": round(min(values), 4),
               "cpu_s_max": round(max(values), 4), "times_ours": round(statistics.median(values) / ours, 2)}
        for name, values in seconds.items()
    }  # fmt: skip
    for name, row in rows.items():
        print(f"{name:14} {row['cpu_s_median']:.3f} s  ({row['times_ours']:.2f} × ours)")
    write_figures("cli_startup", {"rounds": arguments.rounds, "cpu_seconds_of_help": rows})


def install_peer(name: str) -> list[str] | None:
    """Return the peer's command; None when it cannot be installed."""
    peer = PEERS[name]
    if peer is None:
        return [sys.executable, "-c", "pass"]
    package, words = peer
    folder = ROOT / ".bench" / "peers" / name
    command = [str(folder / words[0]), *words[1:]]
    if not Path(command[0]).exists():
        venv.create(folder, with_pip=True, clear=True)
        done = subprocess.run(
            [str(folder / "bin/python"), "-m", "pip", "install", "-q", package, "setuptools<81"], check=False
        )
        if done.returncode != 0:
            print(f"{name}: {package} does not install on Python {platform.python_version()}; left out")
            return None
    return command


def cpu_seconds(command: list[str]) -> float:
    """Return user and system seconds of one run, as the kernel counts them for the ended child."""
    pid = os.posix_spawn(
        command[0], command, os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_DUP2, 1, 2)],
    )  # fmt: skip
    _, status, usage = os.wait4(pid, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {os.waitstatus_to_exitcode(status)}")
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
