"""The shipped packs for DNS and datagrams: read, and do what their own examples say."""

import pytest

from appliance.config import rules
from tests.config.test_packs import check, no_names, pack

PACKS = ("dns", "udp")


@pytest.mark.parametrize("name", PACKS)
def test_pack(name: str) -> None:
    check(pack(name), name)


@pytest.mark.parametrize("beside", ["http-hygiene", "http-read-only"])
def test_dns_pack_beside_one_that_allows(beside: str) -> None:
    check(pack("dns", beside), "dns")


def test_both_together() -> None:
    files = pack("dns", "udp")
    assert rules(files, no_names).rules
    for name in PACKS:
        check(files, name)
