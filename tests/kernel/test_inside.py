"""Ways over lo: whose listener a direct rule reaches, and the answers within one vendor."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from appliance.kernel import coverage
from appliance.kernel.coverage import Coverage
from appliance.lab.hosts import HOST_IP
from tests.kernel.entry import Entry
from tests.kernel.stage import Listener, Stage, bound

pytestmark = pytest.mark.kernel

LOCAL = 7070
WIDE = [Entry(net, "direct", protocol=protocol) for net in ("0.0.0.0/0", "::/0") for protocol in (6, 17)]
HOSTS = ["127.0.0.1", "::1", "127.9.9.9", "::ffff:127.0.0.1", "0.0.0.0", "::"]


@pytest.fixture
def outsider(stage: Stage) -> Iterator[None]:
    """A server on this host that is outside the slice: a proxy, say."""
    ports = [("0.0.0.0", LOCAL), ("::", LOCAL)]
    sockets = stage.host(lambda: [bound(*at) for at in ports])
    listener = Listener(sockets, b"outsider", lambda sock: None)
    yield
    listener.close()


@contextmanager
def served(stage: Stage, case: str, host: str, cgroup: str = "acme.service") -> Iterator["subprocess.Popen[str]"]:
    server = stage.start(case, host, LOCAL, cgroup)
    assert server.stdout and server.stdout.readline() == "listening\n"
    try:
        yield server
    finally:
        server.communicate("\n")


def account(stage: Stage, cgroup: str = "acme.service") -> Coverage:
    return next((a for a in coverage.read(stage.fence) if a.cgroup == cgroup), Coverage(0, cgroup, 0, 0))


@pytest.mark.parametrize("host", HOSTS)
def test_a_wide_rule_does_not_mean_a_listener_of_others_here(stage: Stage, outsider: None, host: str) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(WIDE)
    assert stage.vendor("connect", host, LOCAL) == "errno 111"
    assert account(stage).reasons["refuse_loopback"] > 0


def test_nor_by_the_address_of_the_wire(stage: Stage, outsider: None) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(WIDE)
    assert stage.vendor("connect", HOST_IP, LOCAL) == "silence"
    assert stage.vendor("connect", HOST_IP, LOCAL, cgroup=None) == "outsider"


def test_a_rule_that_names_it_does(stage: Stage, outsider: None) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write([Entry("127.0.0.0/8", "direct"), Entry("::1/128", "direct"), Entry(f"{HOST_IP}/32", "direct")])
    for host in (*HOSTS, HOST_IP):
        assert stage.vendor("connect", host, LOCAL) == "outsider", host


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", HOST_IP])
def test_a_vendor_may_speak_with_itself(stage: Stage, host: str) -> None:
    stage.lab.cgroup("acme.service"), stage.lab.cgroup("acme.service/child"), stage.lab.cgroup("other.service")
    stage.judge.write(WIDE)
    before = account(stage).inside
    with served(stage, "serve_answer", host):
        assert stage.vendor("connect", host, LOCAL) == "inside"
        assert stage.vendor("connect", host, LOCAL, cgroup="acme.service/child") == "inside"
        assert stage.vendor("connect", host, LOCAL, cgroup="other.service") in ("errno 111", "silence")
        assert stage.vendor("connect", host, LOCAL, cgroup=None) == "silence"
    assert account(stage).inside.flows == before.flows + 2
    assert account(stage).inside.bytes > before.bytes


def test_a_connection_begun_with_ones_own_listener_does_not_go_on_with_anothers(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(WIDE)
    client = stage.start("handed_over", "127.0.0.1", LOCAL)
    assert client.stdin and client.stdout and client.stdout.readline() == "begun\n"
    print(file=client.stdin, flush=True)
    assert client.stdout.readline() == "free\n"
    outsider = Listener([stage.host(bound, "127.0.0.1", LOCAL)], b"outsider", lambda sock: None)
    assert "outsider" not in client.communicate()[0]
    outsider.close()


def test_without_a_rule_it_is_inspected_as_all_is(stage: Stage) -> None:
    with served(stage, "serve_answer", "127.0.0.1"):
        assert stage.vendor("connect", "127.0.0.1", LOCAL) == "relay"


def test_datagrams_go_by_the_same_rule(stage: Stage) -> None:
    stage.lab.cgroup("acme.service"), stage.lab.cgroup("other.service")
    stage.judge.write(WIDE)
    with served(stage, "serve_datagrams", "127.0.0.1"):
        assert stage.vendor("datagram", "127.0.0.1", LOCAL) == "inside"
        assert stage.vendor("connected_datagram", "127.0.0.1", LOCAL) == "inside"
        assert stage.vendor("datagram", "127.0.0.1", LOCAL, cgroup="other.service") == "errno 1"
    with served(stage, "serve_datagrams", "127.0.0.1", cgroup="other.service"):
        assert stage.vendor("datagram", "127.0.0.1", LOCAL) == "errno 1"


def test_an_accepted_socket_says_nothing_more_when_its_client_is_cut(stage: Stage) -> None:
    stage.lab.cgroup("acme.service")
    stage.judge.write(WIDE)
    with served(stage, "serve_answer", "127.0.0.1"):
        flow = stage.start("slow", "127.0.0.1", LOCAL)
        assert flow.stdout and flow.stdout.readline() == "inside\n"
        stage.judge.write([])
        assert flow.communicate("\n")[0] == "errno 103\n"
