"""WebSockets between a real client and a real server (aiohttp), packed and not, through the real relay and rules."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from appliance.model import Address, Answered
from appliance.record import har
from appliance.record.frame import Frame
from tests.evasion.http.aio import CARD, Aio
from tests.gate import Gate

pytestmark = pytest.mark.peer

RULES = """
rules:
  - {id: no-drop, to: db, when: {method: WEBSOCKET, json: {"$.op": drop}}, do: block}
  - {id: no-keys, to: db, when: {detect: [aws_key]}, do: block}
  - {id: ask, to: db, when: {method: WEBSOCKET, json: {"$.op": pay}}, do: approve, approvers: {group: ops, within: 1m}}
  - {id: no-deletion, to: db, when: {graphql: mutation.deleteUser}, do: block}
  - {id: closed, to: db, when: {path: /closed}, do: block}
  - {id: rest, to: db, do: allow}
"""
MASKS = RULES.replace("rules:\n", "rules:\n  - {id: cards, to: db, when: {detect: [credit_card]}, do: mask}\n")
Socket = aiohttp.ClientWebSocketResponse


@pytest.fixture(scope="module")
def server() -> Iterator[Aio]:
    with Aio() as server:
        yield server


@asynccontextmanager
async def connected(gate: Gate, compress: int) -> AsyncIterator[Socket]:
    async with aiohttp.ClientSession(trust_env=False) as session:
        url = f"http://127.0.0.1:{gate.port}/ws"
        async with session.ws_connect(url, compress=compress, protocols=("chat",), max_msg_size=0, heartbeat=20) as socket:
            yield socket


def talk(server: Aio, rules: str, compress: int, say: Callable[[Socket, Gate], Awaitable[None]], answer: object = None) -> Gate:
    async def run(gate: Gate) -> None:
        async with asyncio.timeout(30):
            async with connected(gate, compress) as socket:
                await say(socket, gate)

    server.seen.clear()
    gate = Gate(Address("127.0.0.1", server.port), rules, protocol="http")
    gate.answer = answer  # type: ignore[assignment]
    with gate:
        asyncio.run(run(gate))
        assert server.deflate == bool(compress)
    return gate


async def heard(socket: Socket) -> object:
    return (await socket.receive(timeout=20)).data


@pytest.mark.parametrize("rules", [RULES, MASKS])
@pytest.mark.parametrize("compress", [0, 15])
def test_messages_pass(server: Aio, rules: str, compress: int) -> None:
    texts = ["hello hello hello", "hello again, hello", "é" * 300, "x" * 100_000, ""]

    async def say(socket: Socket, gate: Gate) -> None:
        assert socket.protocol == "chat"
        for text in texts:
            await socket.send_str(text)
            assert await heard(socket) == text
        await socket.send_bytes(bytes(range(256)))
        assert await heard(socket) == bytes(range(256))

    gate = talk(server, rules, compress, say)
    assert server.seen == [*texts, bytes(range(256))]
    assert [rule for _, rule, _ in gate.verdicts()] == ["rest"] * 7
    assert gate.verdicts()[1][2] == "WEBSOCKET /ws\n\nhello hello hello"


@pytest.mark.parametrize("compress", [0, 15])
def test_a_denied_message_is_not_seen_and_the_connection_lives(server: Aio, compress: int) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        for text in ("before before", '{"op": "drop", "x": "before"}', "before after", "key AKIAIOSFODNN7EXAMPLE", "the end"):
            await socket.send_str(text)
            answer = await heard(socket)
            if "op" in text or "AKIA" in text:
                assert json.loads(str(answer))["code"] == "denied"
            else:
                assert answer == text

    gate = talk(server, RULES, compress, say)
    assert server.seen == ["before before", "before after", "the end"]
    assert [rule for verdict, rule, _ in gate.verdicts() if verdict == "block"] == ["no-drop", "no-keys"]


@pytest.mark.parametrize("compress", [0, 15])
def test_a_held_message_waits_and_what_comes_behind_it_too(server: Aio, compress: int) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        await socket.send_str('{"op": "pay"}')
        await socket.send_str("behind it")
        question = await asyncio.to_thread(gate.wait_question)
        assert '{"op": "pay"}' in question.text
        assert server.seen == []
        gate.say(question, approved=True)
        assert [await heard(socket), await heard(socket)] == ['{"op": "pay"}', "behind it"]

    talk(server, RULES, compress, say)


def test_a_message_that_is_not_approved(server: Aio) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        await socket.send_str('{"op": "pay"}')
        assert json.loads(str(await heard(socket)))["code"] == "denied"
        await socket.send_str("on")
        assert await heard(socket) == "on"

    talk(server, RULES, 15, say, answer=lambda question: Answered(question.id, False, by="dana"))
    assert server.seen == ["on"]


@pytest.mark.parametrize("compress", [0, 15])
def test_messages_of_the_server_are_masked(server: Aio, compress: int) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        for text, shown in [("card card", "card card"), ("tell", "card [redacted]"), ("card card", "card card")]:
            await socket.send_str(text)
            assert await heard(socket) == shown

    gate = talk(server, MASKS, compress, say)
    assert all(CARD.encode() not in note.raw and CARD not in note.text for note in gate.of("message"))
    assert [note.masks for note in gate.of("message") if note.masks] == [("cards",)]


def test_the_archive_has_the_handshake(server: Aio) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        await socket.send_str("HTTP/1.1 200 OK")
        assert await heard(socket) == "HTTP/1.1 200 OK"

    gate = talk(server, RULES, 0, say)
    frames = [Frame(n, 1.7e9 + n / 10, id, note) for n, (id, note) in enumerate(gate.notes)]
    document = json.loads(b"".join(har.blocks(frames)))
    assert [(e["request"]["method"], e["response"]["status"]) for e in document["log"]["entries"]] == [("GET", 101)]


def test_who_may_not_speak_does_not_open(server: Aio) -> None:
    async def run(gate: Gate) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"http://127.0.0.1:{gate.port}/ws")
            assert refused.value.status == 403

    with Gate(Address("127.0.0.1", server.port), "rules: [{id: reads, to: db, when: {method: GET}, do: allow}]", protocol="http") as gate:
        asyncio.run(run(gate))


def test_an_operation_in_a_websocket(server: Aio) -> None:
    async def say(socket: Socket, gate: Gate) -> None:
        await socket.send_str('{"type": "subscribe", "payload": {"query": "mutation { deleteUser(id: 1) { id } }"}}')
        assert json.loads(str(await heard(socket)))["code"] == "denied"

    talk(server, RULES, 0, say)
    assert server.seen == []


def test_a_handshake_that_is_denied(server: Aio) -> None:
    async def run(gate: Gate) -> None:
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(f"http://127.0.0.1:{gate.port}/closed")
            assert refused.value.status == 403

    with Gate(Address("127.0.0.1", server.port), RULES, protocol="http") as gate:
        asyncio.run(run(gate))
