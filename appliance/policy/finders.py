"""Where personal and secret data stand in a text: one finder each, exact, with the checks done by hand.

Sources: ISO/IEC 7812 (card numbers, Luhn) and the networks' published prefixes; ISO 13616 and the SWIFT IBAN
registry (lengths, mod 97); US SSA, "Randomization of Social Security Numbers" (numbers never given); ITU-T
E.164; RFC 7519 (JWT); RFC 7468 (PEM); AWS IAM, "Unique identifiers". All costs are linear in the text.

Not handled: numbers that need context to be told from others (nine bare digits as an SSN, a bare national
telephone number, AWS secret keys). Mask such columns by name.
"""

import base64
import ipaddress
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

Span = tuple[int, int]
Finder = Callable[[str], Iterator[Span]]

MAX_JWT_HEADER = 4096  # characters; headers with an x5c chain stay below
MAX_LOCAL, MAX_DOMAIN = 64, 255  # characters; RFC 5321 4.5.3.1

# prefix ranges (compared as digits of equal length) -> lengths
_CARDS = (
    ("4", "4", (13, 16, 18, 19)),  # Visa
    ("51", "55", (16,)),  # Mastercard
    ("2221", "2720", (16,)),
    ("34", "34", (15,)),  # American Express
    ("37", "37", (15,)),
    ("6011", "6011", (16, 17, 18, 19)),  # Discover
    ("644", "649", (16, 17, 18, 19)),
    ("65", "65", (16, 17, 18, 19)),
    ("300", "305", (14, 15, 16, 17, 18, 19)),  # Diners Club
    ("3095", "3095", (14, 15, 16, 17, 18, 19)),
    ("36", "36", (14, 15, 16, 17, 18, 19)),
    ("38", "39", (14, 15, 16, 17, 18, 19)),
    ("3528", "3589", (16, 17, 18, 19)),  # JCB
    ("62", "62", (16, 17, 18, 19)),  # UnionPay
    ("81", "82", (16,)),  # RuPay
    ("60", "60", (16,)),
    ("2200", "2204", (16, 17, 18, 19)),  # Mir
    ("50", "50", (13, 14, 15, 16, 17, 18, 19)),  # Maestro
    ("56", "58", (13, 14, 15, 16, 17, 18, 19)),
    ("63", "63", (13, 14, 15, 16, 17, 18, 19)),
    ("67", "67", (13, 14, 15, 16, 17, 18, 19)),
)
PIECE = 16 * 1024  # characters of a run of digits looked at together; each takes some 150 bytes meanwhile
WINDOW = 40  # characters beyond, for the number that begins last: 19 digits, what is between, and what ends it
_DIGITS = re.compile(r"[0-9](?:[ -]?[0-9])*+")


_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)  # Luhn: twice the digit, its own digits added


def card(text: str) -> Iterator[Span]:
    """13 to 19 digits, singly spaced or dashed, of a known network, Luhn; whole groups of digits only."""
    for run in _DIGITS.finditer(text):
        start, end = run.span()
        done = start
        for at in range(start, end, PIECE) if end - start >= 13 else ():
            for span in _cards(text, (start, end), at, done):
                done = span[1]
                yield span


def _cards(text: str, run: Span, at: int, done: int) -> Iterator[Span]:
    """Try each group of digits that begins in a piece of a run as the begin of a number, but for what is `done`.

    Luhn's sum of a window is a difference of two.
    """
    whole = at + PIECE + WINDOW >= run[1]
    digits = [(i, int(c)) for i, c in enumerate(text[at : min(run[1], at + PIECE + WINDOW)], at) if c not in " -"]
    begins = [k for k, (i, _) in enumerate(digits) if i == run[0] or text[i - 1] in " -"]
    if not begins:
        return
    ends = {*begins, len(digits)} if whole else set(begins)
    sums: tuple[list[int], list[int]] = ([0], [0])  # digits at even, at odd places doubled
    for place, (_, n) in enumerate(digits):
        for odd in (0, 1):
            sums[odd].append(sums[odd][-1] + (_DOUBLED[n] if place % 2 == odd else n))
    for k in begins:
        start = digits[k][0]
        if start < done or start >= at + PIECE or _decimals(text, start):
            continue
        for length in _network("".join(str(n) for _, n in digits[k : k + 4])):
            last = k + length
            if last in ends and (sums[last % 2][last] - sums[last % 2][k]) % 10 == 0:
                done = digits[last - 1][0] + 1
                yield start, done
                break


def _decimals(text: str, start: int) -> bool:
    """True for the digits behind a decimal point."""
    return start >= 2 and text[start - 1] == "." and text[start - 2].isdigit()


@lru_cache(maxsize=10_000)
def _network(prefix: str) -> tuple[int, ...]:
    """Return the lengths a number that begins with these four digits may have, longest first."""
    lengths = {n for low, high, known in _CARDS if low <= prefix[: len(low)] <= high for n in known}
    return tuple(sorted(lengths, reverse=True))


_LOCAL = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+'-")
_DOMAIN = re.compile(r"[A-Za-z0-9\u0080-\uffff](?:[A-Za-z0-9\u0080-\uffff.-]*+)")


def email(text: str) -> Iterator[Span]:
    done = at = 0
    while (at := text.find("@", at)) >= 0:
        start, low = at, max(done, at - MAX_LOCAL)
        while start > low and (text[start - 1] in _LOCAL or text[start - 1] > "\x7f"):
            start -= 1
        while start < at and text[start] in ".'":  # a quote or a full stop before it
            start += 1
        end = _domain_end(text, at + 1) if start < at and text[at - 1] != "." else at
        if end > at:
            yield start, end
            done = end
        at += 1


def _domain_end(text: str, start: int) -> int:
    """Return the end of a host name with a dot and a last label of letters; `start` - 1 if there is none."""
    found = _DOMAIN.match(text, start, start + MAX_DOMAIN)
    labels = found[0].rstrip(".-").split(".") if found else []
    while len(labels) > 1:
        last = labels[-1]
        if len(last) > 1 and (last.isalpha() or last.lower().startswith("xn--")) and all(labels):
            return start + len(".".join(labels))
        labels.pop()
    return start - 1


_SSN = re.compile(r"(?<![0-9])(?<![0-9][ -])([0-9]{3})([ -])([0-9]{2})\2([0-9]{4})(?![0-9])(?![ -][0-9])")


def ssn(text: str) -> Iterator[Span]:
    for m in _SSN.finditer(text):
        if m[1] not in ("000", "666") and m[1][0] != "9" and m[3] != "00" and m[4] != "0000":
            yield m.span()


IBAN_LENGTHS: Mapping[str, int] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27,
    "BR": 29, "BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28,
    "EE": 20, "EG": 29, "ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23,
    "GL": 18, "GR": 27, "GT": 28, "HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26,
    "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21,
    "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28,
    "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22,
    "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24, "SM": 27, "SO": 23, "ST": 25,
    "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20, "YE": 30,
}  # fmt: skip
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?=[ A-Za-z0-9])")


def iban(text: str) -> Iterator[Span]:
    for m in _IBAN.finditer(text):
        length = IBAN_LENGTHS.get(m[0][:2].upper(), 0)
        end, kept = m.end(), m[0]
        while length and len(kept) < length and end < len(text):
            c = text[end]
            if c == " " and text[end - 1] == " ":
                break
            if c != " " and not (c.isascii() and c.isalnum()):
                break
            kept += c.strip()
            end += 1
        whole = end >= len(text) or not (text[end].isascii() and text[end].isalnum())
        if length and len(kept) == length and whole and mod97(kept) == 1:
            yield m.start(), end


def mod97(account: str) -> int:
    """Return the remainder ISO 13616 wants to be 1."""
    moved = account[4:] + account[:4]
    return int("".join(str(int(c, 36)) for c in moved)) % 97


_PHONE = re.compile(
    r"(?<![0-9A-Za-z+.])(?:"
    r"(?:\+|00)[ ]?[1-9](?:[ ./-]{0,2}\(?[0-9]\)?){6,14}"  # E.164, written with + or 00
    r"|(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-][0-9]{4}"  # North America
    r"|\(?0[1-9][0-9]{0,4}\)?(?:[ /-][0-9]{2,8}){1,4}"  # trunk 0 and an area code
    r")(?![0-9A-Za-z])(?![.-][0-9])"
)


def phone(text: str) -> Iterator[Span]:
    for m in _PHONE.finditer(text):
        digits = sum(c.isdigit() for c in m[0])
        if m[0][0] == "+":
            good = 8 <= digits <= 15
        elif m[0].startswith("00"):
            good = 10 <= digits <= 17
        else:
            good = 9 <= digits <= 12
        if good:
            yield m.span()


_V4 = re.compile(
    r"(?<![0-9A-Za-z.])(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}"
    r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?![0-9A-Za-z])(?!\.[0-9])"
)
_V6 = re.compile(r"(?<![0-9A-Za-z_:.])[0-9A-Fa-f:.]{3,46}+(?![0-9A-Za-z_:.])")


def ip(text: str) -> Iterator[Span]:
    taken = -1
    if ":" in text:
        for m in _V6.finditer(text):
            found = m[0].rstrip(".")
            found = found if found.endswith("::") else found.rstrip(":")
            if found.count(":") >= 2 and any(c.isdigit() for c in found) and _is_v6(found):
                taken = m.start() + len(found)
                yield m.start(), taken
    for m in _V4.finditer(text):
        if m.start() >= taken or taken < 0:
            yield m.span()


def _is_v6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


# What is before it keeps a long word from being tried again from each of its letters.
_JWT = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]++(?:\.[A-Za-z0-9_-]*+){2,4}+")


def jwt(text: str) -> Iterator[Span]:
    """Three base64url parts (five when encrypted), the first a JSON object that names an algorithm."""
    for m in _JWT.finditer(text):
        first = m[0].split(".", 1)[0]
        skip = max(first.find("eyJ"), 0)
        if m[0].split(".")[1] and _is_jose(first[skip:]):
            yield m.start() + skip, m.end()


def _is_jose(part: str) -> bool:
    if not part.startswith("ey") or len(part) > MAX_JWT_HEADER:
        return False
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError):
        return False
    return isinstance(header, dict) and "alg" in header


_PEM = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,64}-----")


def private_key(text: str) -> Iterator[Span]:
    """Yield from BEGIN to END, or to the end of the text when the END was cut off."""
    done = 0
    for m in _PEM.finditer(text):
        if m.start() < done:
            continue
        end = _PEM_END.search(text, m.end())
        done = end.end() if end else len(text)
        yield m.start(), done


_AWS = re.compile(r"(?<![A-Za-z0-9])A(?:KIA|SIA|BIA|CCA)[A-Z0-9]{16}(?![A-Za-z0-9])")


def aws_key(text: str) -> Iterator[Span]:
    return (m.span() for m in _AWS.finditer(text))


# name -> (finder, expression that every text with a find matches: what the one pass looks for)
BUILT_IN: Mapping[str, tuple[Finder, str]] = {
    "credit_card": (card, r"[0-9](?:[ -]?[0-9]){12}"),
    "email": (email, r"[^\s@]@[^\s@]+\.[^\s@]{2}"),
    "ssn": (ssn, r"[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}"),
    "iban": (iban, r"[A-Za-z]{2}[0-9]{2} ?[A-Za-z0-9]{2}(?: ?[A-Za-z0-9]){9}"),
    "phone": (
        phone,
        r"(\+|00) ?[1-9]([ ./-]{0,2}\(?[0-9]\)?){6}|[2-9][0-9]{2}(\) ?|[ .-])[0-9]{3}[ .-][0-9]{4}"
        r"|0[1-9][0-9]{0,4}\)?[ /-][0-9]{2}",
    ),
    "ip": (
        ip,
        r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|::[0-9A-Fa-f]|[0-9A-Fa-f]::"
        r"|([0-9A-Fa-f]{1,4}:){6}[0-9A-Fa-f]",
    ),
    "jwt": (jwt, r"ey[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+\."),
    "private_key": (private_key, r"-----BEGIN [A-Z0-9 ]{0,80}PRIVATE KEY"),
    "aws_key": (aws_key, r"A(KIA|SIA|BIA|CCA)[A-Z0-9]{16}"),
}
