"""What a message costs between the loop and its session: the pipe, the record, the sockets it is written to.

The session is one that only says what is to be noted and sent, so that what is measured is all the rest. Sockets are
real; what is written to them is taken away between the rounds.
"""

import asyncio
import socket
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from appliance.model import Address, Decision, Effect, Event, Flow, Note, Received, Send, Spent
from appliance.record.log import Log
from appliance.relay.relay import Duties, Relay
from appliance.service.book import Book
from tests.budget.test_cpu import HEADROOM, ROUNDS, least, reference
from tests.relay.sessions import C, Pass, S, looped, until
from tests.session.test_session import rules

ASK, ANSWER = bytes(100), bytes(120)  # about as pgbench's
TURNS = 40  # in a round: a request of each flow, or an answer of each
TEXT = "SELECT abalance FROM pgbench_accounts WHERE aid = $1;"
FACTS = (("effect", ("read",)), ("table", ("public.pgbench_accounts",)), ("statement", ("SELECT",)))
# Measured, in units: a request and its answer, on one flow alone and where eight have theirs in one turn.
MEASURED = {1: 0.31, 8: 0.23}


class Says(Pass):
    """Notes what a session notes of a prepared statement, and passes it."""

    def receive(self, event: Event, now: float) -> Sequence[Effect]:
        if not isinstance(event, Received):
            return super().receive(event, now)
        if event.side is S:
            told = Note("message", "I", S, "ready", event.data, count=1, spent=Spent(parse=2e-5, upstream=1e-4))
            return [told, Send(C, event.data)]
        asked = Note("message", TEXT, C, "bind", event.data, count=1, facts=FACTS, spent=Spent(parse=2e-5, policy=1e-5))
        judged = Note("decision", TEXT, decision=Decision("allow", "work", "10.yaml", "r1"), id="f0-1")
        return [asked, judged, Send(S, event.data)]


class Bench:
    """A relay with some flows, whose peers are sockets of the test."""

    def __init__(self, place: Path) -> None:
        log = Log(place, "w0")
        book = Book(log, True, lambda told: None, lambda flow, notes, error: None)
        book.judge_by(rules("\n  - {id: work, do: allow}\n"))
        self._servers, self._listener = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        self.number = 0
        self.peers: list[socket.socket] = []
        no = lambda *any: None  # noqa: E731
        duties = Duties(
            self._identify, Says, book.keep, no, no, no, lambda flow, text: pytest.fail(text), record_all=book.keep_all
        )
        self.relay = Relay(duties)
        self.relay.listen(self._listener)

    def _identify(self, sock: socket.socket) -> Flow:
        self.number += 1
        server = Address(*self._servers.getsockname())
        return Flow(f"f{self.number}", 0.0, Address.of(*sock.getpeername()), server, None)

    async def open(self, flows: int) -> None:
        self.peers = [socket.create_connection(self._listener.getsockname()) for _ in range(flows)]
        await until(lambda: len(self.relay._pipes) == flows)
        self.ends = [pipe._ends for pipe in self.relay._pipes]
        await until(lambda: all(end.open for ends in self.ends for end in ends.values()), 20)
        self.peers += [self._servers.accept()[0] for _ in range(flows)]
        for peer in self.peers:
            peer.setblocking(False)

    async def turns(self) -> float:
        """Return the seconds of process time of a request and its answer."""
        began = time.process_time()
        for turn in range(TURNS):
            side, data = (S, ANSWER) if turn % 2 else (C, ASK)
            for ends in self.ends:
                ends[side].data_received(data)
            await asyncio.sleep(0)
        took = time.process_time() - began
        await asyncio.gather(*(self._take(peer) for peer in self.peers))
        return took / (TURNS // 2) / len(self.ends)

    async def _take(self, peer: socket.socket) -> None:
        """Take what was written in a round: all of it, or the test ends by its own time."""
        left = TURNS // 2 * (len(ASK) if peer.getsockname() == self._servers.getsockname() else len(ANSWER))
        while left:
            left -= len(await asyncio.get_running_loop().sock_recv(peer, left))

    async def close(self) -> None:
        self.relay.stop()
        self.relay.abort()
        await self.relay.empty()
        for sock in (*self.peers, self._servers):
            sock.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize("flows", MEASURED)
def test_the_budget_of_the_relay_is_kept(tmp_path: Path, flows: int) -> None:
    @looped
    async def run() -> None:
        bench = Bench(tmp_path)
        try:
            await bench.open(flows)
            found.extend([await bench.turns() for _ in range(ROUNDS)])
        finally:
            await bench.close()

    found: list[float] = []
    unit = least(reference, 1)
    run()
    units = min(found) / unit
    print(f"\nrelay, {flows} flows: {units:.4f} units of {1e6 * unit:.0f} us: {1e6 * min(found):.1f} us")
    assert units <= HEADROOM * MEASURED[flows], f"{units:.3f} units; it took {MEASURED[flows]:.3f}"
