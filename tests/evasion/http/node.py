"""A real HTTP server of Node, as lenient as it can be told to be, with a log of what it read."""

import contextlib
import json
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.ports import free_port

START_LIMIT = 30.0  # seconds; Node starts in some 50 ms
SCRIPT = """
const fs = require('fs'), http = require('http');
const [port, log] = process.argv.slice(2);
const server = http.createServer({insecureHTTPParser: true, requireHostHeader: false}, (asked, answer) => {
  const parts = [];
  asked.on('data', part => parts.push(part));
  asked.on('end', () => {
    const body = Buffer.concat(parts).toString('latin1');
    const path = new URL(asked.url, 'http://a.example').pathname;
    const said = {method: asked.method, url: asked.url, path, host: asked.headers.host ?? '', body, trailers: asked.trailers};
    fs.appendFileSync(log, JSON.stringify(said) + '\\n');
    answer.end('seen\\n');
  });
});
server.on('connect', (asked, socket) => {
  fs.appendFileSync(log, JSON.stringify({method: 'CONNECT', url: asked.url}) + '\\n');
  socket.end('HTTP/1.1 200 OK\\r\\n\\r\\n');
});
server.listen(Number(port), '127.0.0.1');
"""


class Node:
    """Use as a context manager."""

    def __init__(self, home: Path) -> None:
        self.port = free_port()
        self._home, self._log = home, home / "node.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Node":
        script = self._home / "server.js"
        script.write_text(SCRIPT)
        self._log.touch()
        with (self._home / "node.err").open("wb") as errors:
            self._process = subprocess.Popen(["node", str(script), str(self.port), str(self._log)], stderr=errors)
        until = time.monotonic() + START_LIMIT
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__(None, None, None)
                raise AssertionError(f"node did not start: {(self._home / 'node.err').read_text()[-500:]}")
            time.sleep(0.02)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def seen(self) -> list[dict[str, Any]]:
        """Return what it has read, in order."""
        return [json.loads(line) for line in self._log.read_text().splitlines()]
