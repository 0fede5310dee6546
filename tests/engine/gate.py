"""The real lanes, sessions and rules in this process, over the kernel's queue in a lab: without fence and hub.

What the fence and its table do is done by iptables here: packets to the target go to the queue with a mark, those that
come back as well; what has not the passing mark does not leave.
"""

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from appliance import config
from appliance.facts.readers import Shared
from appliance.kernel.networks import inside
from appliance.kernel.queue import Queue
from appliance.lab.hosts import NAMESPACES, Lab
from appliance.model import Address, Answered, Flow, Note, Process, Question
from appliance.policy import Policy
from appliance.service import voice
from appliance.service.lane import Limits
from appliance.service.lanes import Duties, Lanes
from appliance.service.outlet import Outlet
from appliance.session import Session
from appliance.session.rigid import Rigid
from tests.gate import AGENT

QUEUE, SOCKET, PASSING = 77, 0x57000001, 0xF1234567  # a mark has 32 bits, and the first may be set
Answer = Callable[[Question], Answered | None]


class Gate:
    """Use as a context manager. `rules` are a whole rules file."""

    def __init__(
        self, lab: Lab, rules: str, answer: Answer | None = None, process: Process | None = AGENT, limits: Limits | None = None
    ) -> None:
        self.lab, self.answer, self.process = lab, answer, process
        self.notes: list[tuple[Flow, Note]] = []
        self.questions: list[Question] = []
        self.incidents: list[str] = []
        self.unwritable = False
        self.policy = self.compile(rules)
        self._limits = limits or Limits()
        self._ids = itertools.count(1)
        self._shared = Shared()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def compile(self, rules: str) -> Policy:
        return config.rules([("rules.d/test.yaml", rules)], lambda name: [name])

    def reload(self, rules: str) -> None:
        self.policy = self.compile(rules)
        self._loop.call_soon_threadsafe(self.lanes.renew)

    def __enter__(self) -> "Gate":
        for program, target in (("iptables-nft", self.lab.target_ip), ("ip6tables-nft", self.lab.target_ip6)):
            for words in table(target):
                done = self.lab.run([program, *words.split()], capture_output=True, text=True)
                assert done.returncode == 0, f"{program} {words}: {done.stderr}"
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()
        for program in ("iptables-nft", "ip6tables-nft"):
            for name in ("mangle", "filter"):
                self.lab.run([program, "-t", name, "-F"])

    # -- what tests look at --------------------------------------------------------------------------------------

    def of(self, kind: str) -> list[Note]:
        return [note for _, note in list(self.notes) if note.kind == kind]

    def verdicts(self) -> list[tuple[str, str]]:
        return [(n.decision.verdict, n.decision.rule) for n in self.of("decision") if n.decision]

    def until(self, what: Callable[[], object], within: float = 20.0) -> None:
        """Wait until it is so."""
        end = time.monotonic() + within
        while not what():
            assert time.monotonic() < end, f"{self.incidents}\n" + "\n".join(map(str, self.notes))
            time.sleep(0.01)

    def say(self, question: Question, approved: bool) -> None:
        answer = Answered(question.id, approved, by="dana")
        self._loop.call_soon_threadsafe(self.lanes.answer, answer)

    def call(self, do: Callable[[], object]) -> None:
        """Have something done in the loop."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (do(), done.set()))
        assert done.wait(20)

    # -- in the loop ---------------------------------------------------------------------------------------------

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self.lanes = Lanes(
            Duties(
                identify=self._identify,
                session=self._session,
                record=self._record,
                ask=self._ask,
                withdraw=lambda effect: None,
                cancel=lambda effect: None,
                incident=lambda flow, text: self.incidents.append(text),
            ),
            self._limits,
        )
        namespace = os.open(NAMESPACES / self.lab.host, os.O_RDONLY)
        queue, raw = inside(namespace, lambda: (Queue.open(QUEUE), voice.sockets()))
        os.close(namespace)
        self.queue = queue
        self.lanes.open(Outlet(queue, voice.Voice(*raw, PASSING), PASSING))
        self._ready.set()
        await self._stop.wait()
        self.lanes.abort()
        self._loop.remove_reader(queue.fileno())
        queue.close()
        for sock in filter(None, raw):
            sock.close()

    def _session(self, flow: Flow) -> Session:
        kind = Rigid if flow.transport == "tcp" else Session
        return kind(flow, lambda: self.policy, self._shared)

    def _identify(self, mark: int, transport: str, client: Address, server: Address, since: int) -> Flow | None:
        assert mark == SOCKET
        if self.process is None:
            return None
        return Flow(f"{next(self._ids):04}", time.time(), client, server, self.process, 7, transport=transport)

    def _record(self, flow: Flow, notes: Sequence[Note]) -> None:
        if self.unwritable:
            raise OSError(28, "No space left on device")
        self.notes += [(flow, note) for note in notes]

    def _ask(self, question: Question) -> None:
        self.questions.append(question)
        answer = self.answer(question) if self.answer else None
        if answer:
            self._loop.call_soon(self.lanes.answer, answer)


def table(target: str) -> list[str]:
    """Return the rules, as words of iptables."""
    out, into = "-t mangle -A OUTPUT", "-t mangle -A INPUT"
    passing = f"-m mark --mark {PASSING:#x}"
    return [
        f"{out} {passing} -j RETURN",
        f"{out} -d {target} ! -p ipv6-icmp -j MARK --set-mark {SOCKET:#x}",
        f"{out} -d {target} ! -p ipv6-icmp -j CONNMARK --save-mark",
        f"{out} -d {target} ! -p ipv6-icmp -j NFQUEUE --queue-num {QUEUE}",
        f"{into} {passing} -j RETURN",
        f"{into} -m connmark --mark {SOCKET:#x} -j CONNMARK --restore-mark",
        f"{into} -m connmark --mark {SOCKET:#x} -j NFQUEUE --queue-num {QUEUE}",
        f"-t filter -A OUTPUT -d {target} ! -p ipv6-icmp -m mark ! --mark {PASSING:#x} -j DROP",
    ]
