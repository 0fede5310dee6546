"""Messages as dnspython writes and reads them, beside ours."""

import dns.flags
import dns.message
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.wire.dns import message as messages
from appliance.wire.dns import names, rewrite
from appliance.wire.dns.connection import refusal
from appliance.wire.dns.message import parse
from appliance.wire.dns.numbers import ECH

RECORDS = {
    "A": "192.0.2.1",
    "AAAA": "2001:db8::1",
    "AFSDB": "1 afs.www.example.",
    "CAA": '0 issue "ca.example"',
    "CNAME": "cdn.www.example.",
    "DNAME": "other.example.",
    "DS": "12345 8 2 49fd46e6c4b45c55d4ac49fd46e6c4b45c55d4ac49fd46e6c4b45c55d4ac49fd",
    "HTTPS": '1 svc.www.example. alpn="h2,h3" port=8443 ipv4hint=192.0.2.7 ech="AAj+DQAEYWJjZA==" ipv6hint=2001:db8::7',
    "MX": "10 mail.www.example.",
    "NAPTR": '100 10 "u" "E2U+sip" "!^.*$!sip:a@www.example!" .',
    "NS": "ns1.www.example.",
    "PTR": "host.www.example.",
    "PX": "10 a.www.example. b.www.example.",
    "RP": "admin.www.example. text.www.example.",
    "RT": "5 relay.www.example.",
    "SOA": "ns1.www.example. admin.www.example. 2026010101 7200 3600 1209600 300",
    "SRV": "1 2 443 srv.www.example.",
    "SVCB": '1 . mandatory="ech,alpn" alpn="h2" ech="AAj+DQAEYWJjZA=="',
    "TXT": '"v=spf1 -all" "more"',
}
OWNER = st.sampled_from(["www.example.", "WWW.Example.", "a.www.example.", "cdn.www.example.", "example.", "other.example."])
ENTRY = st.tuples(st.sampled_from(sorted(RECORDS)), OWNER, st.integers(0, 2**31 - 1), st.integers(0, 2))


def made(entries: list[tuple[str, str, int, int]], qtype: str = "A") -> bytes:
    query = dns.message.make_query("www.example.", qtype, use_edns=True, payload=1232)
    found = dns.message.make_response(query, our_payload=1232)
    for kind, owner, ttl, section in entries:
        found.sections[section + 1].append(dns.rrset.from_text(owner, ttl, "IN", kind, RECORDS[kind]))
    return found.to_wire(max_size=65_535)


@given(st.lists(ENTRY, max_size=8))
@settings(max_examples=150, deadline=None)
def test_what_it_writes_is_read_as_it_is(entries: list[tuple[str, str, int, int]]) -> None:
    data = made(entries)
    ours, theirs = parse(data), dns.message.from_wire(data, one_rr_per_rrset=True)
    assert ours.question is not None
    assert names.write(ours.question.name) == theirs.question[0].name.to_wire()
    here = [(names.write(r.name), r.type, r.ttl, r.section) for r in ours.records if r.type != 41]
    there = [
        (rrset.name.to_wire(), int(rrset.rdtype), rrset.ttl, place)
        for place, section in enumerate(theirs.sections[1:])
        for rrset in section
        for _ in rrset
    ]
    assert here == there


@given(st.lists(ENTRY, max_size=8), st.sampled_from(["HTTPS", "SVCB"]))
@settings(max_examples=150, deadline=None)
def test_what_we_write_without_ech_it_reads_as_before_but_for_that(entries: list[tuple[str, str, int, int]], kind: str) -> None:
    data = made([*entries, (kind, "www.example.", 300, 0)])
    found = parse(data)
    assert rewrite.hides(found)
    out = rewrite.opened(data, found)
    assert len(out) <= len(data)
    if parse(out).flags & messages.TC:
        return
    before, after = (dns.message.from_wire(one, one_rr_per_rrset=True) for one in (data, out))
    assert [[_plain(rrset) for rrset in section] for section in before.sections] == [
        [_plain(rrset) for rrset in section] for section in after.sections
    ]
    assert not rewrite.hides(parse(out))


def _plain(rrset: dns.rrset.RRset) -> tuple[object, ...]:
    """Return an entry with names whole and without ECH."""
    texts = []
    for rdata in rrset:
        params = getattr(rdata, "params", None)
        if params is None:
            texts.append(rdata.to_text())
        else:
            kept = {int(key): value for key, value in params.items() if key != ECH}
            shown = {key: value.to_text() if value else "" for key, value in kept.items() if key != 0}
            texts.append(f"{rdata.priority} {rdata.target} {shown}")
    return (rrset.name, rrset.rdtype, rrset.ttl, texts)


@pytest.mark.parametrize("code", [0, 3, 5])
def test_it_reads_a_refusal_of_ours(code: int) -> None:
    query = dns.message.make_query("www.example.", "AAAA", use_edns=True)
    reply = dns.message.from_wire(refusal(query.to_wire(), code, "denied by vendorgate (decision f1-1)"))
    assert query.is_response(reply)
    assert reply.rcode() == code
    [option] = reply.options
    assert "denied by vendorgate (decision f1-1)" in option.to_text()
