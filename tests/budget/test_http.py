"""What a request of HTTP may cost of the processor, and what goes through the TLS of one end (see test_cpu.py)."""

import asyncio
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from appliance import config
from appliance.facts.readers import Shared
from appliance.model import Note, Received, Send, Side
from appliance.record.log import Log
from appliance.relay.layer import Layer
from appliance.relay.tls import Contexts
from appliance.service.authority import Authority
from appliance.session import Session
from tests.budget.test_cpu import HEADROOM, SIZE, least, reference
from tests.relay.test_layer import pair
from tests.session.test_session import FLOW, C, S
from tests.wire.http.dialogues import ask, sized

RULES = """
identities: {acme: {cgroup: acme.service}}
targets: {web: {protocol: http, address: ["10.0.0.9:5432"]}}
rules:
  - {id: no-admin, to: web, when: {path: "/admin/**"}, do: block}
  - {id: work, who: acme, to: web, do: allow}
"""
SDK = (
    "Accept: application/json", "Accept-Encoding: gzip, deflate", "Connection: keep-alive", "User-Agent: Sdk/Python 1.2.3",
    "X-Sdk-Lang: python", "X-Sdk-Os: Linux", "Content-Type: application/json", "Authorization: Bearer 0123456789abcdef",
)  # fmt: skip
BODY = '{"model": "m%06d", "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": "Say hello."}]}'
ANSWER = sized(b'{"said": "hello"}', "Content-Type: application/json", "Date: Sat, 21 Nov 2026 12:00:00 GMT", "Server: x")
# Measured, in units: a request through its session and into the record; 1 kB into TLS or out of it.
MEASURED = {"repeated": 0.44, "another path": 0.90, "another body": 1.19, "sealed": 0.012, "opened": 0.0143}


def requests(what: str) -> Callable[[], bytes]:
    numbers = count()

    def body() -> bytes:
        said = (BODY % (next(numbers) % 1_000_000)).encode()
        return ask("POST /v1/chat HTTP/1.1", *SDK, f"Content-Length: {len(said)}", body=said)

    if what == "another body":
        return body
    if what == "another path":
        return lambda: ask(f"GET /v1/items/{next(numbers):06} HTTP/1.1", *SDK[:6])
    return lambda: ask("GET /v1/items HTTP/1.1", *SDK[:6])


def asked(what: str, place: Path) -> float:
    """Return the seconds that a request and its answer take."""
    policy = config.rules([("rules.d/test.yaml", RULES)], lambda name: [name])
    session, log, make = Session(FLOW, lambda: policy, Shared()), Log(place, "w0"), requests(what)
    session.start(0.0, 1_700_000_000.0)

    def give(side: Side, data: bytes) -> None:
        effects = session.receive(Received(side, data), 1.0)
        assert any(isinstance(effect, Send) and effect.to is side.other for effect in effects)
        log.append(FLOW, [effect for effect in effects if isinstance(effect, Note)], 1.0)

    def work() -> None:
        for _ in range(SIZE):
            give(C, make())
            give(S, ANSWER)

    return least(work, SIZE)


def layers(place: Path) -> tuple[Layer, Layer]:
    """Return the two ends of one TLS connection."""

    async def mint(names: tuple[str, ...]) -> str:
        return authority.certify(names)

    authority = Authority(place)

    async def made() -> tuple[Layer, Layer]:
        return await pair(place, Contexts(mint))

    return asyncio.run(made())


def through(what: str, place: Path) -> float:
    """Return the seconds that a kilobyte takes, in one read or write."""
    server, client = layers(place)
    rounds: dict[str, list[float]] = {"sealed": [], "opened": []}
    for _ in range(30):
        began, out = time.process_time(), []
        for _ in range(SIZE):
            client.seal(bytes(1000))
            out.append(client.take())
        middle = time.process_time()
        for data in out:
            assert len(server.feed(data)) == 1000
        rounds["sealed"].append((middle - began) / SIZE)
        rounds["opened"].append((time.process_time() - middle) / SIZE)
    return min(rounds[what])


@pytest.mark.parametrize("what", MEASURED)
def test_the_budget_is_kept(tmp_path: Path, what: str) -> None:
    unit = least(reference, 1)
    units = (through if what in ("sealed", "opened") else asked)(what, tmp_path) / unit
    print(f"\n{what}: {units:.4f} units of {1e6 * unit:.0f} us")
    assert units <= HEADROOM * MEASURED[what], f"{what} takes {units:.4f} units; it took {MEASURED[what]:.4f}"


