"""Whole messages, read strictly; answers written anew without ECH."""

import itertools
import time

import pytest

from appliance.model import ProtocolError
from appliance.wire.dns import message as messages
from appliance.wire.dns import names, rewrite
from appliance.wire.dns.message import MAX_ALIASES, parse
from appliance.wire.dns.numbers import TYPES
from tests.wire.dns.given import EDNS, POINTER, address, answer, edns, name, question, record


def test_types_have_one_name_in_rules_and_on_the_wire() -> None:
    from appliance.facts.words import dns as words

    assert {*TYPES.values(), "OTHER"} == set(words.TYPES)


def test_a_question() -> None:
    found = parse(question("www.Example.com", "AAAA", opt=edns((10, b"12345678"))))
    assert found.question == messages.Question((b"www", b"Example", b"com"), 28, 1)
    assert found.edns is not None
    assert messages.options(found.edns) == [(10, b"12345678")]
    assert not found.answers


PLAIN = question("a.example")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "too short"),
        (PLAIN[:11], "too short"),
        (PLAIN + bytes(70_000), "too long"),
        (PLAIN + b"x", "1 bytes behind the end"),
        (PLAIN[:-1], "cut short"),
        (PLAIN[:4] + b"\0\2" + PLAIN[6:] + PLAIN[12:], "2 questions"),
        (PLAIN[:4] + b"\0\0" + PLAIN[6:12], "0 questions"),
        (PLAIN[:2] + b"\x28\0" + PLAIN[4:], "operation 5"),
        (PLAIN[:2] + b"\x20\0" + PLAIN[4:], "operation 4"),
        (PLAIN[:2] + b"\x01\x40" + PLAIN[4:], "flags that only answers"),  # the bit that must be zero
        (PLAIN[:2] + b"\x05\0" + PLAIN[4:], "flags that only answers"),
        (PLAIN[:2] + b"\x01\x03" + PLAIN[4:], "flags that only answers"),
        (PLAIN[:10] + b"\0\1" + PLAIN[12:] + record(b"\0", "TXT", b"\5stolen"[:6]), "question with records"),
        (PLAIN[:6] + b"\0\1" + PLAIN[8:] + address(), "question with records"),
        (PLAIN[:10] + b"\0\2" + PLAIN[12:] + EDNS + EDNS, "EDNS more than once"),
        (PLAIN[:10] + b"\0\1" + PLAIN[12:] + b"\1a" + EDNS, "out of its place"),
        (question("a.example", opt=EDNS[:-2] + b"\0\3\0\1\0"), "cut short"),
        (question("a.example", opt=EDNS[:-2] + b"\0\5\0\1\0\2x"), "option that is cut short"),
        (answer("a.example", address()[:-1]), "record that is cut short"),
    ],
)
def test_what_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        parse(data)


def test_the_code_of_an_answer_has_the_bits_of_edns() -> None:
    badvers = EDNS[:5] + b"\1" + EDNS[6:]
    assert parse(answer("a.example", more=(badvers,))).code == 16


def _chained(data: bytes) -> tuple[list[str], int]:
    found = parse(data)
    records, ttl = messages.chain(data, found)
    return [host for one in records for host in messages.hosts(one)], ttl


def test_aliases_are_followed_and_what_is_beside_is_not() -> None:
    data = answer(
        "www.example",
        record(POINTER, "CNAME", name("cdn.example"), 60),
        address("192.0.2.1", name("CDN.example"), 30),
        address("192.0.2.2", name("other.example"), 1),
    )
    assert _chained(data) == (["192.0.2.1"], 30)


def test_aliases_in_a_circle_end() -> None:
    data = answer("a.example", record(POINTER, "CNAME", name("b.example")), record(name("b.example"), "CNAME", POINTER))
    assert _chained(data)[0] == []


def test_max_aliases() -> None:
    """As many names, one after the other, as would keep us busy for seconds."""

    def led(count: int) -> bytes:
        owners = [POINTER, *(name(f"n{number}") for number in range(count))]
        aliases = (record(owner, "CNAME", to) for owner, to in itertools.pairwise(owners))
        return answer("a.example", *aliases, address("192.0.2.1", owners[-1]))

    assert _chained(led(MAX_ALIASES))[0] == ["192.0.2.1"]
    with pytest.raises(ProtocolError, match="more than 32 aliases"):
        _chained(led(MAX_ALIASES + 1))


@pytest.mark.parametrize("kind", ["TXT", "DNAME"])
def test_many_records_and_aliases_take_no_longer_than_many_records(kind: str) -> None:
    """Names that differ in their last letters only, and each alias looked through all records."""
    owners = [names.write((*[b"a"] * 124, b"%02d" % number)) for number in range(33)]
    aliases = [record(owner, "CNAME", to) for owner, to in itertools.pairwise(owners)]
    data = answer(".".join("a" * 124) + ".00", *aliases, record(owners[0][2:-3] + b"zz\0", kind, b"\0"))
    last = (data.index(owners[0][2:-3] + b"zz\0") | 0xC000).to_bytes(2, "big")
    more = record(last, kind, b"\0")
    many = (65_000 - len(data)) // len(more)
    count = int.from_bytes(data[6:8], "big") + many
    whole = data[:6] + count.to_bytes(2, "big") + data[8:] + more * many
    began = time.process_time()
    for _ in range(8):
        assert _chained(whole) == ([], 300)
    assert time.process_time() - began < 8, "as many times as long as there are aliases"


def test_the_first_of_several_branches_is_the_alias() -> None:
    data = answer(
        "www.old.example",
        record(name("example"), "DNAME", name("one.test"), 100),
        record(name("old.example"), "DNAME", name("two.test"), 100),
        address("192.0.2.9", name("www.old.one.test"), 200),
        address("192.0.2.8", name("www.two.test"), 200),
    )
    assert _chained(data) == (["192.0.2.9"], 200)


def test_a_whole_branch_can_be_an_alias() -> None:
    data = answer(
        "www.old.example",
        record(name("old.example"), "DNAME", name("new.example"), 100),
        address("192.0.2.9", name("www.new.example"), 200),
    )
    assert _chained(data) == (["192.0.2.9"], 200)


def test_a_mapped_address_is_what_it_maps() -> None:
    data = answer("a.example", address("::ffff:10.0.0.1"), qtype="AAAA")
    assert _chained(data)[0] == ["10.0.0.1"]


@pytest.mark.parametrize("data", [b"\1\2\3", b"\1\2\3\4\5", b""])
def test_an_address_of_another_size_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="an address of"):
        _chained(answer("a.example", record(POINTER, "A", data)))


def service(*parameters: tuple[int, bytes], target: bytes = b"\0") -> bytes:
    return b"\0\1" + target + b"".join(k.to_bytes(2, "big") + len(v).to_bytes(2, "big") + v for k, v in parameters)


ALPN, PORT, V4, ECH, V6 = (1, b"\2h2"), (3, b"\1\xbb"), (4, bytes([192, 0, 2, 5])), (5, b"secret"), (6, bytes(15) + b"\1")


def test_hints_are_addresses() -> None:
    data = answer("a.example", record(POINTER, "HTTPS", service(ALPN, V4, ECH, V6)), qtype="HTTPS")
    assert _chained(data)[0] == ["192.0.2.5", "::1"]


@pytest.mark.parametrize(
    "data",
    [service(ECH, ALPN), service(ALPN, ALPN), service(ALPN)[:-1], b"\0", service((4, b"\1\2\3")), service((4, b"")), service(ALPN, target=POINTER)],
)
def test_a_service_out_of_order_or_cut_short_is_refused(data: bytes) -> None:
    whole = answer("a.example", record(POINTER, "HTTPS", data), qtype="HTTPS")
    with pytest.raises(ProtocolError):
        rewrite.hides(parse(whole))
        _chained(whole)


def test_ech_is_taken_out_and_nothing_else_changes() -> None:
    more = (address("192.0.2.7", name("ns.example")), EDNS)
    data = answer(
        "www.example",
        record(POINTER, "HTTPS", service((0, b"\0\1\0\5"), ALPN, V4, ECH, V6, target=name("svc.example"))),
        record(POINTER, "MX", b"\0\5" + b"\4mail" + POINTER),
        qtype="HTTPS",
        flags=0x81A0,
        more=more,
    )
    found = parse(data)
    assert rewrite.hides(found)
    out = rewrite.opened(data, found)
    again = parse(out)
    assert not rewrite.hides(again)
    assert again.flags == 0x8180, "it is no longer what was signed"
    assert (again.id, again.question) == (found.id, found.question)
    assert [(r.name, r.type, r.ttl, r.section) for r in again.records] == [(r.name, r.type, r.ttl, r.section) for r in found.records]
    assert again.records[0].data == service((0, b"\0\1"), ALPN, V4, V6, target=name("svc.example"))
    assert names.read(out, again.records[1].at + 2)[0] == (b"mail", b"www", b"example")
    assert len(out) < len(data)


def test_a_list_of_what_must_be_known_goes_with_its_last_key() -> None:
    data = answer("a.example", record(POINTER, "HTTPS", service((0, b"\0\5"), ECH)), qtype="HTTPS")
    assert parse(rewrite.opened(data, parse(data))).records[0].data == service()


def test_an_answer_that_would_grow_is_cut_and_says_so() -> None:
    long = name(".".join(["a" * 60] * 3))
    pointing = [record(POINTER, "SRV", bytes(6) + b"\xc0\x0c") for _ in range(9)]
    data = answer("a" * 60 + ".bb." + "c" * 60, *pointing, record(POINTER, "HTTPS", service((5, b""), target=long)), qtype="HTTPS")
    out = parse(rewrite.opened(data, parse(data)))
    assert out.flags & messages.TC
    assert not out.records
