"""A real Redis of its own, without persistence.

Source: Redis 7.0 documentation, "Redis configuration". The server's program comes with Debian's redis-tools, under the
name of its check program, which it is as well: so no service is installed that would start on the host.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from appliance.lab.servers import enter
from appliance.model import HostError

START_LIMIT = 15.0  # seconds; it starts in some milliseconds
PROGRAMS = ("redis-server", "redis-check-rdb")
SETTINGS = {
    "save": "",
    "appendonly": "no",
    "protected-mode": "no",
    "enable-debug-command": "yes",
    "repl-diskless-sync-delay": "0",
}


class Redis:
    """One server. Use as a context manager; `client` are the words of a redis-cli that speaks to it."""

    def __init__(
        self,
        home: Path,
        port: int,
        netns: str | None = None,
        listen: str = "127.0.0.1",
        settings: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.home, self.port, self._netns, self._listen = home, port, netns, listen
        self._settings = {**SETTINGS, **dict(settings)}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def client(self) -> list[str]:
        return [*enter(self._netns), "redis-cli", "-p", str(self.port)]

    def admin(self, *words: str) -> str:
        """Run one command past any appliance; return what redis-cli printed. Raises on an error."""
        done = subprocess.run([*self.client, "-e", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise HostError(f"redis-cli failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout.strip()

    def __enter__(self) -> "Redis":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server; return when it answers."""
        program = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if program is None:
            raise HostError("no Redis on this host", "apt-get install redis-tools")
        self.home.mkdir(parents=True, exist_ok=True)
        words = [*enter(self._netns), *self._as_owner(), "bash", "-c", 'exec -a redis-server "$0" "$@"', program]
        words += ["--port", str(self.port), "--bind", *self._listen.split(), "--dir", "/"]
        for name, value in self._settings.items():
            words += [f"--{name}", *(value.split() or [""])]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        until = time.monotonic() + START_LIMIT
        while subprocess.run([*self.client, "PING"], capture_output=True, check=False).stdout.strip() != b"PONG":
            if self._process.poll() is not None or time.monotonic() > until:
                self.stop()
                raise HostError(f"Redis did not start: {self.log.read_text(errors='replace')[-500:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def _as_owner(self) -> list[str]:
        if os.geteuid():
            return []
        return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]  # it reads and writes no file
