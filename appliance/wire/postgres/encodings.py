"""Client encodings by the names PostgreSQL reports them under.

Source: PostgreSQL 17 manual, "Character Set Support". Names without a codec here (EUC_TW, MULE_INTERNAL)
decode as ASCII with the other bytes kept as surrogates, so whoever reads the text sees that it is not
understood.
"""

import msgspec

CODECS = {
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    **{
        f"LATIN{n}": f"iso8859-{part}"
        for n, part in zip(range(1, 11), (1, 2, 3, 4, 9, 10, 13, 14, 15, 16), strict=True)
    },
    **{f"ISO_8859_{n}": f"iso8859-{n}" for n in (5, 6, 7, 8)},
    **{f"WIN{n}": f"cp{n}" for n in (866, 874, 1250, 1251, 1252, 1253, 1254, 1255, 1256, 1257, 1258)},
    "KOI8R": "koi8-r",
    "KOI8U": "koi8-u",
    "EUC_JP": "euc_jp",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    "SJIS": "cp932",
    "SHIFT_JIS_2004": "shift_jis_2004",
    "BIG5": "cp950",
    "GBK": "gbk",
    "UHC": "cp949",
    "JOHAB": "johab",
    "GB18030": "gb18030",
}

# The second byte of a character may be ASCII (0x5c is a backslash): such text cannot be cut at ASCII bytes.
EMBEDS_ASCII = frozenset({"SJIS", "SHIFT_JIS_2004", "BIG5", "GBK", "UHC", "JOHAB", "GB18030"})


class Encoding(msgspec.Struct, frozen=True, gc=False):
    """One client encoding."""

    name: str
    codec: str  # "" when Python has none, or the server does not know either (SQL_ASCII)

    @classmethod
    def of(cls, name: str) -> "Encoding":
        return cls(name.upper(), CODECS.get(name.upper(), ""))

    @property
    def embeds_ascii(self) -> bool:
        return self.name in EMBEDS_ASCII

    def decode(self, data: bytes) -> str:
        """Return the text; bytes that are none in this encoding stay as surrogates."""
        return data.decode(self.codec or "ascii", "surrogateescape")

    def strict(self, data: bytes) -> str:
        """Return the text of a cell; UnicodeDecodeError if it is none.

        Without a codec the bytes are mostly UTF-8; where they are not, one byte is one character.
        """
        if self.codec:
            return data.decode(self.codec)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    def encode(self, text: str) -> bytes:
        """Return the bytes of a masked cell; UnicodeEncodeError if the encoding lacks a character."""
        return text.encode(self.codec or "utf-8")

    def speak(self, text: str) -> bytes:
        """Return the bytes of a text of our own; characters the encoding lacks become "?", NUL a blank."""
        return text.replace("\0", " ").encode(self.codec or "ascii", "replace")


UTF8 = Encoding.of("UTF8")
