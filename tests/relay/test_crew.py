"""The crew over real processes that speak the channel: they are kept alive, and none is trusted to be well."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from appliance.model import Answered, HostError
from appliance.relay.channel import Incident, Rules, Setup, ToHub
from appliance.service import crew as crew_module
from appliance.service.crew import Crew, Ears, Member
from appliance.service.launch import Running
from tests.relay.sessions import looped, until

# A worker in few lines: takes its settings and rules, says it is ready, and then does as its word says.
PROGRAM = """
import os, socket, sys, time, msgspec
from appliance.relay.channel import *
hub, word = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
decoder = msgspec.msgpack.Decoder(ToWorker)
stream = hub.makefile("rb")
def say(message):
    data = msgspec.msgpack.encode(message)
    hub.sendall(len(data).to_bytes(4, "big") + data)
if word == "dies at once":
    sys.exit(3)
while head := stream.read(4):
    message = decoder.decode(stream.read(int.from_bytes(head, "big")))
    if isinstance(message, Rules):
        if word == "is never ready":
            continue
        say(Ready("", "rules.d/1.yaml:1: no") if word == "refuses" else Ready(message.revision))
        if word == "babbles":
            hub.sendall(b"\\0\\0\\0\\1x")
    elif isinstance(message, Answer):
        say(Incident("", f"got {message.answered.id}"))
    elif isinstance(message, Drain) and word != "does not drain":
        sys.exit(0)
if word != "outlives the channel":
    sys.exit(1)
time.sleep(60)
"""


class Stand:
    """A crew, and what it told."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.said: list[tuple[int, ToHub]] = []
        self.gone: list[tuple[int, str]] = []
        self.crew = Crew(
            lambda number: Setup(number, "full", True, "/"),
            self.launch,
            [[] for _ in words],
            Ears(
                said=lambda member, message: self.said.append((member.number, message)),
                gone=lambda member, how: self.gone.append((member.number, how)),
            ),
        )

    def launch(self, member: Member) -> Running:
        ours, theirs = socket.socketpair()
        with theirs:
            words = [sys.executable, "-c", PROGRAM, str(theirs.fileno()), self.words[member.number]]
            process = subprocess.Popen(words, pass_fds=[theirs.fileno()])
        return Running(process, os.pidfd_open(process.pid), ours)

    def pids(self) -> list[int]:
        return [member.running.process.pid if member.running else 0 for member in self.crew.members]

    def ready(self) -> bool:
        return all(member.revision == "r1" for member in self.crew.members)


@asynccontextmanager
async def stand(*words: str) -> AsyncIterator[Stand]:
    here = Stand(list(words))
    try:
        yield here
    finally:
        await here.crew.stop(5.0)
        assert here.pids() == [0] * len(words)


RULES = Rules((), {}, "r1")


@looped
async def test_start_returns_when_every_worker_is_ready() -> None:
    async with stand("well", "well") as here:
        await here.crew.start(RULES)
        assert here.ready()
    assert sorted(here.gone) == [(0, "status 0"), (1, "status 0")]


@looped
async def test_killed_worker_is_noticed_and_started_again_with_the_rules_in_force() -> None:
    async with stand("well", "well") as here:
        await here.crew.start(Rules((), {}, "r0"))
        here.crew.judge_by(RULES)
        first = here.pids()
        os.kill(first[0], signal.SIGKILL)
        await until(lambda: here.gone == [(0, "signal 9")])
        await until(here.ready)
        assert here.pids()[0] not in (0, first[0])
        assert here.pids()[1] == first[1]
        assert here.crew.members[0].starts == 2


@looped
async def test_start_fails_when_a_worker_ends() -> None:
    async with stand("well", "dies at once") as here:
        with pytest.raises(HostError, match="worker 1 ended while it started"):
            await here.crew.start(RULES)


@looped
async def test_start_fails_when_a_worker_refuses_the_rules() -> None:
    async with stand("refuses") as here:
        with pytest.raises(HostError, match=r"rules.d/1.yaml:1: no"):
            await here.crew.start(RULES)


@pytest.fixture
def set_limit(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    return lambda name, value: monkeypatch.setattr(crew_module, name, value)


@looped
async def test_start_s_is_the_most_a_worker_takes_to_be_ready(set_limit: Callable[[str, float], None]) -> None:
    set_limit("START_S", 1.0)
    async with stand("is never ready") as here:
        with pytest.raises(HostError, match="was not ready within 1 s"):
            await here.crew.start(RULES)


@looped
async def test_silence_s_kills_a_worker_that_hangs(set_limit: Callable[[str, float], None]) -> None:
    set_limit("SILENCE_S", 0.5)
    set_limit("START_S", 1.0)
    async with stand("well") as here:
        await here.crew.start(RULES)
        (pid,) = here.pids()
        os.kill(pid, signal.SIGSTOP)
        here.crew.watch()
        assert here.gone == []
        await asyncio.sleep(1.2)
        here.crew.watch()
        await until(lambda: here.gone == [(0, "signal 9")])
        await until(here.ready)


@looped
async def test_worker_that_babbles_is_killed() -> None:
    async with stand("babbles") as here:
        await here.crew.start(RULES)
        await until(lambda: here.gone[:1] == [(0, "signal 9")])


@looped
async def test_back_off_doubles_to_its_most(set_limit: Callable[[str, float], None]) -> None:
    set_limit("BACK_OFF_S", 0.02)
    set_limit("BACK_OFF_MAX_S", 0.05)
    async with stand("well") as here:
        await here.crew.start(RULES)
        here.words[0] = "dies at once"
        (pid,) = here.pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: here.crew.members[0].deaths >= 4, 20)
        waiting = here.crew.members[0].waiting
        # Without the limit it would be 0.16 by now; the loop's clock has whole milliseconds.
        assert waiting is None or waiting.when() - asyncio.get_running_loop().time() < 0.1
        here.words[0] = "well"
        await until(here.ready, 20)


@looped
async def test_well_s_forgives_deaths_of_long_ago(set_limit: Callable[[str, float], None]) -> None:
    set_limit("WELL_S", 0.0)
    async with stand("well") as here:
        await here.crew.start(RULES)
        for _ in range(3):
            await until(here.ready)
            os.kill(here.pids()[0], signal.SIGKILL)
            await until(lambda: not here.ready())
            assert here.crew.members[0].deaths == 1


@looped
async def test_answer_goes_to_its_worker() -> None:
    async with stand("well", "well") as here:
        await here.crew.start(RULES)
        here.crew.answer(here.crew.members[1], Answered("f1-1", True))
        await until(lambda: here.said == [(1, Incident("", "got f1-1"))])


@looped
async def test_leave_s_after_the_drain_kills_a_worker_that_does_not_end(set_limit: Callable[[str, float], None]) -> None:
    set_limit("LEAVE_S", 0.3)
    async with stand("does not drain") as here:
        await here.crew.start(RULES)
        await here.crew.stop(0.2)
    assert here.gone == [(0, "signal 9")]


@looped
async def test_stop_while_a_worker_waits_to_be_started_again(set_limit: Callable[[str, float], None]) -> None:
    set_limit("BACK_OFF_S", 5.0)
    async with stand("well") as here:
        await here.crew.start(RULES)
        os.kill(here.pids()[0], signal.SIGKILL)
        await until(lambda: here.crew.members[0].waiting is not None)
    await asyncio.sleep(0.05)
    assert here.pids() == [0]
