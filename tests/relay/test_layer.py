"""The TLS of one end: what goes in comes out whatever the cuts, and what it keeps does not grow with what it moved."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.model import Trust
from appliance.relay import layer
from appliance.relay.layer import PIECE, Layer
from appliance.relay.tls import Contexts
from appliance.service.authority import Authority

ROOT = Path(__file__).parent.parent.parent
SIZES = [1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 5, 1 << 18]
PAIRS, MOVED = 60, 1 << 20  # connections, and bytes that each moves at once, both ways
MOST = 250  # kB of resident memory for both ends of one: about 100; a whole MiB in each buffer would be 4 MB


async def pair(place: Path, contexts: Contexts, behind: bytes = b"") -> tuple[Layer, Layer]:
    """Return both ends of one connection, a server's and a client's, who says `behind` with the end of its handshake."""
    server, client = Layer(), Layer()
    server.begin(await contexts.downstream(("DNS:web.example",), ""))
    client.begin(contexts.upstream(Trust(ca=str(place / "authority.pem")), ()), "web.example")
    said = b""
    for _ in range(4):
        if client.done.done():
            client.seal(behind)
            said, behind = said + behind, b""
        server.feed(client.take())
        client.feed(server.take())
    assert server.done.done() and client.done.done()
    assert (server.release(), client.release()) == (said, b"")
    return server, client


def contexts(place: Path) -> Contexts:
    authority = Authority(place)

    async def mint(names: tuple[str, ...]) -> str:
        return authority.certify(names)

    return Contexts(mint)


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Layer, Layer]]:
    place = tmp_path_factory.mktemp("layer")
    yield asyncio.run(pair(place, contexts(place)))


def cuts(data: bytes, seed: int) -> Iterator[bytes]:
    """Yield the data in pieces of any size."""
    numbers = random.Random(seed)
    while data:
        size = numbers.choice([1, 5, 300, PIECE, 5 * PIECE, len(data)])
        yield data[:size]
        data = data[size:]


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_is_opened_whatever_the_cuts(ends: tuple[Layer, Layer], size: int) -> None:
    server, client = ends
    data = random.Random(size).randbytes(size)
    for one, other in ((server, client), (client, server)):
        one.seal(data)
        sealed = one.take()
        assert one.take() == b"" and not one.waiting
        assert b"".join(other.feed(part) for part in cuts(sealed, size)) == data
        assert not other._in.pending and not other._plain


def test_records_in_one_read_are_told_at_once(ends: tuple[Layer, Layer]) -> None:
    server, client = ends
    for number in range(50):
        client.seal(b"%d;" % number)
    assert server.feed(client.take()) == b"".join(b"%d;" % number for number in range(50))


def test_an_end_behind_data_is_seen_with_it(tmp_path: Path) -> None:
    server, client = asyncio.run(pair(tmp_path, contexts(tmp_path)))
    client.seal(b"last")
    client.close()
    assert server.feed(client.take()) == b"last"
    assert server.ended
    assert server.feed(b"x" * 100) == b"" and not server._in.pending


def test_what_comes_before_the_release_waits_for_it(tmp_path: Path) -> None:
    server, client = asyncio.run(pair(tmp_path, contexts(tmp_path)))
    server.released = False
    client.seal(b"a")
    assert server.feed(client.take()) == b""
    client.seal(b"b")
    assert server.feed(client.take()) == b""
    assert server.release() == b"ab"
    client.seal(b"c")
    assert server.feed(client.take()) == b"c"


def test_piece_is_less_than_a_record() -> None:
    assert layer.PIECE <= 16 * 1024, "RFC 8446 section 5.1"


@pytest.mark.parametrize("early", [0, 200_000])
def test_piece_bounds_what_a_connection_keeps(early: int, tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from tests.relay.test_layer import contexts, pair
place = Path({str(tmp_path)!r})
def resident(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4
async def main():
    made, data = contexts(place), bytes({MOVED})
    def move(ends):
        for one, other in (ends, ends[::-1]):
            one.seal(data)
            assert len(other.feed(one.take())) == len(data)
        return ends
    move(await pair(place, made, bytes({early})))
    before = resident()
    kept = [move(await pair(place, made, bytes({early}))) for _ in range({PAIRS})]
    print((resident() - before) / len(kept))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST
