"""The interface over a real unix socket, with peers of other users and from a governed cgroup."""

import asyncio
import grp
import json
import os
import pwd
import socket
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.control import api
from appliance.control.api import MAX_BODY, MAX_LIMIT, MAX_WATCHERS, bind, changes
from appliance.control.desk import held
from appliance.control.peer import Refused, identify, is_below, slice_path
from appliance.model import HostError, Note
from appliance.record.frame import Frame, pack
from appliance.record.session import Filter
from tests.control.hub import (
    PYTHON,
    Hub,
    ask,
    ask_as,
    ask_from,
    cgroup,
    cgroup_root,
    open_connection,
    running,
)
from tests.control.test_approvals import question

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be another user")
needs_cgroup = pytest.mark.skipif(
    os.geteuid() != 0 or cgroup_root() is None, reason="needs root and a writable cgroup2 mount"
)


def any_group() -> tuple[str, str, int]:
    """Return a user of this host that is no root, a group it is in and the number of that."""
    for entry in pwd.getpwall():
        if entry.pw_uid and entry.pw_name not in ("nobody",):
            try:
                group = grp.getgrgid(entry.pw_gid)
            except KeyError:
                continue
            if group.gr_name == entry.pw_name:
                return entry.pw_name, group.gr_name, group.gr_gid
    pytest.skip("no user with a group of its own on this host")


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running() as hub:
        yield hub


def put(hub: Hub, id: str = "q1", **of: object) -> None:
    assert hub.call(lambda: hub.approvals.ask(question(id, now=time.time(), **of), time.time())) is None


# -- routes ---------------------------------------------------------------------------------------------------------


def test_status(hub: Hub) -> None:
    status, body = ask(hub, "GET", "/status")
    assert status == 200
    assert {"ready", "rules_revision", "coverage", "fence", "losses"} <= body.keys()


def test_sessions_with_filters(hub: Hub) -> None:
    url = "/sessions?who=acme&to=orders-db&verdict=block&since=1.5&until=2&limit=1"
    status, (body,) = ask(hub, "GET", url)
    assert status == 200
    assert list(body) == [
        "id",
        "started",
        "ended",
        "identity",
        "process",
        "target",
        "protocol",
        "messages",
        "verdicts",
        "bytes",
        "rows",
        "masked",
        "answered_by",
        "revisions",
        "spent",
        "source",
    ]
    actor = ["pid", "exe", "argv", "cgroup", "package", "sha256", "script", "script_sha256", "unit", "container"]
    assert list(body["process"]) == actor
    assert hub.filters == [
        Filter(who="acme", to="orders-db", verdict="block", since=1.5, until=2.0, limit=1),
    ]


@pytest.mark.parametrize("query", ["limit=0", f"limit={MAX_LIMIT + 1}", "limit=x", "since=yesterday", "since=nan", "until=inf", "since=-1", "until=1e12"])
def test_a_bad_filter_is_400(hub: Hub, query: str) -> None:
    status, body = ask(hub, "GET", f"/sessions?{query}")
    assert (status, body["title"]) == (400, "bad filter")


def test_the_limit_of_a_list() -> None:
    assert MAX_LIMIT == 10_000


def test_one_session(hub: Hub) -> None:
    assert ask(hub, "GET", "/sessions/f1")[0] == 200
    assert ask(hub, "GET", "/sessions/f9") == (
        404,
        {"title": "no such session", "status": 404, "detail": "no session `f9`"},
    )


def test_frames_of_a_session_are_as_in_the_record(hub: Hub) -> None:
    frames = [Frame(n, float(n), "f1", Note("message", "x" * 999)) for n in range(200)]
    hub.kept["f1"] = frames
    connection = open_connection(hub.socket)
    connection.request("GET", "/sessions/f1/frames")
    assert connection.getresponse().read() == b"".join(map(pack, frames))
    connection.close()
    assert ask(hub, "GET", "/sessions/f9/frames")[0] == 404


def test_frames_are_sent_in_pieces() -> None:
    frames = [Frame(n, 0.0, "f1", Note("message", "x" * 999)) for n in range(200)]
    sizes = [len(piece) for piece in api.packed(iter(frames))]
    assert len(sizes) == 4
    assert all(api.PIECE <= size < api.PIECE + 1100 for size in sizes[:-1])


def test_an_unknown_route_and_method_are_problems(hub: Hub) -> None:
    assert ask(hub, "GET", "/nothing")[1]["status"] == 404
    assert ask(hub, "DELETE", "/status")[1]["status"] == 405


def test_problems_say_their_type(hub: Hub) -> None:
    connection = open_connection(hub.socket)
    connection.request("GET", "/nothing")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    connection.close()


def test_approvals_list_and_answer(hub: Hub) -> None:
    put(hub)
    status, body = ask(hub, "GET", "/approvals")
    assert status == 200
    fields = {"id", "asked", "expires", "identity", "process", "target", "protocol", "message", "rule"}
    assert fields <= body[0].keys()
    assert ask(hub, "GET", "/approvals/q1")[1]["raw"] == "UQAAABVjcmVhdGUgdGFibGUgdCgpAA=="
    status, body = ask(hub, "POST", "/approvals/q1", json.dumps({"approve": True, "reason": "ticket 7"}))
    assert (status, body["result"]) == (200, "done")
    assert ask(hub, "GET", "/approvals") == (200, [])
    assert ask(hub, "GET", "/approvals/q1")[0] == 404
    assert ask(hub, "POST", "/approvals/q1", '{"approve": true}')[0] == 404
    assert hub.call(hub.approvals.take)[-1].by == "root"


@pytest.mark.parametrize(
    "body", ["", "x", "[]", "{}", '{"approve": "yes"}', '{"approve": 1}', '{"approve": true, "by": "ann"}']
)
def test_a_bad_answer_approves_nothing(hub: Hub, body: str) -> None:
    put(hub)
    assert ask(hub, "POST", "/approvals/q1", body)[0] == 400
    assert len(ask(hub, "GET", "/approvals")[1]) == 1


def test_limit_of_a_body(hub: Hub) -> None:
    put(hub)
    body = json.dumps({"approve": True, "reason": "x" * MAX_BODY})
    assert ask(hub, "POST", "/approvals/q1", body)[0] == 413
    assert len(ask(hub, "GET", "/approvals")[1]) == 1


def test_reload(hub: Hub) -> None:
    assert ask(hub, "POST", "/reload") == (200, {"revision": "r2"})
    hub.bad_rules = "rule no-drop: unknown field `acton`"
    status, body = ask(hub, "POST", "/reload")
    assert status == 422
    assert body["detail"] == (
        "rules.d/10.yaml:3: rule no-drop: unknown field `acton`\nhint: did you mean `action`?"
    )


def test_contain(hub: Hub) -> None:
    order = {"do": "freeze", "who": "acme", "reason": "ticket 4711"}
    status, body = ask(hub, "POST", "/contain", json.dumps(order))
    assert status == 200 and body["done"] == "freeze" and body["cgroups"] == ["acme"] and body["processes"] == 3
    assert body["text"].endswith(": ticket 4711")


@pytest.mark.parametrize(("order", "status"), [
    ({"do": "freeze", "who": "nobody"}, 404),
    ({"do": "freeze", "who": "stuck"}, 500),
    ({"do": "stop", "who": "acme"}, 400),
    ({"do": "freeze", "whom": "acme"}, 400),
])  # fmt: skip
def test_an_order_that_cannot_be_followed_is_a_problem(hub: Hub, order: dict[str, str], status: int) -> None:
    assert ask(hub, "POST", "/contain", json.dumps(order))[0] == status


def test_export_streams(hub: Hub) -> None:
    connection = open_connection(hub.socket)
    connection.request("GET", "/export?id=f1&id=f2&format=pcapng")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b"onetwo")
    connection.close()


def test_export_of_nothing_or_strangers_is_a_problem(hub: Hub) -> None:
    assert ask(hub, "GET", "/export")[0] == 400
    assert ask(hub, "GET", "/export?id=f9")[0] == 404
    assert ask(hub, "GET", "/export?id=f1&format=xml")[0] == 400


def test_an_export_that_fails_midway_does_not_look_whole(hub: Hub) -> None:
    def broken() -> Iterator[bytes]:
        yield b"one"
        raise OSError("disk")

    hub.pieces = broken
    connection = open_connection(hub.socket)
    connection.request("GET", "/export?id=f1")
    answer = connection.getresponse()
    with pytest.raises(Exception, match=r"IncompleteRead|Remote end|reset"):
        answer.read()
    connection.close()


def test_our_own_fault_is_500_without_its_text(hub: Hub) -> None:
    hub._export = lambda ids, format: (_ for _ in ()).throw(RuntimeError("secret"))  # type: ignore[method-assign]
    with running() as other:
        other.pieces = lambda: (_ for _ in ()).throw(RuntimeError("secret"))
        status, body = ask(other, "GET", "/export?id=f1")
    assert status == 500
    assert "secret" not in json.dumps(body)


# -- the watch ------------------------------------------------------------------------------------------------------


def test_watch_tells_what_comes_and_goes(hub: Hub) -> None:
    put(hub, count=2)
    connection = open_connection(hub.socket)
    connection.request("GET", "/approvals?watch=1")
    lines = connection.getresponse()
    first = json.loads(lines.readline())
    assert (first["event"], first["id"], first["question"]["rule"]) == ("asked", "q1", "schema-needs-a-dba")
    put(hub, "q2")
    assert json.loads(lines.readline())["id"] == "q2"
    ask(hub, "POST", "/approvals/q1", '{"approve": true}')
    vote = json.loads(lines.readline())
    assert (vote["event"], vote["question"]["approved_by"]) == ("vote", ["root"])
    ask(hub, "POST", "/approvals/q1", '{"approve": false}')
    assert json.loads(lines.readline()) == {"event": "gone", "id": "q1", "question": None}
    connection.close()


def test_a_watcher_that_leaves_makes_room(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "MAX_WATCHERS", 1)
    put(hub)
    first = open_connection(hub.socket)
    first.request("GET", "/approvals?watch=1")
    first.getresponse().readline()
    assert ask(hub, "GET", "/approvals?watch=1")[0] == 503
    first.sock.shutdown(socket.SHUT_RDWR)
    first.close()
    until = time.monotonic() + 20
    status = 503
    while status == 503:
        assert time.monotonic() < until
        again = open_connection(hub.socket)
        again.request("GET", "/approvals?watch=1")
        status = again.getresponse().status
        again.close()
    assert status == 200


def test_a_silent_watch_beats(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "BEAT_S", 0.1)
    connection = open_connection(hub.socket)
    connection.request("GET", "/approvals?watch=1")
    assert connection.getresponse().readline() == b"\n"
    connection.close()


def test_limits_of_the_watch() -> None:
    assert (MAX_WATCHERS, api.WATCH_S, api.BEAT_S) == (64, 0.2, 15.0)


def test_changes_of_nothing_are_nothing() -> None:
    one = {"q1": held(question())}
    assert list(changes(one, one)) == []


# -- peers ----------------------------------------------------------------------------------------------------------


@root_only
def test_a_user_of_the_group_answers_under_its_own_name() -> None:
    user, group, gid = any_group()
    with running(gid=gid) as hub:
        put(hub, group=group)
        assert ask_as(user, hub, "POST", "/approvals/q1", '{"approve": true}')[0] == 200
        assert hub.call(hub.approvals.take)[-1].by == user


@root_only
def test_a_user_of_another_group_does_not() -> None:
    user, _, gid = any_group()
    with running(gid=gid) as hub:
        put(hub, group="no-such-group")
        status, body = ask_as(user, hub, "POST", "/approvals/q1", '{"approve": true}')
        assert (status, body["detail"]) == (
            403,
            f"only members of group `no-such-group` may answer `q1`; {user} is not one",
        )
        assert len(ask(hub, "GET", "/approvals")[1]) == 1


@root_only
def test_others_cannot_even_connect() -> None:
    with running() as hub:
        assert ask_as("nobody", hub, "GET", "/status") == (0, "[Errno 13] Permission denied")


@root_only
def test_only_root_reloads() -> None:
    user, _, gid = any_group()
    with running(gid=gid) as hub:
        assert ask_as(user, hub, "POST", "/reload")[0] == 403
        assert hub.reloaded == []


def test_a_reviewer_freezes_and_only_root_thaws_kills_and_observes() -> None:
    user, _, gid = any_group()
    with running(gid=gid) as hub:
        for deed, status in (("freeze", 200), ("thaw", 403), ("kill", 403), ("observe", 403)):
            assert ask_as(user, hub, "POST", "/contain", json.dumps({"do": deed, "who": "acme"}))[0] == status


@needs_cgroup
def test_a_governed_process_is_refused_even_as_root() -> None:
    with cgroup("vg-control-test.slice") as (top, path), running(governed=path) as hub:
        put(hub, group="")
        for place in (top / "acme.service", top):
            status, body = ask_from(place, hub, "POST", "/approvals/q1", '{"approve": true}')
            assert (status, body["detail"]) == (
                403,
                "processes of the governed slice have no part in control",
            )
            assert ask_from(place, hub, "GET", "/status")[0] == 403
        assert len(ask(hub, "GET", "/approvals")[1]) == 1
        assert ask_from(cgroup_root() or top, hub, "GET", "/status")[0] == 200


@needs_cgroup
def test_a_process_moved_into_the_slice_after_it_connected_is_refused() -> None:
    script = """
import http.client, socket, sys
c = http.client.HTTPConnection("localhost"); c.sock = socket.socket(socket.AF_UNIX); c.sock.connect(sys.argv[1])
for _ in range(2):
    c.request("GET", "/status"); a = c.getresponse(); a.read(); print(a.status)
    open(sys.argv[2] + "/cgroup.procs", "w").write("0")
"""
    with cgroup("vg-control-test.slice") as (top, path), running(governed=path) as hub:
        done = subprocess.run(
            [PYTHON, "-c", script, str(hub.socket), str(top / "acme.service")], capture_output=True, text=True
        )
        assert done.stdout.split() == ["200", "403"], done.stderr


@needs_cgroup
def test_a_neighbour_with_a_longer_name_is_not_governed() -> None:
    with (
        cgroup("vg-control-tes") as (_, path),
        cgroup("vg-control-test.slice") as (top, _),
        running(path) as hub,
    ):
        assert ask_from(top, hub, "GET", "/status")[0] == 200


def test_a_socket_whose_process_has_ended_is_refused() -> None:
    """A child keeps the connection of a parent that is no more: nobody can say who that is."""
    script = """
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
parent = os.getpid()
if os.fork(): os._exit(0)
while os.getppid() == parent: time.sleep(0.01)
s.sendall(b"GET /status HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
print(s.makefile().readline())
"""
    with running() as hub:
        done = subprocess.run([PYTHON, "-c", script, str(hub.socket)], capture_output=True, text=True)
    assert " 403 " in done.stdout, done.stderr


def test_identify_names_this_process() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = identify(ours, "/no-such.slice")
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert os.geteuid() != 0 or peer.user == "root"


def test_everyone_is_governed_when_the_slice_is_the_root() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, pytest.raises(Refused):
        identify(ours, "/")


@pytest.mark.parametrize(
    ("text", "why"),
    [("", "cannot be told"), ("1:name=systemd:/a\n", "cannot be told"), ("0::/../x\n", "cannot be told"),
     ("0::/vendor.slice/acme.service (deleted)\n", "governed slice"), (None, "cannot be told")],
)  # fmt: skip
def test_a_peer_that_cannot_be_placed_is_refused(tmp_path: Path, text: str | None, why: str) -> None:
    if text is not None:
        (tmp_path / str(os.getpid())).mkdir()
        (tmp_path / str(os.getpid()) / "cgroup").write_text(text)
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs, pytest.raises(Refused, match=why):
        identify(ours, "/vendor.slice", proc=tmp_path)


@pytest.mark.parametrize(
    ("cgroup", "below"),
    [("/vendor.slice", True), ("/vendor.slice/a", True), ("/vendor.slicex", False), ("/", False),
     ("/system.slice/vendor.slice", False)],
)  # fmt: skip
def test_is_below(cgroup: str, below: bool) -> None:
    assert is_below(cgroup, "/vendor.slice") is below


MOUNTINFO = """\
26 1 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw
35 26 0:32 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
36 26 0:32 /lab /tmp/a\\040b rw,relatime - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize(
    ("directory", "path"),
    [
        ("/sys/fs/cgroup/unified/vendor.slice", "/vendor.slice"),
        ("/tmp/a b/vendor.slice", "/lab/vendor.slice"),
    ],
)
def test_the_path_of_the_slice_is_as_the_kernel_writes_it(tmp_path: Path, directory: str, path: str) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    assert slice_path(Path(directory), tmp_path / "mountinfo") == path


def test_a_slice_outside_cgroup2_is_the_hosts_fault(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTINFO)
    with pytest.raises(HostError, match="not in a cgroup2 mount"):
        slice_path(Path("/sys/fs/cgroup/vendor.slice"), tmp_path / "mountinfo")


# -- the socket -----------------------------------------------------------------------------------------------------


def test_modes_of_the_socket_and_its_directory(hub: Hub) -> None:
    assert stat.S_IMODE(hub.socket.stat().st_mode) == 0o660
    assert stat.S_IMODE(hub.socket.parent.stat().st_mode) == 0o750


def test_a_directory_that_others_use_keeps_its_mode(tmp_path: Path) -> None:
    shared = tmp_path / "run"
    shared.mkdir(mode=0o755)
    (shared / "other.pid").write_text("1")
    bind(shared / "control.sock").close()
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert stat.S_IMODE((shared / "control.sock").stat().st_mode) == 0o660


def test_the_socket_is_never_open_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run" / "control.sock"
    seen: list[int] = []
    chown = os.chown

    def look(target: Path, uid: int, gid: int) -> None:
        if target == path:  # after bind, before its mode is set again
            seen.append(stat.S_IMODE(path.stat().st_mode))
        chown(target, uid, gid)

    monkeypatch.setattr(os, "chown", look)
    old = os.umask(0)
    try:
        bind(path).close()
    finally:
        os.umask(old)
    assert seen == [0o660]


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    bind(path).close()
    bind(path).close()


def test_a_second_hub_does_not_start(hub: Hub) -> None:
    with pytest.raises(HostError, match="another vendorgate is running"):
        bind(hub.socket)
    assert ask(hub, "GET", "/status")[0] == 200


def test_a_file_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(HostError, match="in use"):
        bind(path)
    assert path.read_text() == "mine"


def test_limit_of_the_path(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="107 bytes"):
        bind(tmp_path / ("x" * api.MAX_PATH))


def test_stop_ends_the_watches() -> None:
    with running() as hub:
        connection = open_connection(hub.socket)
        connection.request("GET", "/approvals?watch=1")
        answer = connection.getresponse()
        started = time.monotonic()
    assert answer.read() == b""
    assert time.monotonic() - started < 8, "it waited for one that does not end"
    connection.close()


def test_stop_without_start() -> None:
    hub = Hub(Path("/nonexistent"), "/x")
    asyncio.run(api.Control(hub.desk(), "/x").stop())
    hub.loop.close()
