"""vendorgate itself, running in the host namespace of a lab: started and spoken to as ops would, by its command."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from appliance.lab.hosts import Lab
from appliance.model import HostError

READY_LIMIT = 30.0  # seconds; the promise is 1 on a quiet machine
STOP_LIMIT = 15.0
WORKER = b"appliance.service.worker"
COMMAND = [sys.executable, "-m", "appliance.cli"]


class Appliance:
    """One `vendorgate run` with a configuration of its own below `home`. Use as a context manager.

    `rules` maps file names to their text; `rule` writes one later, which a running appliance takes up by itself.
    """

    def __init__(
        self, lab: Lab, home: Path, rules: Mapping[str, str], workers: int = 2, command: Sequence[str] = COMMAND,
        **settings: object,
    ) -> None:  # fmt: skip
        self.lab, self.home, self._command = lab, home, command
        self.config = home / "vendorgate.yaml"
        self.log = home / "vendorgate.log"
        self.process: subprocess.Popen[bytes] | None = None
        document: dict[str, object] = {
            "slice": lab.slice,
            "cgroup_root": str(lab.cgroup_root),
            "rules": str(home / "rules.d"),
            "state_dir": str(home / "state"),
            "runtime_dir": str(home / "run"),
            "relay": {"port": 15001, "workers": workers, "user": "nobody"},
            **settings,
        }
        (home / "rules.d").mkdir(parents=True, exist_ok=True)
        self.config.write_text(json.dumps(document))  # JSON is YAML
        for name, text in rules.items():
            self.rule(name, text)

    def __enter__(self) -> "Appliance":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.cli("fence", "down", check=False)

    def rule(self, name: str, text: str) -> None:
        """Write a rules file, whole or not at all."""
        new = self.home / f".{name}"
        new.write_text(text)
        new.rename(self.home / "rules.d" / name)

    def start(self) -> None:
        """Start the service and return when it says it is ready."""
        with self.log.open("ab") as log:
            start = log.tell()
            self.process = self.lab.popen(self._words("run"), where="host", stdout=log, stderr=log)
        until = time.monotonic() + READY_LIMIT
        while b"vendorgate ready" not in self.log.read_bytes()[start:]:
            if self.process.poll() is not None or time.monotonic() > until:
                raise HostError(f"vendorgate did not start: {self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop as systemd would, then by force. The fence stays, as it does on a host."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def cli(self, *words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command of vendorgate in the host namespace; with `check`, HostError unless it exits 0."""
        done = self.lab.run(self._words(*words), where="host", capture_output=True, text=True, timeout=120)
        if check and done.returncode:
            raise HostError(f"vendorgate {' '.join(words)}: exit {done.returncode}: {done.stderr}{done.stdout}")
        return done

    def json(self, *words: str) -> Any:
        """Return the document that a command prints with --json, whatever its exit status."""
        done = self.cli(*words, "--json", check=False)
        try:
            return json.loads(done.stdout)
        except ValueError as error:
            raise HostError(f"vendorgate {' '.join(words)} --json: {done.stderr}{done.stdout}") from error

    def workers(self) -> list[int]:
        """Return the pids of the relay workers: children of the hub, which has others for a moment (nft)."""
        if self.process is None:
            return []
        found = []
        for entry in Path("/proc").iterdir():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split() if entry.name.isdigit() else []
            except OSError:
                continue
            if fields and int(fields[1]) == self.hub() and fields[0] != "Z" and _runs(entry, WORKER):
                found.append(int(entry.name))
        return found

    def hub(self) -> int:
        """Return the pid of the hub: what `popen` started, which nsenter became by exec."""
        assert self.process is not None
        return self.process.pid

    def _words(self, *words: str) -> list[str]:
        # The lab enters the namespace; the environment is that of whoever runs the lab.
        os.environ.setdefault("PYTHONUNBUFFERED", "1")
        return [*self._command, "--config", str(self.config), *words]


def _runs(entry: Path, module: bytes) -> bool:
    """Return whether the process of an entry of /proc runs a module of ours."""
    try:
        return module in (entry / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
