"""Character sets by the numbers of their collations, and by name.

Sources: INFORMATION_SCHEMA.COLLATIONS of MySQL 8.4 and MariaDB 11; for MariaDB's UCA 14 collations how it makes their
numbers (2048, then 256 for each character set). A set without a codec here decodes as ASCII with the other bytes kept
as surrogates, so whoever reads the text sees that it is not understood.
"""

import msgspec

CODECS = {
    "utf8mb4": "utf-8", "utf8mb3": "utf-8", "utf8": "utf-8", "ascii": "ascii", "latin1": "cp1252",
    "latin2": "iso8859-2", "latin5": "iso8859-9", "latin7": "iso8859-13", "greek": "iso8859-7",
    "hebrew": "iso8859-8", "tis620": "iso8859-11", "cp850": "cp850", "cp852": "cp852", "cp866": "cp866",
    "cp1250": "cp1250", "cp1251": "cp1251", "cp1256": "cp1256", "cp1257": "cp1257", "koi8r": "koi8-r",
    "koi8u": "koi8-u", "macce": "mac_latin2", "macroman": "mac_roman", "big5": "cp950", "gbk": "gbk",
    "gb2312": "gb2312", "gb18030": "gb18030", "euckr": "cp949", "ujis": "euc_jp", "eucjpms": "euc_jp",
    "sjis": "shift_jis", "cp932": "cp932", "ucs2": "utf-16-be", "utf16": "utf-16-be", "utf16le": "utf-16-le",
    "utf32": "utf-32-be",
}  # fmt: skip

_NUMBERS = {
    "big5": "1 84", "latin2": "2 9 21 27 77", "dec8": "3 69", "cp850": "4 80", "latin1": "5 8 15 31 47-49 94",
    "hp8": "6 72", "koi8r": "7 74", "swe7": "10 82", "ascii": "11 65", "ujis": "12 91", "sjis": "13 88",
    "hebrew": "16 71", "tis620": "18 89", "euckr": "19 85", "koi8u": "22 75", "gb2312": "24 86", "greek": "25 70",
    "cp1250": "26 34 44 66 99", "gbk": "28 87", "latin5": "30 78", "armscii8": "32 64",
    "utf8mb3": "33 76 83 192-215 223 576-607 2048-2303", "ucs2": "35 90 128-151 159 640-671 2560-2815",
    "cp866": "36 68", "keybcs2": "37 73", "macce": "38 43", "macroman": "39 53", "cp852": "40 81",
    "latin7": "20 41 42 79", "utf8mb4": "45 46 224-247 255-323 608-639 2304-2559", "cp1251": "14 23 50-52",
    "utf16": "54 55 101-124 672-703 2816-3071", "utf16le": "56 62", "cp1256": "57 67", "cp1257": "29 58 59",
    "utf32": "60 61 160-183 736-767 3072-3327", "binary": "63", "geostd8": "92 93", "cp932": "95 96",
    "eucjpms": "97 98", "gb18030": "248-250",
}  # fmt: skip
NO_PAD = 1024  # MariaDB: added to the number of a collation that does not pad


class Charset(msgspec.Struct, frozen=True, gc=False):
    """One character set."""

    name: str
    codec: str  # "" when Python has none, or it is "binary"

    def decode(self, data: bytes) -> str:
        """Return the text; bytes that are none in this set stay as surrogates."""
        try:
            return data.decode(self.codec or "ascii", "surrogateescape")
        except UnicodeDecodeError:  # a set of wide characters, which has no surrogates to spare
            return data.decode("ascii", "surrogateescape")

    def strict(self, data: bytes) -> str:
        """Return the text of a cell; UnicodeDecodeError if it is none.

        Without a codec the bytes are mostly UTF-8; where they are not, one byte is one character. latin1 of MySQL is
        cp1252 with a character for every byte.
        """
        try:
            return data.decode(self.codec or "utf-8")
        except UnicodeDecodeError:
            if self.codec in ("", "cp1252"):
                return data.decode("latin-1")
            raise

    def encode(self, text: str) -> bytes:
        """Return the bytes of a text; UnicodeEncodeError if the set lacks a character."""
        try:
            return text.encode(self.codec or "utf-8")
        except UnicodeEncodeError:
            if self.codec == "cp1252":
                return text.encode("latin-1")
            raise

    def speak(self, text: str) -> bytes:
        """Return the bytes of a text of our own; characters the set lacks become "?"."""
        return text.encode(self.codec or "ascii", "replace")


def _numbered() -> dict[int, str]:
    found: dict[int, str] = {}
    for name, numbers in _NUMBERS.items():
        for part in numbers.split():
            first, _, last = part.partition("-")
            found |= dict.fromkeys(range(int(first), int(last or first) + 1), name)
    return found


_SETS = {name: Charset(name, CODECS.get(name, "")) for name in {*_NUMBERS, *CODECS}}
_BY_NUMBER = {number: _SETS[name] for number, name in _numbered().items()}
UTF8 = _SETS["utf8mb4"]
BINARY = 63
UNKNOWN = Charset("", "")


def numbered(collation: int) -> Charset:
    """Return the set of a collation; one without name or codec for a number not known here."""
    found = _BY_NUMBER.get(collation)
    return found or _BY_NUMBER.get(collation & ~NO_PAD if collation < 2048 else collation, UNKNOWN)


def of_client(collation: int) -> Charset:
    """Return the set a client may speak in: none of wide characters, in whose place the server takes another."""
    found = numbered(collation)
    return UNKNOWN if found.codec.startswith(("utf-16", "utf-32")) else found


def named(name: str) -> Charset:
    """Return the set of a name, as the variables character_set_... have it."""
    return _SETS.get(name.lower(), Charset(name, ""))
