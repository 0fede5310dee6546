"""Our nftables table: what others can do to it while we hold it, and after us."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appliance.config.settings import Settings
from appliance.kernel import nft, table
from appliance.kernel.queues import QUEUE
from appliance.kernel.table import Table
from appliance.lab.hosts import Lab
from appliance.model import HostError
from appliance.service.handover import Handover
from appliance.service.hub import Hub
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel

MARK = 0x56470001
OTHERS = "table inet other {\n}\n"


@pytest.fixture
def inside(lab: Lab) -> Iterator[Inside]:
    inside = Inside(lab.host)
    yield inside
    inside(table.remove)
    inside.close()


@pytest.fixture
def ours(inside: Inside) -> Iterator[Table]:
    ours = Table(15001, MARK)
    inside(ours.put)
    if ours.claim is None:
        pytest.skip("this kernel has no persistent tables (linux 6.9)")
    yield ours
    ours.release()


def does(lab: Lab, words: str) -> int:
    return int(lab.run(["nft", *words.split()], capture_output=True).returncode)


def rules(listing: str) -> list[str]:
    """Return the lines of a listing but those of flags and owner."""
    return [line for line in listing.splitlines()[1:] if line.strip() and "flags owner" not in line and line.strip() != "flags"]


def test_it_holds_what_the_plain_one_holds(inside: Inside, ours: Table) -> None:
    owned = inside(nft.listing)
    ours.release()
    inside(table.remove)
    inside(nft.apply, nft.ruleset(15001, MARK))
    assert rules(owned) == rules(inside(nft.listing))
    inside(nft.apply, nft.removal())


def test_a_flush_by_others_leaves_it(lab: Lab, inside: Inside, ours: Table) -> None:
    inside(nft.apply, OTHERS)
    listing = inside(nft.listing)
    assert does(lab, "flush ruleset") == 0
    assert inside(nft.listing) == listing and inside(nft.present)
    assert "other" not in lab.run(["nft", "list", "tables"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("words", [
    "delete table inet vendorgate", "flush table inet vendorgate", "flush chain inet vendorgate steer",
    "delete chain inet vendorgate guard", "add rule inet vendorgate steer accept",
])  # fmt: skip
def test_others_cannot_change_it(lab: Lab, inside: Inside, ours: Table, words: str) -> None:
    listing = inside(nft.listing)
    assert does(lab, words) == 1
    assert inside(nft.listing) == listing


def test_it_outlives_us_and_is_taken_up_again(lab: Lab, inside: Inside, ours: Table) -> None:
    ours.release()
    assert inside(nft.present)
    after = Table(15002, MARK)
    inside(after.put)
    assert after.claim and "redirect to :15002" in inside(nft.listing)
    assert inside(nft.listing).count("redirect to") == 1
    inside(after.put)  # as often as need be
    assert after.claim and does(lab, "flush ruleset") == 0 and inside(nft.present)
    after.release()


def test_there_is_one_owner(inside: Inside, ours: Table) -> None:
    second = Table(15001, MARK)
    with pytest.raises(HostError, match="another vendorgate is running"):
        inside(second.put)
    with pytest.raises(HostError, match="Operation not permitted"):
        inside(table.remove)
    assert second.claim is None and inside(nft.present)


def test_a_plain_table_is_taken_over(inside: Inside) -> None:
    inside(nft.apply, nft.ruleset(1, MARK))
    ours = Table(15001, MARK)
    inside(ours.put)
    assert inside(nft.listing).count("redirect to") == 1 and "redirect to :15001" in inside(nft.listing)
    ours.release()


def test_a_kernel_without_persistent_tables(lab: Lab, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "PERSIST", 1 << 30)  # a flag that no kernel knows
    ours = Table(15001, MARK)
    listing: Callable[[], str] = nft.listing
    assert inside(ours.put) == inside(listing) and ours.claim is None
    assert inside(nft.present)
    assert does(lab, "flush ruleset") == 0 and not inside(nft.present)
    inside(ours.put)
    assert inside(nft.present)


def test_removal_twice_is_fine(inside: Inside, ours: Table) -> None:
    ours.release()
    inside(table.remove)
    inside(table.remove)
    assert not inside(nft.present)


def test_the_filling_speaks_of_chains_only() -> None:
    text = nft.filling(15001, MARK)
    assert text.startswith("flush table inet vendorgate\nadd ct timeout inet vendorgate brief {")
    assert all(line.startswith(("flush table", "add ct timeout", "add chain", "add rule")) for line in text.splitlines())
    assert "brief" not in nft.filling(15001, MARK, brief=False)


def test_who_looks_after_it_does_not_take_it_from_who_changes_it(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start of a packet engine changes the table in one thread, while a chore puts it back in another."""
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    hub = Hub(Settings())
    hub.handover = Handover({})  # this manager would keep the claims
    hub.steering = Table(15001, MARK)
    put_back, end = [], threading.Event()

    def look() -> None:
        while not end.is_set():
            put_back.append(hub.steer_again())

    def change() -> None:
        hub.steer()
        thread = threading.Thread(target=look)  # in the namespace of who starts it
        thread.start()
        try:
            for number in range(12):
                hub.steering.queue = None if number % 2 else QUEUE
                hub.steer()
        finally:
            end.set()
            thread.join()
            hub.steering.release()

    inside(change)
    hub.notifier.socket.close()
    systemd.close()
    assert put_back
    assert not any(put_back), "our own changes are nobody else's"
