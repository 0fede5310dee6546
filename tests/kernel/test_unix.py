"""`unix:`: which unix sockets governed processes may speak to, by every name a socket has."""

import ctypes
import os
import socket
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.kernel import layout, unix
from appliance.model import HostError
from tests.kernel.stage import Stage

pytestmark = pytest.mark.kernel

REFUSED = "errno 111"


@pytest.fixture
def home(stage: Stage) -> Iterator[Path]:
    """A directory that everybody may read, with sockets that listen; all sockets may be spoken to again after it."""
    with tempfile.TemporaryDirectory(prefix="vg-") as name:
        home = Path(name)
        home.chmod(0o755)
        with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two, \
                socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagrams, \
                stage.host(socket.socket, socket.AF_UNIX) as abstract:  # fmt: skip
            for sock, to in ((one, str(home / "one")), (two, str(home / "two")), (datagrams, str(home / "datagrams")),
                             (abstract, f"\0{home.name}")):  # fmt: skip
                sock.bind(to)
                if sock is not datagrams:
                    sock.listen(64)
            for path in ("one", "two", "datagrams"):
                (home / path).chmod(0o777)
            yield home
        unix.allow(stage.fence, None)


def test_any_without_a_list(stage: Stage, home: Path) -> None:
    assert stage.vendor("unix", str(home / "one")) == "connected"
    assert stage.vendor("unix", f"@{home.name}") == "connected"
    assert stage.vendor("unix_datagram", str(home / "datagrams")) == "sent"


def test_an_empty_list_means_none(stage: Stage, home: Path) -> None:
    unix.allow(stage.fence, ())
    for case, name in (("unix", str(home / "one")), ("unix", f"@{home.name}"), ("unix_datagram", str(home / "datagrams"))):
        assert stage.vendor(case, name) == REFUSED
    assert stage.vendor("unix", str(home / "one"), cgroup=None) == "connected"


def test_what_is_on_the_list(stage: Stage, home: Path) -> None:
    unix.allow(stage.fence, (str(home / "one"), f"@{home.name}", str(home / "datagrams")))
    assert stage.vendor("unix", str(home / "one")) == "connected"
    assert stage.vendor("unix", f"@{home.name}") == "connected"
    assert stage.vendor("unix_datagram", str(home / "datagrams")) == "sent"
    before = stage.status().counters["refuse_unix"]
    assert stage.vendor("unix", str(home / "two")) == REFUSED
    assert stage.vendor("unix", f"@{home.name}x") == REFUSED
    assert stage.vendor("unix", f"@{home.name}%") == REFUSED
    assert stage.status().counters["refuse_unix"] == before + 3


def test_another_name_of_the_same_socket_is_refused(stage: Stage, home: Path) -> None:
    """Relative, through /proc, with dots, by a link: the hook sees names, so only one is let by."""
    unix.allow(stage.fence, (str(home / "one"),))
    (home / "link").symlink_to(home / "one")
    names = [
        os.path.relpath(home / "one"), f"/proc/self/root{home}/one", f"{home}/./one", f"{home}//one", f"/{home}/one",
        f"{home}/../{home.name}/one", str(home / "link"), f"{home}/one/", f"/proc/self/cwd/{os.path.relpath(home / 'one')}",
    ]  # fmt: skip
    for name in names:
        assert stage.vendor("unix", name) == REFUSED, name


def test_a_directory_lets_by_what_is_below_it(stage: Stage, home: Path) -> None:
    unix.allow(stage.fence, (f"{home}/",))
    assert stage.vendor("unix", str(home / "one")) == stage.vendor("unix", str(home / "two")) == "connected"
    assert stage.vendor("unix", f"{home}/../{home.name}/one") == REFUSED
    assert stage.vendor("unix", f"{home}x") == REFUSED


@pytest.mark.parametrize("case", ["unix_chroot", "unix_mount"])
def test_a_process_that_says_itself_what_paths_mean_gets_none(stage: Stage, home: Path, case: str) -> None:
    """In its own user namespace a vendor may chroot or mount, and `/run/allowed` be whatever it likes."""
    assert stage.vendor(case, str(home / "one")) == "connected"
    unix.allow(stage.fence, (str(home / "one"), "/one", "/mnt/one"))
    assert stage.vendor(case, str(home / "one")) == REFUSED


def test_a_name_without_its_nul(stage: Stage, home: Path) -> None:
    """An address may be as long as its path, as SUN_LEN() of sys/un.h makes it: its last character is of the name."""
    unix.allow(stage.fence, (str(home / "one"), str(home / "tw")))
    assert stage.vendor("unix_unended", str(home / "one")) == "connected"
    assert stage.vendor("unix_unended", str(home / "two")) == REFUSED


@pytest.mark.parametrize(("case", "length"), [("unix_beside", 60), ("unix_beside", 107), ("unix_beside", 108), ("unix_longer", 107)])
def test_a_name_like_the_vendors_own(stage: Stage, case: str, length: int) -> None:
    """The vendor's own socket is one character shorter or longer than somebody else's in the same directory."""
    for listed, said in ((None, "connected"), ((), REFUSED)):
        with tempfile.TemporaryDirectory(prefix="vg-") as name, socket.socket(socket.AF_UNIX) as sock:
            Path(name).chmod(0o777)
            theirs = f"{name}/".ljust(length, "x")
            bind(sock, theirs)
            Path(theirs).chmod(0o777)
            unix.allow(stage.fence, listed)
            try:
                assert stage.vendor(case, theirs) == said
            finally:
                unix.allow(stage.fence, None)


def bind(sock: socket.socket, path: str) -> None:
    """Listen at a path that Python's bind() may think too long."""
    name = struct.pack("H", socket.AF_UNIX) + path.encode()
    assert ctypes.CDLL(None).bind(sock.fileno(), name, len(name)) == 0
    sock.listen()


@pytest.fixture
def own(stage: Stage) -> Iterator[Path]:
    """A directory in which the vendor may bind, with sockets of its own: by path and by name, streams and datagrams."""
    with tempfile.TemporaryDirectory(prefix="vg-own-") as name:
        home = Path(name)
        home.chmod(0o777)
        servers = [stage.start("unix_serve", at) for at in (f"{home}/s", f"@{home.name}")]
        for server in servers:
            assert server.stdout and server.stdout.readline() == "listening\n"
        unix.allow(stage.fence, ())
        yield home
        unix.allow(stage.fence, None)
        for server in servers:
            server.communicate("\n")


def test_the_vendors_own_need_no_list(stage: Stage, own: Path) -> None:
    for name in (f"{own}/s", f"@{own.name}"):
        assert stage.vendor("unix", name) == "connected"
        assert stage.vendor("unix", name, user="nobody") in ("connected", "errno 13")
        assert stage.vendor("unix", name, cgroup="acme.service/child") == "connected"
        assert stage.vendor("unix", name, cgroup="other.service") == REFUSED
    assert stage.vendor("unix_datagram", f"{own}/s.letters") == "sent"
    assert stage.vendor("unix_datagram", f"{own}/s.letters", cgroup="other.service") == REFUSED


def test_the_vendors_own_by_that_one_name(stage: Stage, own: Path) -> None:
    (own / "link").symlink_to(own / "s")
    for name in (f"{own}//s", f"{own}/./s", f"{own}/link", f"/proc/self/root{own}/s", os.path.relpath(own / "s"), f"@{own.name}x"):
        assert stage.vendor("unix", name) == REFUSED, name
    (own / "s").rename(own / "t")
    assert stage.vendor("unix", f"{own}/s") == REFUSED
    assert stage.vendor("unix", f"{own}/t") == "connected"


@pytest.mark.parametrize("case", ["unix_replaced", "unix_renamed"])
def test_a_name_that_was_the_vendors_own(stage: Stage, case: str) -> None:
    """The socket is still bound and still the vendor's; by its name somebody else's would be found."""
    for listed, said in ((None, "connected"), ((), REFUSED)):
        with tempfile.TemporaryDirectory(prefix="vg-") as name, socket.socket(socket.AF_UNIX) as sock:
            folder = Path(name) / "theirs"
            folder.mkdir()
            sock.bind(str(folder / "sock"))
            sock.listen()
            for path in (Path(name), folder, folder / "sock"):
                path.chmod(0o777)
            unix.allow(stage.fence, listed)
            try:
                assert stage.vendor(case, str(folder / "sock")) == said
            finally:
                unix.allow(stage.fence, None)


def test_a_list_is_replaced_whole(stage: Stage, home: Path) -> None:
    unix.allow(stage.fence, (str(home / "one"),))
    unix.allow(stage.fence, (str(home / "two"),))
    assert stage.vendor("unix", str(home / "one")) == REFUSED
    assert stage.vendor("unix", str(home / "two")) == "connected"


def test_more_than_the_map_holds(stage: Stage) -> None:
    with pytest.raises(HostError, match="over 8192 entries"):
        unix.allow(stage.fence, ["/a"] * (layout.UNIX_ENTRIES + 1))


def test_a_kernel_without_the_hooks(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix, "_pinned", lambda fence, name: None)
    unix.allow(stage.fence, None)
    with pytest.raises(HostError, match="cannot be enforced"):
        unix.allow(stage.fence, ())


def test_inodes_of_the_list(home: Path) -> None:
    (home / "file").touch()
    listed = [str(home / "one"), f"{home}/", str(home / "gone"), str(home / "file"), "@x"]
    found = {layout.INODE.unpack(one)[0] for one in unix.inodes(listed)}
    assert found == {p.stat().st_ino for p in home.iterdir() if stat.S_ISSOCK(p.stat().st_mode)}
