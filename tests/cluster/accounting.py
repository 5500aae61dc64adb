"""What a test cluster with accounting has besides: a database of its own, and slurmdbd's settings.

Needs Debian's packages slurmdbd, mariadb-server-core and mariadb-client.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nexa_infra.process import SystemRunner

_RUNNER = SystemRunner()


@dataclass(frozen=True, slots=True)
class Database:
    """A MariaDB server that listens on a socket in its folder alone."""

    folder: Path

    @property
    def socket(self) -> Path:
        """The socket it listens on."""
        return self.folder / "socket"

    def create(self) -> None:
        """Write its first files."""
        self.folder.mkdir()
        fast = ["--innodb-log-file-size=8M", "--skip-test-db", "--auth-root-authentication-method=normal"]
        command = ["mariadb-install-db", "--no-defaults", f"--datadir={self.folder}/data", "--user=root", *fast]
        _RUNNER.run(command, timeout_s=120).require_success()

    def command(self) -> list[str]:
        """Return the server's command."""
        places = [f"--datadir={self.folder}/data", f"--socket={self.socket}", f"--pid-file={self.folder}/pid"]
        return ["mariadbd", "--no-defaults", "--user=root", "--skip-networking", *places]

    def answers(self) -> bool:
        """Whether it takes questions."""
        command = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "--user=root", "ping"]
        return _RUNNER.run(command, timeout_s=30).returncode == 0


def write_dbd_conf(folder: Path, database: Database, *, port: int) -> None:
    """Write slurmdbd.conf beside slurm.conf."""
    settings = {
        "AuthType": "auth/munge",
        "AuthInfo": f"socket={folder}/munge.socket",
        "DbdHost": "localhost",
        "DbdAddr": "127.0.0.1",
        "DbdPort": port,
        "SlurmUser": "root",
        "PidFile": f"{folder}/slurmdbd.pid",
        "LogFile": f"{folder}/slurmdbd.log",
        "StorageType": "accounting_storage/mysql",
        "StorageHost": "localhost",
        "StorageUser": "root",
        "StorageLoc": "slurm_accounting",
    }
    path = folder / "slurmdbd.conf"
    path.touch(mode=0o600)  # slurmdbd reads no other
    path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
