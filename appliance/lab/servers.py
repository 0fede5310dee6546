"""Real servers for the lab, the tests and the benchmarks: started by hand, stopped by pid.

A server runs as an unprivileged user, in a network namespace when one is named, with its data below a directory the
caller owns. Source: PostgreSQL 15 manual, "initdb", "postgres".
"""

import os
import pwd
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from appliance.model import HostError

START_LIMIT = 30.0  # seconds; a cold initdb and start took 4 on two slow cores
SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "password_encryption": "scram-sha-256",
    "logging_collector": "off",
}
HBA = """\
local all all trust
host all all 0.0.0.0/0 scram-sha-256
host all all ::/0 scram-sha-256
"""


def postgres_bin() -> Path:
    """Return the directory of the newest PostgreSQL server programs on this host."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: int(p.parts[-3]))
    if not found:
        raise HostError("no PostgreSQL server found below /usr/lib/postgresql", "apt-get install postgresql")
    return found[-1].parent


def enter(netns: str | None) -> list[str]:
    """Return the words that run a command in a network namespace; /sys stays as it is (unlike `ip netns exec`)."""
    return ["nsenter", f"--net=/run/netns/{netns}"] if netns else []


class Postgres:
    """A PostgreSQL cluster of its own. Use as a context manager.

    `admin` runs SQL as the superuser over the unix socket, so past any appliance.
    """

    def __init__(
        self,
        home: Path,
        port: int,
        netns: str | None = None,
        listen: str = "*",
        settings: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.home, self.port, self.netns, self.listen = home, port, netns, listen
        self.settings = {**SETTINGS, **dict(settings)}
        self._bin = postgres_bin()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home / "log"

    def __enter__(self) -> "Postgres":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the cluster if there is none, start it, and return when it answers."""
        data = self.home / "data"
        if not data.exists():
            self._make(data)
        words = [*enter(self.netns), *self._as_owner(), str(self._bin / "postgres"), "-D", str(data)]
        words += ["-p", str(self.port), "-k", str(self.home), "-c", f"listen_addresses={self.listen}"]
        for name, value in self.settings.items():
            words += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        self._await()

    def stop(self) -> None:
        """Stop at once (SIGQUIT: the data is thrown away anyway) and wait for the end."""
        if self._process is None:
            return
        self._process.send_signal(3)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def admin(self, sql: str, database: str = "postgres") -> str:
        """Run statements as the superuser; return what psql printed, unaligned. Raises on the first error."""
        words = [str(self._bin / "psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres"]
        done = subprocess.run(
            [*words, "-h", str(self.home), "-p", str(self.port), "-d", database],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HostError(f"psql failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _make(self, data: Path) -> None:
        owner = pwd.getpwnam("postgres")
        self.home.mkdir(parents=True, exist_ok=True)
        shutil.chown(self.home, owner.pw_uid, owner.pw_gid)
        self.home.chmod(0o755)
        words = [str(self._bin / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8"]
        words = [*self._as_owner(), *words, "-A", "trust", "--no-sync"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise HostError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
        (data / "pg_hba.conf").write_text(HBA)

    def _as_owner(self) -> list[str]:
        if os.geteuid():
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def _await(self) -> None:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.home), "-p", str(self.port)]
        until = time.monotonic() + START_LIMIT
        while subprocess.run(ready, check=False).returncode:
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise HostError(f"PostgreSQL did not start in {self.home}: {tail}")
            time.sleep(0.05)


class MariaDB:
    """A MariaDB server of its own, with nothing of the host's configuration. Use as a context manager.

    `admin` runs SQL as root over the unix socket, so past any appliance. Source: MariaDB 10.11 documentation,
    "mariadb-install-db", "mariadbd Options".
    """

    SETTINGS: Mapping[str, str] = {
        "innodb-buffer-pool-size": "32M",
        "innodb-log-file-size": "8M",
        "innodb-flush-log-at-trx-commit": "0",
        "innodb-fast-shutdown": "2",
        "performance-schema": "OFF",
        "character-set-server": "utf8mb4",
        "local-infile": "ON",
        "max-connections": "200",
        "skip-name-resolve": "ON",
        "skip-log-bin": "",
    }

    def __init__(
        self,
        home: Path,
        port: int,
        netns: str | None = None,
        listen: str = "*",
        settings: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.home, self.port, self.netns, self.listen = home, port, netns, listen
        self.settings = {**self.SETTINGS, **dict(settings)}
        if not shutil.which("mariadbd"):
            raise HostError("no MariaDB server found", "apt-get install mariadb-server")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def socket(self) -> Path:
        """Its unix socket: a path of at most 107 bytes, wherever the home is."""
        return Path(f"/tmp/vendorgate-mariadb-{self.port}.sock")

    def __enter__(self) -> "MariaDB":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Make the data directory if there is none, start the server, and return when it answers."""
        data = self.home / "data"
        if not data.exists():
            self._make(data)
        words = [*enter(self.netns), *self._as_owner(), "mariadbd", *self._place(data)]
        words += [f"--port={self.port}", f"--bind-address={self.listen}", f"--pid-file={self.home}/pid"]
        words += [f"--{name}={value}" if value else f"--{name}" for name, value in self.settings.items()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd="/")
        self._await()

    def stop(self) -> None:
        """Stop the server and wait for the end; one that does not come to it is killed, the data is thrown away."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        self.socket.unlink(missing_ok=True)

    def admin(self, sql: str, database: str = "") -> str:
        """Run statements as root; return what the client printed, tab-separated. Raises on the first error."""
        words = ["mariadb", "--no-defaults", "--batch", "--skip-column-names", "--user=root"]
        done = subprocess.run(
            [*words, f"--socket={self.socket}", *([database] if database else [])],
            input=sql,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise HostError(f"mariadb failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def _place(self, data: Path) -> list[str]:
        return ["--no-defaults", f"--datadir={data}", f"--socket={self.socket}", f"--tmpdir={self.home}"]

    def _make(self, data: Path) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        if not os.geteuid():
            owner = pwd.getpwnam("mysql")
            shutil.chown(self.home, owner.pw_uid, owner.pw_gid)
        self.home.chmod(0o755)
        words = [*self._as_owner(), "mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db"]
        words += ["--auth-root-authentication-method=normal", f"--tmpdir={self.home}", "--innodb-log-file-size=8M"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/")
        if done.returncode:
            raise HostError(f"mariadb-install-db failed: {done.stderr.strip() or done.stdout.strip()}")

    def _as_owner(self) -> list[str]:
        if os.geteuid():
            return []
        return ["setpriv", "--reuid=mysql", "--regid=mysql", "--clear-groups"]

    def _await(self) -> None:
        ready = ["mariadb-admin", "--no-defaults", f"--socket={self.socket}", "--user=root", "--silent", "ping"]
        until = time.monotonic() + START_LIMIT
        while subprocess.run(ready, check=False, capture_output=True).returncode:
            if self._process is None or self._process.poll() is not None or time.monotonic() > until:
                tail = self.log.read_text(errors="replace")[-2000:]
                raise HostError(f"MariaDB did not start in {self.home}: {tail}")
            time.sleep(0.05)
