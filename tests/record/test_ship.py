"""What is sent elsewhere arrives, is acknowledged before it may be dropped, and is sent again after any break.

The store is moto's S3 server, which checks signatures with Amazon's own library.
"""

import asyncio
import contextlib
import functools
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from appliance.config import Anchor, Place, Record
from appliance.model import HostError
from appliance.record import anchor
from appliance.record.audit.ledger import ANCHOR, Wanted
from appliance.record.checkpoint import Deed, Written, entries, files
from appliance.record.ship import Bucket, Credentials, Folder, ShipError, Sink, credentials
from appliance.record.verify import describe, verify
from appliance.service import notary as service
from appliance.service.notary import Notary, sink
from tests.ports import free_port
from tests.record.samples import T, closed, flow, opened, rows
from tests.record.store import Store

WAIT_S = 30.0
UP = 4  # requests without a signature, to make the user and the bucket


def looped(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @functools.wraps(test)
    def run(*args: object, **named: object) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(120):
                await test(*args, **named)

        asyncio.run(bounded())

    return run


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not what():
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home, port = tmp_path_factory.mktemp("s3"), free_port()
    env = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(UP)}
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (home / "log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
    try:
        until_ = time.monotonic() + WAIT_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None and time.monotonic() < until_, (home / "log").read_text()
            time.sleep(0.05)
        (home / "key").write_text("\n".join(user(port)) + "\n")
        urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}/bucket", method="PUT")).close()
        yield Place(f"http://127.0.0.1:{port}/bucket/host one", credentials=home / "key")
    finally:
        server.kill()
        server.wait()


def user(port: int) -> tuple[str, str]:
    """Make a user who may do what it likes with S3; return id and secret of its key."""
    allowed = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}'
    said = [
        iam(port, Action=action, UserName="u", **more)
        for action, more in {
            "CreateUser": {},
            "CreateAccessKey": {},
            "PutUserPolicy": {"PolicyName": "p", "PolicyDocument": allowed},
        }.items()
    ]
    found = re.search(r"<AccessKeyId>(.*?)<.*<SecretAccessKey>(.*?)<", said[1], re.S)
    assert found
    return found[1], found[2]


def iam(port: int, **words: str) -> str:
    data = urllib.parse.urlencode({**words, "Version": "2010-05-08"}).encode()
    scope = "AWS4-HMAC-SHA256 Credential=x/20250101/us-east-1/iam/aws4_request, SignedHeaders=host, Signature=x"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", data, {"Authorization": scope})
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


@contextlib.asynccontextmanager
async def opened_sink(place: Place) -> AsyncIterator[Sink]:
    one = sink(place)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture
def thing(tmp_path: Path) -> Path:
    path = tmp_path / "thing"
    path.write_bytes(os.urandom(300_000))
    return path


# -- sinks -------------------------------------------------------------------------------------------------------------


@looped
async def test_a_bucket_takes_a_file_and_has_it(s3: Place, thing: Path) -> None:
    async with opened_sink(s3) as store:
        assert isinstance(store, Bucket)
        assert not await store.has("records/a b+c.record", 300_000)
        await store.put("records/a b+c.record", thing)
        assert await store.has("records/a b+c.record", 300_000)
        assert not await store.has("records/a b+c.record", 299_999), "half of it is not it"


@looped
async def test_a_signature_with_another_key_is_refused(s3: Place, thing: Path, tmp_path: Path) -> None:
    key = credentials(s3.credentials)
    (tmp_path / "key").write_text(f"{key.id}\n{key.secret}x\n")
    async with opened_sink(Place(s3.to, credentials=tmp_path / "key")) as store:
        with pytest.raises(ShipError, match=r"(?s)403.*SignatureDoesNotMatch"):
            await store.put("records/x", thing)


@looped
async def test_an_error_does_not_say_the_secret(tmp_path: Path, thing: Path) -> None:
    assert "geheim" not in repr(Credentials("id", "geheim"))
    (tmp_path / "key").write_text("id\ngeheim\n")
    async with opened_sink(Place(f"http://127.0.0.1:{free_port()}/b/p", credentials=tmp_path / "key")) as store:
        with pytest.raises(ShipError) as caught:
            await store.put("x", thing)
        assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", "only one word", "a b c d"])
def test_credentials_that_are_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "key").write_text(text if text != "only one word" else "one")
    with pytest.raises(ShipError, match="key"):
        credentials(tmp_path / "key")


@looped
async def test_a_store_that_answers_nothing_of_use(tmp_path: Path, thing: Path) -> None:
    (tmp_path / "key").write_text("id\nsecret\n")

    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened_sink(Place(f"http://127.0.0.1:{port}/b/p", credentials=tmp_path / "key")) as store:
        with pytest.raises(ShipError, match=r"302|127\.0\.0\.1"):
            await store.put("x", thing)
        with pytest.raises(ShipError, match="302"):
            await store.has("x", 1)
    server.close()


@looped
async def test_a_put_that_did_not_arrive_whole_is_not_acknowledged(tmp_path: Path, thing: Path) -> None:
    """The store says 200, and shows another length."""
    (tmp_path / "key").write_text("id\nsecret\n")

    async def lies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"PUT"):
                    await reader.readexactly(300_000)
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                else:
                    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 299999\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(lies, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with opened_sink(Place(f"http://127.0.0.1:{port}/b/p", credentials=tmp_path / "key")) as store:
        with pytest.raises(ShipError, match="not there in its full length"):
            await store.put("x", thing)
    server.close()


@looped
async def test_a_directory_takes_a_file_under_its_name_when_it_is_whole(tmp_path: Path, thing: Path) -> None:
    (tmp_path / "there").mkdir()
    store = Folder(tmp_path / "there")
    assert not await store.has("records/x.record", 300_000)
    await store.put("records/x.record", thing)
    assert await store.has("records/x.record", 300_000)
    assert [path.name for path in (tmp_path / "there/records").iterdir()] == ["x.record"]
    assert (tmp_path / "there/records/x.record").read_bytes() == thing.read_bytes()


@looped
async def test_a_directory_that_is_not_mounted_is_not_made(tmp_path: Path, thing: Path) -> None:
    with pytest.raises(ShipError, match="is not there"):
        await Folder(tmp_path / "share").put("records/x", thing)
    assert not (tmp_path / "share").exists()


# -- the hub ships -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """Three sealed segments, and a key the hub will find."""
    (tmp_path / "state").mkdir()
    made = Store(tmp_path / "state")
    (made.home / "keys").mkdir(mode=0o700)
    (made.home / "keys/record.key").write_bytes(bytes(range(32)))
    (made.home / "keys/record.key").chmod(0o600)
    for number in range(3):
        made.write(flow(f"s{number}"), [opened("acme"), rows(os.urandom(2_000)), closed()], T + number)
        made.seal()
    made.close()
    yield made


@contextlib.asynccontextmanager
async def hub(store: Store, record: Record) -> AsyncIterator[Notary]:
    notary = Notary(store.home, record)
    running = asyncio.create_task(notary.run())
    try:
        await asyncio.to_thread(notary.round, "r1", ())
        yield notary
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        notary.close()


@looped
async def test_sealed_segments_and_their_proof_arrive_and_verify_there(store: Store, s3: Place, tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    async with hub(store, Record(ship=Place(str(share)))) as notary:
        await until(lambda: (share / "proof/key.pub").exists() and len(notary.keeper.unshipped(9)) == 0)
        names = sorted(store.names())
        assert sorted(path.name for path in (share / "records").iterdir()) == names
        assert notary.troubles == {}
    last = [one for path in files(share / "proof") for one in entries(path)][-1]
    (share / "proof/latest").write_text(f"{last.entry.number} {last.hash.hex()}\n")
    report = verify(share)
    assert report.whole, describe(report)
    assert report.segments == 3
    async with hub(store, Record(ship=s3)) as notary, opened_sink(s3) as bucket:
        assert notary.keeper.unshipped(9) == [], "they were acknowledged"
        with notary.keeper.catalog as db:
            db.execute("UPDATE segments SET shipped = 0")
        await until(lambda: not notary.keeper.unshipped(9))
        for name in names:
            assert await bucket.has(f"records/{name}", (store.records / name).stat().st_size)


@looped
async def test_a_break_costs_nothing_and_what_is_there_is_not_sent_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AGAIN_S", 0.05)
    monkeypatch.setattr(service, "LOOK_S", 0.02)
    sent: list[str] = []
    broken = [True]

    class Shaky(Folder):
        async def put(self, name: str, path: Path) -> None:
            if name.startswith("records/") and sent and broken[0]:
                raise ShipError("the line is dead")
            sent.append(name)
            await super().put(name, path)

    (tmp_path / "share").mkdir()
    monkeypatch.setattr(service, "sink", lambda place: Shaky(tmp_path / "share"))
    async with hub(store, Record(ship=Place("/share"), retention_s=1.0, max_bytes=100)) as notary:
        await until(lambda: "ship" in notary.troubles)
        assert "the line is dead" in notary.troubles["ship"]
        with pytest.raises(HostError, match="was not shipped"):
            await asyncio.to_thread(notary.prune, {})
        assert len(store.names()) == 2, "only what was acknowledged went"
        broken[0] = False
        await until(lambda: not notary.keeper.unshipped(9))
        await until(lambda: "ship" not in notary.troubles)
        await asyncio.to_thread(notary.prune, {})
        assert store.names() == []
    records = [name for name in sent if name.startswith("records/")]
    assert len(records) == len(set(records)) == 3
    assert len(list((tmp_path / "share/records").iterdir())) == 3
    assert verify(store.home).whole


@looped
async def test_after_a_lost_catalog_what_is_there_is_asked_for_and_not_sent(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "share").mkdir()
    async with hub(store, Record(ship=Place(str(tmp_path / "share")))) as notary:
        await until(lambda: not notary.keeper.unshipped(9))
    for path in store.home.glob("catalog*"):
        path.unlink()
    puts: list[str] = []
    put = Folder.put

    async def counted(self: Folder, name: str, path: Path) -> None:
        puts.append(name)
        await put(self, name, path)

    monkeypatch.setattr(Folder, "put", counted)
    async with hub(store, Record(ship=Place(str(tmp_path / "share")))) as notary:
        assert len(notary.keeper.unshipped(9)) in (0, 3)
        await until(lambda: not notary.keeper.unshipped(9))
    assert not [name for name in puts if name.startswith("records/")]


# -- anchors -------------------------------------------------------------------------------------------------------------


def written(store: Store) -> Written:
    return [one for path in files(store.home / "proof") for one in entries(path)][-1]


def by(command: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", command)


@looped
async def test_a_command_is_told_the_line(store: Store, tmp_path: Path) -> None:
    one = written(store)
    await anchor.by_command(by(f"cat >{tmp_path}/told"), one)
    line = (tmp_path / "told").read_text()
    assert line == f"{one.line}\n"
    assert ANCHOR.findall(line) == [(str(one.entry.number), one.hash.hex())]
    assert verify(store.home, Wanted(anchors=line)).whole


@pytest.mark.parametrize(
    ("command", "says"),
    [(by("echo no room >&2; exit 3"), "ended with 3: no room"), (("/no/such",), "No such file"), (by("exit 1"), "ended with 1")],
)
@looped
async def test_a_command_that_fails_says_why(store: Store, command: tuple[str, ...], says: str) -> None:
    with pytest.raises(ShipError, match=says):
        await anchor.by_command(command, written(store))


@looped
async def test_within_s_is_what_a_command_may_take(store: Store) -> None:
    assert anchor.WITHIN_S == 60
    with pytest.raises(ShipError, match=r"did not end within 0\.2 s"):
        await anchor.by_command(("/bin/sleep", "60"), written(store), 0.2)


@looped
async def test_an_object_holds_the_line_and_the_signed_entry(store: Store, s3: Place) -> None:
    one = written(store)
    async with opened_sink(s3) as bucket:
        await anchor.by_object(bucket, one)
        name = f"anchors/{one.entry.number:012d}"
        assert await bucket.has(f"{name}.txt", len(one.line) + 1)
        assert await bucket.has(f"{name}.checkpoint", len(one.data))


def test_syslog_gets_the_line(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, str]] = []
    monkeypatch.setattr(anchor.syslog, "syslog", lambda level, text: told.append((level, text)))
    anchor.by_syslog(written(store))
    assert told == [(anchor.syslog.LOG_NOTICE, written(store).line)]


@looped
async def test_the_hub_tells_all_that_are_named_and_tries_again(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure is in status, holds nothing up, and the next try tells the newest."""
    monkeypatch.setattr(service, "AGAIN_S", 0.05)
    monkeypatch.setattr(service, "LOOK_S", 0.02)
    told, gate = tmp_path / "told", tmp_path / "open"
    to = Anchor(command=by(f"test -e {gate} && cat >>{told}"), place=Place(str(tmp_path / "share")), every_s=0.05)
    (tmp_path / "share").mkdir()
    async with hub(store, Record(anchor=to)) as notary:
        await until(lambda: "anchor" in notary.troubles)
        assert "is not anchored: /bin/sh ended with 1" in notary.troubles["anchor"]
        notary.note(Deed("export", "eve"))
        gate.touch()
        await until(lambda: notary.anchored == notary.keeper.checkpoints.number)
        assert "anchor" not in notary.troubles
    lines = told.read_text()
    assert len(list((tmp_path / "share/anchors").glob("*.txt"))) == lines.count("\n")
    assert verify(store.home, Wanted(anchors=lines)).whole


@looped
async def test_every_s_is_the_time_between_two_anchors(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Anchor().every_s == 3600
    monkeypatch.setattr(service, "LOOK_S", 0.01)
    told = tmp_path / "told"
    async with hub(store, Record(anchor=Anchor(command=by(f"cat >>{told}")))) as notary:
        await until(lambda: notary.anchored)
        first = notary.anchored
        notary.note(Deed("export", "eve"))
        await asyncio.sleep(0.2)
        assert notary.anchored == first
    assert told.read_text().count("\n") == 1
