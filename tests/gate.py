"""The real relay, sessions and rules in one process, before a real server: no root, no kernel, no hub.

What stands in for the rest of the appliance is said at construction: the process that connects, and how questions
are answered. Notes are kept in memory, in the order the record would hold them.
"""

import asyncio
import itertools
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from appliance import config
from appliance.facts.readers import Shared
from appliance.model import Address, Answered, Cancel, Flow, Note, Process, Question
from appliance.policy import Policy
from appliance.relay.relay import Duties, Relay
from appliance.service.authority import Authority
from appliance.session import Session

AGENT = Process(4242, 1, "/usr/bin/psql", ("psql",), "acme.service", 1000)
Answer = Callable[[Question], Answered | None]

HEAD = """
identities:
  acme: {{cgroup: acme.service}}
targets:
  db: {{protocol: {protocol}, address: ["{address}"]{tls}}}
"""
ALLOW = "rules:\n  - {id: all, do: allow}\n"


class Gate:
    """A port on loopback whose connections are judged by `rules` and go to `server`. Use as a context manager."""

    def __init__(
        self, server: Address, rules: str = ALLOW, answer: Answer | None = None, process: Process = AGENT, *,
        protocol: str = "postgres", tls: str = "", more: str = "",
    ) -> None:
        """`more` is a file of rules beside `rules`, which `reload` leaves as it is."""
        self._more = [("rules.d/more.yaml", more)] if more else []
        self._tls = f", tls: {tls}" if tls else ""
        self._protocol = protocol
        self.server, self.process, self.answer = server, process, answer
        self.notes: list[tuple[str, Note]] = []
        self.questions: list[Question] = []
        self.incidents: list[str] = []
        self.policy = self.compile(rules)
        self.authority: Authority | None = None  # certifies names to clients, where a test opens TLS
        self._ids = itertools.count(1)
        self._shared = Shared()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def compile(self, rules: str) -> Policy:
        head = HEAD.format(address=self.server, protocol=self._protocol, tls=self._tls)
        return config.rules([("rules.d/test.yaml", head + rules), *self._more], self.resolve)

    @staticmethod
    def resolve(name: str) -> list[str]:
        return ["127.0.0.1"] if name == "localhost" else [name]

    def reload(self, rules: str) -> None:
        """Put other rules in force, for live sessions too."""
        policy = self.compile(rules)

        async def judge_by() -> None:
            self.policy = policy
            self._relay.renew()

        asyncio.run_coroutine_threadsafe(judge_by(), self._loop).result(10)

    def __enter__(self) -> "Gate":
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    # -- what tests look at --------------------------------------------------------------------------------------

    def of(self, kind: str) -> list[Note]:
        return [note for _, note in list(self.notes) if note.kind == kind]

    def verdicts(self) -> list[tuple[str, str, str]]:
        """Return (verdict, rule, statement) of every decision so far."""
        return [(n.decision.verdict, n.decision.rule, n.text) for n in self.of("decision") if n.decision]

    def wait_question(self, number: int = 1) -> Question:
        """Return the number-th question, once it is asked."""
        until = time.monotonic() + 10
        while len(self.questions) < number:
            assert time.monotonic() < until, "no question was asked"
            time.sleep(0.01)
        return self.questions[number - 1]

    def say(self, question: Question, approved: bool, cancelled: bool = False) -> None:
        """Answer a question as the hub would."""
        answer = Answered(question.id, approved, by="dana", cancelled=cancelled)
        self._loop.call_soon_threadsafe(self._relay.answer, answer)

    # -- in the loop ---------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        duties = Duties(
            identify=self._identify,
            session=lambda flow: Session(flow, lambda: self.policy, self._shared),
            record=self._record,
            ask=self._ask,
            withdraw=lambda effect: None,
            cancel=self._cancel,
            incident=lambda flow, text: self.incidents.append(text),
            mint=self.mint,
        )
        self._relay = Relay(duties)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
            self._relay.listen(probe.dup())
            self._ready.set()
            await self._stop.wait()
        self._relay.stop()
        self._relay.abort()
        await self._relay.empty()

    async def mint(self, names: tuple[str, ...]) -> str:
        assert self.authority is not None
        return self.authority.certify(names)

    def _identify(self, sock: socket.socket) -> Flow:
        host, port = sock.getpeername()[:2]
        return Flow(f"{next(self._ids):04}", time.time(), Address.of(host, port), self.server, self.process)

    def _record(self, flow: Flow, notes: Sequence[Note]) -> None:
        self.notes += [(flow.id, note) for note in notes]

    def _ask(self, question: Question) -> None:
        self.questions.append(question)
        answer = self.answer(question) if self.answer else None
        if answer:
            self._loop.call_soon(self._relay.answer, answer)

    def _cancel(self, cancel: Cancel) -> None:
        for question in self.questions:
            if question.cancel_key == cancel.key:
                self._relay.answer(Answered(question.id, False, by="the client", cancelled=True))
