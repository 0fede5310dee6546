"""A server with every way of logging in, and with TLS when it is asked for; and a server that is only a script.

Source: PostgreSQL 15 manual, "The pg_hba.conf File", "Secure TCP/IP Connections with SSL".
"""

import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from appliance.lab.servers import Postgres
from appliance.model import Address
from tests.evasion.talk import frame

FAILURE = frame("E", b"SERROR\0C58000\0Mno\0\0") + frame("Z", b"I")
HBA = """
local all postgres trust
host replication streamer 127.0.0.1/32 trust
host all free 127.0.0.1/32 trust
host all streamer 127.0.0.1/32 trust
host all plain 127.0.0.1/32 password
host all hashed 127.0.0.1/32 md5
host all scram 127.0.0.1/32 scram-sha-256
host all nobody 127.0.0.1/32 reject
"""
ROLES = """
set password_encryption = 'md5';
create role hashed login password 'secret';
set password_encryption = 'scram-sha-256';
create role scram login password 'secret';
create role plain login password 'secret';
create role free login; create role nobody login; create role streamer login superuser replication;
create table doors (id int); insert into doors values (1); grant all on doors to public;
"""


def prepare(server: Postgres) -> None:
    """Make the roles, the ways in and the certificate."""
    server.admin(ROLES)
    data = server.home / "data"
    (data / "pg_hba.conf").write_text(HBA)
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=localhost", "-keyout", str(data / "server.key"), "-out", str(data / "server.crt")]
    subprocess.run(words, check=True, capture_output=True)
    for name in ("server.key", "server.crt"):
        shutil.chown(data / name, "postgres", "postgres")
        (data / name).chmod(0o600)
    server.admin("select pg_reload_conf()")


@contextmanager
def tls(server: Postgres) -> Iterator[None]:
    """Let the server answer S to a request for TLS."""
    for word, want in (("on", "on"), ("off", "off")):
        server.admin(f"alter system set ssl = {word}")
        server.admin("select pg_reload_conf()")
        until = time.monotonic() + 10
        while server.admin("show ssl") != want:
            assert time.monotonic() < until
            time.sleep(0.02)
        if word == "on":
            yield


@contextmanager
def scripted(login: bytes) -> Iterator[tuple[Address, list[bytes]]]:
    """A server that takes every startup with `login`, fails what is not the client's, and keeps what it is sent."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as door:
        thread = threading.Thread(target=_serve, args=(door, login, heard), daemon=True)
        thread.start()
        try:
            yield Address("127.0.0.1", door.getsockname()[1]), heard
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def _serve(door: socket.socket, login: bytes, heard: list[bytes]) -> None:
    lines: dict[socket.socket, bytes] = {}
    with suppress(OSError):  # the door is shut: the test is over
        while True:
            for line in select.select([door, *lines], [], [], 10)[0]:
                if line is door:
                    lines[door.accept()[0]] = login
                    continue
                with suppress(ConnectionResetError):
                    if got := line.recv(65536):
                        heard.append(got)
                        if got[4:6] == b"\0\3" or b"vendorgate injected" in got:
                            line.sendall(lines[line])
                            lines[line] = FAILURE
                        continue
                del lines[line]
                line.close()
    for line in lines:
        line.close()
