"""The shipped packs for DNS and datagrams: read, and do what their own examples say."""

import pytest

from appliance.config import rules
from appliance.model import Place
from tests.config.test_packs import check, no_names, pack

PACKS = ("dns", "udp")


@pytest.mark.parametrize("name", PACKS)
def test_pack(name: str) -> None:
    check(pack(name), name)


@pytest.mark.parametrize("beside", ["http-hygiene", "http-read-only"])
def test_dns_pack_beside_one_that_allows(beside: str) -> None:
    check(pack("dns", beside), "dns")


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "10.0.0.53"])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_the_port_of_dns_over_tls_is_refused_before_its_first_byte(host: str, transport: str) -> None:
    files = [*pack("dns"), ("zz.yaml", "rules: [{id: rest, to: ['0.0.0.0/0', '::/0'], do: allow}]")]
    policy = rules(files, no_names)
    assert policy.admit((), Place(host, 853, transport)).rule == "dns-no-hidden-port"
    assert policy.admit((), Place(host, 443, transport)).verdict == "allow"


def test_both_together() -> None:
    files = pack("dns", "udp")
    assert rules(files, no_names).rules
    for name in PACKS:
        check(files, name)
