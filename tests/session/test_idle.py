"""What a flow keeps of what it said, when it says no more: many are idle for days."""

import gc
import json
import tracemalloc
from collections.abc import Callable

import pytest

from appliance import config
from appliance.facts import Facts
from appliance.facts.readers import Shared
from appliance.model import Address, Flow, Received, Send, Side
from appliance.session import Session
from appliance.session.told import MAX_LETTERS, Telling
from tests.session import pg
from tests.session.playbook import Playbook
from tests.session.test_session import AGENT, idle
from tests.wire.http.dialogues import OK, ask

C, S = Side.CLIENT, Side.SERVER
RULES = """
targets:
  cache: {protocol: redis, address: ["10.0.0.9:6379"]}
  web: {protocol: http, address: ["10.0.0.9:80"]}
rules:
  - {id: posts, to: web, when: {method: POST}, do: allow}
  - {id: all, to: cache, do: allow}
"""
LARGE = 2_000_000
VALUE = "x" * LARGE


def flow(port: int) -> Playbook:
    policy = config.rules([("r.yaml", RULES)], lambda name: [name])
    return Playbook(Session(Flow("f1", 1.0, Address("10.0.0.2", 4000), Address("10.0.0.9", port), AGENT), lambda: policy, Shared()))


def posted(number: int) -> bytes:
    body = json.dumps({f"k{n}": f"{number}-{n}-" + "x" * 60 for n in range(6000)})
    return ask(f"POST /{number} HTTP/1.1", "Content-Type: application/json", f"Content-Length: {len(body)}", body=body.encode())


BOUND = pg.parse("insert into t values ($1)") + pg.bind(VALUE) + pg.execute() + pg.SYNC
DONE = pg.message("1", b"") + pg.message("2", b"") + pg.complete("INSERT 0 1") + pg.ready()
SET = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$%d\r\n%s\r\n" % (LARGE, VALUE.encode())
# a flow, what it says and is answered, and how often
SAID: dict[str, tuple[Callable[[], Playbook], Callable[[int], bytes], bytes, int]] = {
    "postgres": (idle, lambda _: BOUND, DONE, 1),
    "redis": (lambda: flow(6379), lambda _: SET, b"+OK\r\n", 1),
    "http": (lambda: flow(80), posted, OK, 4),
}


@pytest.mark.parametrize("protocol", SAID)
def test_a_flow_that_is_idle_keeps_little_of_large_requests(protocol: str) -> None:
    """64 requests of 1 MiB left 0.8 GB in one flow, one value of 64 MB 200 MB: nobody counted it."""
    begin, said, answer, often = SAID[protocol]
    with begin() as p:
        p.take()
        gc.collect()
        tracemalloc.start()
        for number in range(often):
            p >> Received(C, said(number))
            assert any(isinstance(effect, Send) and effect.to is S for effect in p.take())
            p >> Received(S, answer)
            p.take()
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert kept < LARGE / 4


def test_limit_max_letters_of_facts_that_are_kept_for_the_record() -> None:
    telling = Telling()
    kept = [
        Facts("http", {"text": frozenset(("x" * letters,)), "effect": frozenset(("read",))})
        for letters in (MAX_LETTERS - len("read"), MAX_LETTERS)
    ]
    for facts in kept:
        assert telling.facts(facts) == (("effect", ("read",)),)
    assert len(telling._kept) == 1
