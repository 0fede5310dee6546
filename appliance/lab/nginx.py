"""A real nginx of its own: files below a directory, and a log of what it read.

Source: nginx 1.22 documentation, "Core functionality" and "ngx_http_core_module".
"""

import contextlib
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

from appliance.lab.servers import enter
from appliance.model import HostError

START_LIMIT = 15.0  # seconds; it starts in some milliseconds
CONFIG = """\
daemon off;
master_process off;
user nobody nogroup;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections {connections}; }}
http {{
  log_format read escape=json '{{"method": "$request_method", "uri": "$uri", "line": "$request", "host": "$host",'
    ' "status": $status, "length": "$http_content_length", "body": "$request_body"}}';
  access_log {home}/access.log read;
  client_body_temp_path {home}/body;
  proxy_temp_path {home}/proxy;
  fastcgi_temp_path {home}/fastcgi;
  uwsgi_temp_path {home}/uwsgi;
  scgi_temp_path {home}/scgi;
  default_type text/plain;
  server {{
    listen {listen}:{port};
    {secure}
    root {home}/files;
    gzip on;
    gzip_types *;
    gzip_min_length 1;
    location = /seen {{ return 200 "seen\\n"; }}
  }}
}}
"""


class Nginx:
    """One nginx. Use as a context manager; `files` is its root, `log` has a JSON line for each request it read."""

    def __init__(
        self, home: Path, port: int, netns: str | None = None, listen: str = "127.0.0.1", pem: Path | None = None,
        *, connections: int = 256,
    ) -> None:
        """With `pem`, a key and its certificates, it takes TLS too, on the port above."""
        self.home, self.port, self._netns, self._listen = home, port, netns, listen
        tls = f"listen {listen}:{port + 1} ssl; ssl_certificate {pem}; ssl_certificate_key {pem};"
        self._secure, self._connections = tls if pem else "", connections
        self.files = home / "files"
        self.log = home / "access.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Nginx":
        self.files.mkdir(parents=True, exist_ok=True)
        config = self.home / "nginx.conf"
        said = {"home": self.home, "port": self.port, "listen": self._listen}
        config.write_text(CONFIG.format(secure=self._secure, connections=self._connections, **said))
        words = ["nginx", "-c", str(config), "-p", str(self.home)]
        try:
            self._process = subprocess.Popen([*enter(self._netns), *words], stderr=subprocess.DEVNULL)
        except FileNotFoundError:
            raise HostError("no nginx on this host", "apt-get install nginx-light") from None
        until = time.monotonic() + START_LIMIT
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > until:
                self.__exit__(None, None, None)
                raise HostError(f"nginx did not start: {(self.home / 'error.log').read_text()[-500:]}")
            time.sleep(0.02)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            self._process.wait()

    def _listens(self) -> bool:
        probe = f"import socket; socket.create_connection(({self._listen!r}, {self.port}), 1)"
        if self._netns:
            words = [*enter(self._netns), "/usr/bin/python3", "-c", probe]
            return not subprocess.run(words, stderr=subprocess.DEVNULL, check=False).returncode
        try:
            socket.create_connection((self._listen, self.port), 1).close()
        except OSError:
            return False
        return True
