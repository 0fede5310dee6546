"""Listening sockets handed to a worker that runs."""

import asyncio
import socket

from appliance.service.door import Door, pair, tell
from tests.relay.sessions import looped


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@looped
async def test_sockets_come_and_go_and_none_before_it_is_open() -> None:
    ours, theirs = pair()
    listening: list[socket.socket] = []
    one = listener()
    with one:
        assert tell(ours, 5, [one])
        door = Door(theirs, listening.append, listening.remove)
        await asyncio.sleep(0)
        assert listening == []
        door.open()
        while not listening:
            await asyncio.sleep(0.001)
        (sock,) = listening
        assert sock.getsockname() == one.getsockname()
        assert tell(ours, 5, ())
        while listening:
            await asyncio.sleep(0.001)
        sock.close()
    ours.close()
    await asyncio.sleep(0.01)  # the end of the other side is no fault
    theirs.close()


@looped
async def test_a_door_that_takes_nothing_says_so() -> None:
    ours, theirs = pair()
    with ours, theirs, listener() as one:
        assert any(not tell(ours, number, [one]) for number in range(100_000))
    assert not tell(ours, 1, ())
