"""Detectors: what they find, what they must not, and what hostile texts cost."""

import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.policy import BadPattern, Detectors, finders
from appliance.policy.detect import MAX_EVENTS, MAX_PATTERN, check_pattern
from appliance.policy.finders import BUILT_IN, MAX_JWT_HEADER, PIECE, card, mod97

ALL = Detectors(BUILT_IN, {})
JWT = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----"

# detector, text with what is to be found in « »
FINDS = [
    ("credit_card", "«4111111111111111»"),
    ("credit_card", "pay «4111 1111 1111 1111» now"),
    ("credit_card", "«4111-1111-1111-1111»,«5555 5555 5555 4444»"),
    ("credit_card", "amex «3782 822463 10005»"),
    ("credit_card", "«2223003122003222»"),  # Mastercard's second range
    ("credit_card", "«6011111111111117»"),
    ("credit_card", "«3530111333300000»"),
    ("credit_card", "«30569309025904»"),
    ("credit_card", "«6200000000000005»"),
    ("credit_card", "«4222222222222»"),  # 13 digits
    ("credit_card", "no 1234 «4111111111111111» 12"),
    ("credit_card", "card«4111111111111111»x"),
    ("credit_card", "«4000 4000 4000 0006» 0008"),  # another would begin inside it
    ("credit_card", "4111111111111112"),  # Luhn
    ("credit_card", "1234567812345670"),  # Luhn holds, no network
    ("credit_card", "41111111111111111111111"),  # too long a run
    ("credit_card", "411111111111"),
    ("credit_card", "0.4111111111111111"),
    ("credit_card", "4111  1111  1111  1111"),  # two spaces
    ("credit_card", "4111.1111.1111.1111"),
    ("email", "mail «bob@example.com», now"),
    ("email", "<«a.b+c@mail.example.co.uk»>."),
    ("email", "'«o'hara@example.org»'"),
    ("email", "«ü@exämple.de»"),
    ("email", "«x@a.xn--p1ai»"),
    ("email", "to:«a@b.io»;«c@d.io»"),
    ("email", "a@b"),
    ("email", "@handle and name@localhost"),
    ("email", "x@1.2.3.4"),
    ("email", "a.@b.co m@.com"),
    ("email", "user@@example"),
    ("ssn", "ssn «123-45-6789»."),
    ("ssn", "«123 45 6789»"),
    ("ssn", "SSN:«001-01-0001»"),
    ("ssn", "000-45-6789"),
    ("ssn", "666-45-6789"),
    ("ssn", "900-45-6789"),
    ("ssn", "123-00-6789"),
    ("ssn", "123-45-0000"),
    ("ssn", "123-45 6789"),
    ("ssn", "123456789"),
    ("ssn", "1123-45-6789"),
    ("ssn", "123-45-67890"),
    ("ssn", "7-123-45-6789"),
    ("ssn", "123-45-6789-1"),
    ("iban", "«DE89370400440532013000»"),
    ("iban", "iban «GB29 NWBK 6016 1331 9268 19» end"),
    ("iban", "«NO93 8601 1117 947»"),
    ("iban", "«MT84MALT011000012345MTLCAST001S»"),
    ("iban", "«fr1420041010050500013m02606»"),
    ("iban", "DE89370400440532013001"),  # mod 97
    ("iban", "ZZ89370400440532013000"),
    ("iban", "DE8937040044053201300"),  # too short
    ("iban", "DE893704004405320130000"),  # too long
    ("iban", "XDE89370400440532013000"),
    ("phone", "call «+49 30 901820»"),
    ("phone", "«+14155552671»"),
    ("phone", "«+44 (0)20 7946 0958»"),
    ("phone", "«0044 20 7946 0958»"),
    ("phone", "«(212) 555-2368» or «212-555-2368», «1-212-555-2368»"),
    ("phone", "«020 7946 0958»; «06 12 34 56 78»"),
    ("phone", "+1 415"),
    ("phone", "2024-01-01 12:34:56"),
    ("phone", "123-456-7890"),  # no area code begins with 1
    ("phone", "4155552671"),
    ("phone", "192.168.100.1000"),
    ("phone", "v+12345678901234567890"),
    ("ip", "from «192.168.1.1» to «10.0.0.255»."),
    ("ip", "«192.168.1.1»:80"),
    ("ip", "«2001:db8::1» [«fe80::1»]:80 «::1»"),
    ("ip", "«::ffff:10.0.0.1»"),
    ("ip", "«2001:0db8:0000:0000:0000:ff00:0042:8329»"),
    ("ip", "«1:2:3:4:5:6:10.0.0.1»"),
    ("ip", "«fe80::1»: up"),
    ("ip", "256.1.1.1"),
    ("ip", "1.2.3"),
    ("ip", "1.2.3.4.5"),
    ("ip", "01.2.3.4"),
    ("ip", "12:34:56"),
    ("ip", "00:11:22:33:44:55"),
    ("ip", "std::vector a::b x::1"),
    ("ip", "1::2::3"),
    ("jwt", f"Bearer «{JWT}»"),
    ("jwt", f'{{"t":"«{JWT}»"}}'),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.only"),
    ("jwt", "eyJ4IjoxfQ.e30.sig"),  # an object that names no algorithm
    ("jwt", "eyNotJson.at.all"),
    ("jwt", "www.example.com"),
    ("private_key", f"x «{PEM}» y"),
    ("private_key", "«-----BEGIN PRIVATE KEY-----\nMIIE»"),  # its end was cut off
    ("private_key", "«-----BEGIN ENCRYPTED PRIVATE KEY-----\\nMI\\n-----END ENCRYPTED PRIVATE KEY-----»"),
    ("private_key", "«-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----»"),
    ("private_key", "«-----BEGIN PRIVATE KEY-----\n-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----»"),
    ("private_key", "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----"),
    ("private_key", "BEGIN PRIVATE KEY"),
    ("aws_key", "key=«AKIAIOSFODNN7EXAMPLE»"),
    ("aws_key", "«ASIAIOSFODNN7EXAMPLE»"),
    ("aws_key", "AKIAIOSFODNN7EXAMPL"),
    ("aws_key", "xAKIAIOSFODNN7EXAMPLE"),
    ("aws_key", "AKIAIOSFODNN7EXAMPLE7"),
    ("aws_key", "akiaiosfodnn7example"),
]


@pytest.mark.parametrize(("name", "marked"), FINDS, ids=[f"{n}:{t[:40]}" for n, t in FINDS])
def test_finds(name: str, marked: str) -> None:
    text = marked.replace("«", "").replace("»", "")
    want = [piece.split("»")[0] for piece in marked.split("«")[1:]]
    found = Detectors([name], {}).find(text)
    assert [text[a:b] for _, (a, b) in found] == want
    assert {n for n, _ in found} <= {name}


@pytest.mark.parametrize(("name", "marked"), FINDS, ids=[f"{n}:{t[:40]}" for n, t in FINDS])
def test_the_one_pass_misses_nothing(name: str, marked: str) -> None:
    """What the exact finder finds alone, it finds behind the pass, with text around."""
    text = "é " + marked.replace("«", "").replace("»", "") + " ."
    alone = [(name, span) for span in BUILT_IN[name][0](text)]
    assert [f for f in ALL.find(text) if f[0] == name] == alone


def test_mod97() -> None:
    assert mod97("GB82WEST12345698765432") == 1


def test_every_detector_of_the_list_is_there() -> None:
    assert set(BUILT_IN) == {"credit_card", "email", "ssn", "iban", "phone", "ip", "jwt", "private_key", "aws_key"}


HOSTILE = [
    "1 ", "4 ", "0 ", "00 1", "@", "a@", "a@b.", "ey", "ey.a", "1:", "::", "AB12 ", "DE89 ", "+1 ", "+1", "(0", "a.", "-",
    "-----BEGIN RSA PRIVATE KEY-----", "AKIA", "1.", "eyJ", "1-", ".@", "é@é.", "[", "123-45-", "\x00", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_texts_cost_linear_time(piece: str) -> None:
    began = time.process_time()
    ALL.find(piece * (200_000 // len(piece)))
    assert time.process_time() - began < 2.5  # a quadratic finder takes minutes


TRACES = {
    "credit_card": "4111 1111 1111 1111", "email": "a@b.cc", "iban": "DE89 3704 0044 0532 0130 00", "phone": "+1 2345678",
    "ip": "1.2.3.4", "jwt": "eyAAAA.A.A", "private_key": "-----BEGIN PRIVATE KEY-----", "ssn": "123-45-6789",
}  # fmt: skip


@pytest.mark.parametrize("piece", [*HOSTILE, "a", "a_", "1"])
def test_so_do_those_with_a_trace_that_wakes_every_finder(piece: str) -> None:
    began = time.process_time()
    ALL.find(" ".join([*TRACES.values(), piece * (200_000 // len(piece))]))
    assert time.process_time() - began < 2.5  # a word of 200,000 letters took the one for JWT 13 s


def found_by_pieces(text: str, piece: int) -> list[tuple[int, int]]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(finders, "PIECE", piece)
        return list(card(text))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["4", "4111 1111 1111 1111", "5555-5555-5555-4444", "42", " ", "-", "0"]), max_size=40))
def test_limit_piece(parts: list[str]) -> None:
    text = "".join(parts)
    whole = found_by_pieces(text, 1 << 30)
    assert all(found_by_pieces(text, piece) == whole for piece in (1, 7, 20, 64))


@pytest.mark.parametrize("run", ["1", "4 "])
def test_a_long_run_of_digits_takes_no_more_memory_than_a_piece(run: str) -> None:
    text = run * (PIECE * 6 // len(run))
    tracemalloc.start()
    list(card(text))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 400 * PIECE


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet="0123456789 -.:@/+()abcdefyJAKIDE\né\ud800", max_size=60))
def test_finds_are_spans_of_the_text(text: str) -> None:
    last: dict[str, int] = {}
    for name, (start, end) in ALL.find(text):
        assert 0 <= start < end <= len(text)
        assert start >= last.get(name, 0)
        last[name] = end
    for name, (finder, _) in BUILT_IN.items():
        assert [s for n, s in ALL.find(text) if n == name] == list(finder(text)), "the one pass missed it"


SHAPES = {
    "phone": r"(\+|00)?[ (]{0,2}[0-9]{1,4}\)?([ ./(-]{0,2}[0-9]{1,4}\)?){2,4}",
    "ip": r"[0-9a-f:.]{2,30}",
    "credit_card": r"4([ -]?[0-9]){12,18}",
    "iban": r"(DE|NO)[0-9]{2}( ?[0-9]{1,4}){3,6}",
    "ssn": r"[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}",
    "email": r"[a-z.']{1,3}@[a-z.-]{1,6}\.[a-z]{1,3}",
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_one_pass_misses_nothing_of_its_shape(name: str) -> None:
    @settings(max_examples=150, deadline=None)
    @given(st.from_regex(SHAPES[name]))
    def check(text: str) -> None:
        assert [s for n, s in ALL.find(text) if n == name] == list(BUILT_IN[name][0](text))

    check()


@given(st.from_regex(r"\A4[0-9]{14}\Z"))
def test_every_visa_number_is_found_and_its_neighbour_is_not(digits: str) -> None:
    good = [d for d in "0123456789" if list(card(digits + d))]
    assert len(good) == 1


OWN = {"emp-id": "E[0-9]{6}", "word": "caf\u00e9+"}


def test_operator_patterns() -> None:
    found = Detectors(["emp-id", "word", "email"], OWN).find("ü E123456 and caf\u00e9\u00e9\u00e9 E12345 a@b.co E654321")
    text = "ü E123456 and caf\u00e9\u00e9\u00e9 E12345 a@b.co E654321"
    assert [(n, text[a:b]) for n, (a, b) in found] == [
        ("email", "a@b.co"),
        ("emp-id", "E123456"),
        ("emp-id", "E654321"),
        ("word", "caf\u00e9\u00e9\u00e9"),
    ]


@pytest.mark.parametrize("pattern", ["(a", "a*", r"(a)\1", "a(?=b)", r"\w{1,30000}", "x" * (MAX_PATTERN + 1), "\ud800"])
def test_patterns_hyperscan_refuses(pattern: str) -> None:
    with pytest.raises(BadPattern):
        check_pattern(pattern)


def test_limit_max_pattern() -> None:
    check_pattern("x" * 100)
    with pytest.raises(BadPattern, match=str(MAX_PATTERN)):
        check_pattern("x" * (MAX_PATTERN + 1))


def test_limit_max_events() -> None:
    """More reports than that, and the whole text is one find."""
    one = Detectors(["a"], {"a": "[a-z]+"})
    assert one.find("x" * (MAX_EVENTS - 1)) == [("a", (0, MAX_EVENTS - 1))]
    assert one.find("-" + "x" * MAX_EVENTS) == [("a", (0, MAX_EVENTS + 1))]


def test_limit_jwt_header() -> None:
    assert list(BUILT_IN["jwt"][0]("eyJ" + "A" * MAX_JWT_HEADER + ".e30.x")) == []


def test_no_detectors() -> None:
    assert Detectors([], {}).find("4111111111111111") == []
