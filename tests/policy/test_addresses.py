"""Addresses that were read before are read alike, and not without end."""

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance import model
from appliance.model import MAX_HOSTS, Address
from appliance.policy import Net, rule


@settings(deadline=None)
@given(st.ip_addresses())
def test_an_address_has_one_normal_form_each_time(ip: object) -> None:
    first = Address.of(str(ip), 80)
    assert first == Address.of(str(ip), 80) == Address.of(first.host, 80)
    assert first.host == model._normal.__wrapped__(str(ip))


def test_what_is_none_is_refused_each_time() -> None:
    for _ in range(3):
        with pytest.raises(ValueError, match="does not appear"):
            Address.of("db.example", 80)


def test_max_hosts() -> None:
    net = Net(ip_network("10.0.0.0/8"))
    for number in range(MAX_HOSTS + 50):
        assert net.holds(Address.of(f"10.1.{number // 256}.{number % 256}", 80))
    assert model._normal.cache_info().currsize == MAX_HOSTS
    assert rule._parsed.cache_info().currsize == MAX_HOSTS
