"""Text to tokens, by the rules of MySQL's and MariaDB's own scanner.

Source: MySQL 8.4 manual, "Language Structure"; MariaDB, "Comment Syntax", "SQL Statements & Structure"; what the
scanner does beyond that was tried on MariaDB 10.11 (tests/evasion/mysql/test_lexer.py).

Theory of operation. What a text is cut into depends on sql_mode (quotes, backslashes), on the charset of the client,
and on the version of the server (comments that some servers execute). What is known of these is in `Mode`. A comment
that one server executes and another skips is a choice: `readings` gives the tokens for every combination of choices,
and whoever asks must find that they mean the same. Everything the servers themselves disagree on, or that only a text
made to deceive would hold, is `Unreadable`.
"""

import re
from collections.abc import Iterator

import msgspec

MAX_TEXT = 1_048_576  # characters; a longer one is not read (a bulk INSERT of drivers is up to max_allowed_packet)
MAX_TOKENS = 200_000  # about a second of work
MAX_CHOICES = 4  # comments of one text that some servers execute; a statement of mysqldump has up to three
MAX_READ = 40_000  # words of all readings of a text that has several; a dump's statements with choices are short
OLD = 50_000  # executable comments for servers before 5.0 are executed by all there are

UNSAFE = frozenset("big5 cp932 gb18030 gbk sjis".split())
"""Charsets whose characters may hold a byte of ASCII, a backslash or a quote among them."""

OTHER = frozenset(("swe7",))
"""Charsets that have letters where ASCII has signs: what is a sign, and what a name, differs."""

ASCII = frozenset(
    """
armscii8 ascii big5 binary cp1250 cp1251 cp1256 cp1257 cp850 cp852 cp866 cp932 dec8 eucjpms euckr gb18030 gb2312 gbk
geostd8 greek hebrew hp8 keybcs2 koi8r koi8u latin1 latin2 latin5 latin7 macce macroman sjis tis620 ucs2 ujis utf16
utf16le utf32 utf8 utf8mb3 utf8mb4
""".split()
)
"""Charsets that have all characters of ASCII."""

UTF8 = frozenset("utf8 utf8mb3 utf8mb4".split())


class Unreadable(Exception):
    """The text cannot be read for certain; the message says why."""


class Mode(msgspec.Struct, frozen=True, gc=False):
    """What decides how a text is cut into tokens."""

    ansi_quotes: bool = False
    backslash: bool = True  # NO_BACKSLASH_ESCAPES is off
    ignore_space: bool = False
    known: bool = True  # the three above are what the server has
    charset: str = "utf8mb4"  # character_set_client; empty: not known
    literals: str = "utf8mb4"  # character_set_connection; empty: not known
    foreign: str = ""  # a mode with a grammar of its own is on: ORACLE, MSSQL


UNSURE = Mode(known=False, charset="", literals="")


def kept(text: str, mode: Mode) -> bool:
    """Return True if a literal of this text, taken as a statement, is that text: servers turn it into the charset of
    literals and back, and put question marks for what that does not have."""
    if not text.isascii():
        return mode.charset in UTF8 and mode.literals in UTF8
    return mode.literals in ASCII or not _ODD.search(text)


class Token(msgspec.Struct, frozen=True, gc=False):
    """`key` is the keyword in capitals, the operator, or the kind in angle brackets."""

    key: str
    text: str  # a name without its quotes, a string as it stands between them
    start: int
    end: int
    glued: bool  # nothing stands between it and the token before
    quoted: bool = False


_WORD = r"[A-Za-z_$\x80-\U0010ffff][0-9A-Za-z_$\x80-\U0010ffff]*+"
_TOKEN = re.compile(
    rf"""
    (?P<space>[ \t\n\v\f\r]++)
  | (?P<comment>\#[^\n]*+|--(?=[\x00-\x20\x7f]|\Z)[^\n]*+)
  | (?P<block>/\*)
  | (?P<word>{_WORD})
  | (?P<digits>\.?[0-9])
  | (?P<tick>`)
  | (?P<quote>['"])
  | (?P<at>@)
  | (?P<param>\?)
  | (?P<null>\\N)
  | (?P<op><=>|->>|->|:=|<<|>>|<>|!=|<=|>=|\|\||&&|[-+*/%=<>!~^&|(),;.:{{}}\[\]])
    """,
    re.X,
)
# A closing quote that another follows was taken in giving up: then there is no end. (Possessive groups would do, but
# go wrong in Python 3.11.2.)
_QUOTED = {
    ("'", True): re.compile(r"'[^'\\]*+(?:(?:\\.|'')[^'\\]*+)*'(?!')", re.S),
    ('"', True): re.compile(r'"[^"\\]*+(?:(?:\\.|"")[^"\\]*+)*"(?!")', re.S),
    ("'", False): re.compile(r"'[^']*+(?:''[^']*+)*'(?!')", re.S),
    ('"', False): re.compile(r'"[^"]*+(?:""[^"]*+)*"(?!")', re.S),
    ("`", False): re.compile(r"`[^`]*+(?:``[^`]*+)*`(?!`)", re.S),
}
_NUMBER = re.compile(
    rf"(?P<hex>0x[0-9A-Fa-f]++(?!{_WORD}|[0-9])|0b[01]++(?!{_WORD}|[0-9]))"
    r"|(?P<real>(?:[0-9]++\.[0-9]*+|\.[0-9]++)(?:[eE][-+]?[0-9]++)?)"
    r"|(?P<power>[0-9]++[eE][-+]?[0-9]++)"
    rf"|(?P<name>[0-9]++{_WORD})"
    r"|(?P<whole>[0-9]++)"
)
_AFTER_DOT = re.compile(r"[0-9A-Za-z_$\x80-\U0010ffff]++")
_QUALIFIES = re.compile(r"\.[0-9A-Za-z_$\x80-\U0010ffff]")
_USER = re.compile(r"[0-9A-Za-z_$.\x80-\U0010ffff]++")
_SYSTEM = re.compile(rf"@@(?:`[^`]++`|{_WORD})(?:\.(?:`[^`]++`|{_WORD}))*")
_ODD = re.compile(r"[@\[-^`{-~]")  # what some charset has no character for
_VERSION = re.compile(r"[0-9]*+")
_LITERAL = re.compile(r"[xXbBnN]\Z")
_DIGITS = {"x": re.compile(r"(?:[0-9A-Fa-f]{2})*+\Z"), "b": re.compile(r"[01]*+\Z")}


def readings(text: str, mode: Mode) -> list[list[Token]]:
    """Return the tokens of a text, once for every combination of comments that a server may execute or skip.

    Raises:
        Unreadable: nothing certain can be said.
    """
    _check(text, mode)
    found: list[list[Token]] = []
    todo: list[tuple[int, ...]] = [()]
    count = 0
    while todo:
        choices = todo.pop()
        lexer = _Lexer(text, mode, choices)
        tokens = list(lexer.tokens())
        count += len(tokens)
        if count > MAX_READ and (choices or lexer.open_choice):
            raise Unreadable("too long for the comments in it that some servers execute")
        if lexer.open_choice:
            if len(choices) >= MAX_CHOICES:
                raise Unreadable("more comments that some servers execute than are looked at")
            todo += [(*choices, choice) for choice in lexer.open_choice]
        else:
            found.append(tokens)
    return found


def _check(text: str, mode: Mode) -> None:
    if len(text) > MAX_TEXT:
        raise Unreadable(f"longer than {MAX_TEXT} characters")
    if mode.foreign:
        raise Unreadable(f"sql_mode {mode.foreign} has a grammar of its own")
    if not mode.known and ('"' in text or "\\" in text):
        raise Unreadable("which sql_mode is in force is not known, and it decides what quotes and backslashes are")
    if mode.charset in OTHER:
        raise Unreadable(f"{mode.charset} has letters where ASCII has signs")
    if text.isascii():
        return
    if not mode.charset or mode.charset in UNSAFE:
        what = mode.charset or "a charset that is not known"
        raise Unreadable(f"characters of {what} may hold a quote or a backslash")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Unreadable(f"it is not {mode.charset}") from None


class _Lexer:
    def __init__(self, text: str, mode: Mode, choices: tuple[int, ...]) -> None:
        self._text, self._mode, self._choices = text, mode, choices
        # Bytes beyond ASCII are letters in UTF-8; in other charsets some are spaces, to which words end.
        self._ascii = mode.charset not in UTF8 and not text.isascii()
        self._made = 0  # choices used
        self._inside = False  # of a comment that is executed
        self._at = 0
        self.open_choice: tuple[int, ...] = ()  # what the next choice may be, if one more is needed

    def tokens(self) -> Iterator[Token]:
        text, end, last, ended = self._text, len(self._text), "", -1
        count = 0
        while self._at < end and not self.open_choice:
            at = self._at
            if self._inside and text.startswith("*/", at):
                self._inside, self._at = False, at + 2
                continue
            match = _TOKEN.match(text, at)
            if match is None or match.lastgroup is None:
                raise Unreadable(f"a character that no token begins with, at {at}")
            self._at = match.end()
            kind = match.lastgroup
            if kind in ("space", "comment"):
                if kind == "comment":
                    self._line(match.group())
                continue
            if kind == "block":
                self._block(at)
                continue
            count += 1
            if count > MAX_TOKENS:
                raise Unreadable(f"more than {MAX_TOKENS} words")
            token = self._token(kind, match.group(), at, at == ended, last)
            if self._ascii and token.key != "<string>" and not text[at : self._at].isascii():
                raise Unreadable("a name that is not of ASCII, in a charset other than UTF-8")
            if self._inside and token.key == ";":
                raise Unreadable("a statement ends in a comment that is executed")
            last, ended = token.key, self._at
            yield token
        if self._inside and not self.open_choice:
            raise Unreadable("a comment without an end")

    def _line(self, comment: str) -> None:
        if "\0" in comment:
            raise Unreadable("a zero byte in a comment, where servers end it")
        if self._inside and "*/" in comment:
            raise Unreadable("the end of an executed comment is in a comment")

    def _token(self, kind: str, piece: str, at: int, glued: bool, last: str) -> Token:
        match kind:
            case "word":
                return self._word(piece, at, glued, last)
            case "digits":
                return self._number(at, glued, last)
            case "quote":
                return self._string(at, at, glued)
            case "tick":
                return self._name(self._quoted("`", at).replace("``", "`"), at, glued)
            case "at":
                return self._variable(at, glued)
            case "param":
                return Token("<param>", "?", at, self._at, glued)
            case "null":
                return Token("NULL", "NULL", at, self._at, glued)
        return Token(piece, piece, at, self._at, glued)

    def _word(self, piece: str, at: int, glued: bool, last: str) -> Token:
        if self._text.startswith("'", self._at) and _LITERAL.match(piece):
            return self._string(self._at, at, glued, piece.lower())
        if (last == "." and glued) or _QUALIFIES.match(self._text, self._at):  # beside a dot, a keyword is a name
            return Token("<name>", piece, at, self._at, glued)
        return Token(piece.upper() if piece.isascii() else "<name>", piece, at, self._at, glued)

    def _name(self, name: str, at: int, glued: bool) -> Token:
        if not name or "\0" in name:
            raise Unreadable("a quoted name that is empty, or of characters that names do not have")
        return Token("<name>", name, at, self._at, glued, True)

    def _number(self, at: int, glued: bool, last: str) -> Token:
        text = self._text
        if glued and last == "." and text[at] != ".":  # t.1a: a name
            match = _AFTER_DOT.match(text, at)
            assert match is not None
            self._at = match.end()
            return Token("<name>", match.group(), at, self._at, glued)
        if text[at] == "." and glued and last == "<name>" and text[at - 1] != "`":  # t.1a, the dot first
            self._at = at + 1
            return Token(".", ".", at, self._at, glued)
        match = _NUMBER.match(text, at)
        assert match is not None
        self._at = match.end()
        if match.lastgroup == "name":
            return Token("<name>", match.group(), at, self._at, glued)
        follows = text[self._at : self._at + 2]
        if match.lastgroup in ("real", "power") and follows[:1] in ("e", "E", "."):
            raise Unreadable("a number that servers cut in different places")
        return Token("<number>" if match.lastgroup != "hex" else "<hex>", match.group(), at, self._at, glued)

    def _string(self, quote: int, at: int, glued: bool, before: str = "") -> Token:
        char = self._text[quote]
        as_name = char == '"' and self._mode.ansi_quotes
        body = self._quoted(char, quote, self._mode.backslash and not as_name)
        if as_name:
            return self._name(body.replace('""', '"'), at, glued)
        if before in ("x", "b"):
            if not _DIGITS[before].match(body):
                raise Unreadable(f"{before}'...' that is no number")
            return Token("<hex>", self._text[at : self._at], at, self._at, glued)
        return Token("<string>", body, at, self._at, glued)

    def _quoted(self, char: str, at: int, backslash: bool = False) -> str:
        """Return what stands between quotes, and go behind them."""
        match = _QUOTED[char, backslash].match(self._text, at)
        if match is None:
            raise Unreadable("a string or a quoted name without an end")
        self._at = match.end()
        return match.group()[1:-1]

    def _variable(self, at: int, glued: bool) -> Token:
        text = self._text
        if text.startswith("@@", at):
            match = _SYSTEM.match(text, at)
            if match is None:
                raise Unreadable("@@ without a name")
            self._at = match.end()
            return Token("<system>", match.group()[2:].replace("`", "").lower(), at, self._at, glued)
        follows = text[at + 1 : at + 2]
        if follows and follows in "'\"`":
            name = follows == "`" or (follows == '"' and self._mode.ansi_quotes)
            body = self._quoted(follows, at + 1, self._mode.backslash and not name)
            return Token("<variable>", body.lower(), at, self._at, glued)
        match = _USER.match(text, at + 1)
        if match is None:
            return Token("@", "@", at, self._at, glued)
        self._at = match.end()
        return Token("<variable>", match.group().lower(), at, self._at, glued)

    # -- comments ---------------------------------------------------------------------------------------------------

    def _block(self, at: int) -> None:
        """Pass over /* ... */, or go into one that is executed."""
        text = self._text
        maria = text.startswith("/*M!", at)
        if maria or text.startswith("/*!", at):
            return self._executable(at + (4 if maria else 3), maria)
        end = text.find("*/", at + 2)
        if end < 0:
            raise Unreadable("a comment without an end")
        if text.startswith("/*+", at) and "set_var" in text[at:end].lower():
            raise Unreadable("a hint sets a variable")
        self._at = end + 2
        return None

    def _executable(self, at: int, maria: bool) -> None:
        if self._inside:
            raise Unreadable("an executed comment in another")
        match = _VERSION.match(self._text, at)
        assert match is not None
        digits = match.group()
        if digits and len(digits) not in (5, 6):
            raise Unreadable("an executed comment whose version is no version")
        if not maria and (not digits or (len(digits) == 5 and int(digits) < OLD)):
            choice = len(digits)
        elif self._made < len(self._choices):
            choice = self._choices[self._made]
            self._made += 1
        else:  # 6 digits may be 5 and one of the content
            self.open_choice = (-1, 0) if not digits else (-1, 5) if len(digits) == 5 else (-1, 5, 6)
            return
        if choice >= 0:
            self._inside, self._at = True, at + choice
            return
        end = self._text.find("*/", at)
        if end < 0 or "/*" in self._text[at:end]:
            raise Unreadable("a comment without an end, or in a comment that some servers execute")
        self._at = end + 2

