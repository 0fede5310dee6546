"""A real Redis, empty at the beginning of each test, and a gate before it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from appliance.lab.redis import Redis
from appliance.model import Address
from tests.evasion.redis.talk import Talk
from tests.gate import Gate

RULES = """
rules:
  - {id: no-flush, to: db, when: {effect: [flush, admin, debug, replication, monitor, module, migrate]}, do: block}
  - {id: no-vault, to: db, when: {key: "vault:*"}, do: block}
  - {id: no-secret-channel, to: db, when: {channel: secret}, do: block}
  - {id: ask, to: db, when: {command: [DEL, UNLINK]}, do: approve, approvers: {group: ops, within: 1m}}
  - {id: hide, to: db, when: {key: "user:*"}, do: mask}
  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask, with: keep-last-4}
  - {id: rest, to: db, do: allow}
"""
SECRET = "Ada Lovelace 1815"


@pytest.fixture
def direct(redis: Redis) -> Iterator[Talk]:
    """A connection past the gate, to an empty server."""
    with Talk(redis.port) as talk:
        for words in ("FLUSHALL", "SCRIPT FLUSH", "FUNCTION FLUSH", "CONFIG RESETSTAT", "CONFIG SET requirepass "):
            assert talk.call(*words.split(" ")) == "OK"
        yield talk


@pytest.fixture
def gate(redis: Redis, direct: Talk) -> Iterator[Gate]:
    with Gate(Address("127.0.0.1", redis.port), RULES, protocol="redis") as gate:
        yield gate


@pytest.fixture
def behind(redis: Redis, direct: Talk) -> Iterator[Callable[[str], Gate]]:
    """Make a gate with rules of the test's own."""
    with ExitStack() as stack:
        yield lambda rules: stack.enter_context(Gate(Address("127.0.0.1", redis.port), rules, protocol="redis"))


@pytest.fixture
def vendor(gate: Gate) -> Iterator[Talk]:
    with Talk(gate.port) as talk:
        yield talk


@pytest.fixture
def vendor3(gate: Gate) -> Iterator[Talk]:
    with Talk(gate.port, resp3=True) as talk:
        yield talk
