"""A real nginx, and gates before it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appliance.lab.nginx import Nginx
from appliance.model import Address
from tests.gate import Gate
from tests.ports import free_port

RULES = """
rules:
  - {id: no-admin, to: db, when: {path: ["/admin", "/admin/*"]}, do: block}
  - {id: no-delete, to: db, when: {effect: delete}, do: block}
  - {id: no-keys, to: db, when: {detect: [aws_key]}, do: block}
  - {id: big, to: db, when: {method: POST, json: {"$.amount": {gt: 10000}}}, do: block}
  - {id: no-delete-user, to: db, when: {graphql: mutation.deleteUser}, do: block}
  - {id: no-scripts, to: db, when: {file: "*.sh"}, do: block}
  - {id: hide, to: db, when: {json: "$..ssn"}, do: mask, with: keep-last-4}
  - {id: ask, to: db, when: {path: /held}, do: approve, approvers: {group: ops, within: 1m}}
  - {id: mails, to: db, when: {detect: [email]}, do: mask}
  - {id: rest, to: db, do: allow}
"""


@pytest.fixture(scope="session")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    home = tmp_path_factory.mktemp("nginx")
    for folder in (home, *home.parents):
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
        if folder.name.startswith("pytest-of"):
            break
    files = home / "files"
    (files / "admin").mkdir(parents=True)
    (files / "admin/users").write_text("the admin page\n")
    (files / "hello").write_text("hello\n")
    (files / "held").write_text("released\n")
    (files / "people").write_text("write to ada@example.com or call\n" * 40)
    (files / "people.json").write_text('[{"name": "Ada", "ssn": "123-45-6789"}, {"ssn": {"old": "555-44-3333"}}]')
    (files / "big").write_bytes(b"0123456789abcdef" * (1 << 18))
    with Nginx(home, free_port()) as server:
        yield server


@pytest.fixture
def gate(nginx: Nginx) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", nginx.port), RULES, protocol="http") as gate:
        yield gate


def read(nginx: Nginx) -> list[dict[str, Any]]:
    """Return what nginx logged of the requests it read."""
    return [json.loads(line) for line in nginx.log.read_text().splitlines()]
