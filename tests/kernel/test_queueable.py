"""What the preflight tries of the queue: as a kernel has it, by xtables, and not at all."""

import socket

import pytest

from appliance.kernel import nft, queueable, table
from appliance.kernel.queues import Queues
from appliance.lab.hosts import Lab
from appliance.model import HostError
from tests.kernel.stage import RELAY, Inside

pytestmark = pytest.mark.kernel


def test_this_host_can_and_nothing_is_left_behind(lab: Lab) -> None:
    inside = Inside(lab.host)
    try:
        with inside(Queues.open):  # that of a service that runs is in its own namespace
            assert "leads to queues" in inside(queueable.look, RELAY)
        assert inside(nft.listing) == ""
    finally:
        inside.close()


def test_a_kernel_without_a_queue(rights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(queue: int, sock: socket.socket | None) -> None:
        raise HostError("lead packets to the queue: Operation not supported")

    apply = nft.apply

    def without(script: str) -> None:
        if "queue num" in script:
            raise HostError("nft -f: syntax error")
        apply(script)

    monkeypatch.setattr(nft, "apply", without)
    assert "leads to queues" in queueable.look(RELAY)  # by the target of xtables
    monkeypatch.setattr(table, "_sink", refuse)
    with pytest.raises(HostError, match="Operation not supported"):
        queueable.look(RELAY)
