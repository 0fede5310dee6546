"""A service manager as small as can be, for what a service sees of systemd: notifications, a store of descriptors that
outlives it, LISTEN_FDS at its next start. The same is done under systemd itself by tests/install.

Source: sd_notify(3), sd_listen_fds(3); src/core/service.c for the order: descriptors of a stopped unit are closed.
"""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from appliance.lab.appliance import READY_LIMIT, Appliance

SHIM = """
import fcntl, os, sys
fds, names = sys.argv[1], sys.argv[2]
high = [fcntl.fcntl(int(fd), fcntl.F_DUPFD, 200) for fd in fds.split(",") if fd]
for place, fd in enumerate(high, 3):
    os.dup2(fd, place)
for fd in {*high, *map(int, filter(None, fds.split(",")))} - set(range(3, 3 + len(high))):
    os.close(fd)
if high:
    os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)), LISTEN_FDNAMES=names)
os.execvp(sys.argv[3], sys.argv[3:])
"""


class Supervisor:
    """Keeps the descriptors of one service. `said` is every line it was told, in order."""

    def __init__(self, path: Path) -> None:
        self.said: list[str] = []
        self.store: list[tuple[str, int]] = []
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    @property
    def names(self) -> list[str]:
        return sorted(name for name, _ in self.store)

    def forget(self) -> None:
        """Close all that is kept, as for a unit that is stopped."""
        for _, fd in self.store:
            os.close(fd)
        self.store.clear()

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"END", str(self.path))
        self._thread.join(10)
        self._socket.close()
        self.forget()

    def _listen(self) -> None:
        while True:
            data, fds, _flags, _address = socket.recv_fds(self._socket, 4096, 16)
            lines = dict(line.partition("=")[::2] for line in data.decode().splitlines())
            self.said += data.decode().splitlines()
            if "END" in lines:
                return
            if "FDSTORE" in lines:
                self.store += [(lines["FDNAME"], fd) for fd in fds]
                continue
            if "FDSTOREREMOVE" in lines:
                gone = [entry for entry in self.store if entry[0] == lines["FDNAME"]]
                self.store = [entry for entry in self.store if entry not in gone]
                fds = [*fds, *(fd for _, fd in gone)]
            for fd in fds:  # of a barrier, or what is kept no more
                os.close(fd)


class Supervised(Appliance):
    """An appliance whose descriptors somebody keeps. `stop` alone is what `systemctl restart` begins with."""

    supervisor: Supervisor

    def start(self) -> None:
        names, fds = ":".join(name for name, _ in self.supervisor.store), [fd for _, fd in self.supervisor.store]
        words = [sys.executable, "-SEc", SHIM, ",".join(map(str, fds)), names, *self._words("run")]
        self.supervisor.said.clear()
        with self.log.open("ab") as log:
            environment = {**os.environ, "NOTIFY_SOCKET": str(self.supervisor.path)}
            self.process = self.lab.popen(words, stdout=log, stderr=log, pass_fds=fds, env=environment)
        until = time.monotonic() + READY_LIMIT
        while "READY=1" not in self.supervisor.said:
            assert self.process.poll() is None and time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send the hub a signal and wait for its end."""
        assert self.process
        self.process.send_signal(number)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
