"""What an interpreter was told to run, by the command line that the kernel copied at its exec.

Sources: python3(1), node(1), bash(1) and dash(1) "Invocation", perlrun(1), ruby(1), php(1).

    "/path"        a file; "?/path" when other code is loaded before it (`node -r`, `perl -M`): it is not that alone
    "module:NAME"  `python -m`; which file that is depends on what the process finds, so it has no digest
    "code:"        `-c`, `-e`: the program is in the command line
    "stdin:"       neither: it reads its program, or a person types it
    "?"            cannot be told: the command line was cut, or is not known

An executable is an interpreter by its name. One that a vendor copied elsewhere under another name is none here; rules
that allow say which interpreter they mean by `exe`.
"""

import re
from collections.abc import Sequence

import msgspec

CUT = "…"  # the word that layout.words writes for what is missing


class Grammar(msgspec.Struct, frozen=True):
    """How an interpreter reads its options. Letters are short options; one may carry the rest of its word."""

    code: str = ""  # the program is the value
    later: str = ""  # the program is the first word that is no option
    module: str = ""
    file: str = ""  # the value is the script
    values: str = ""  # takes a value, in the same word or the next
    rest: str = ""  # takes the rest of its word, or nothing
    odd: str = ""  # the same, and the program is not the file alone
    loads: str = ""  # loads other code first; takes a value
    stdin: str = ""
    long_code: tuple[str, ...] = ()
    long_values: tuple[str, ...] = ()
    long_loads: tuple[str, ...] = ()


SHELL = Grammar(later="c", values="oO", stdin="s", long_values=("--rcfile", "--init-file"))
GRAMMARS = {
    r"python(\d(\.\d+)?)?|pypy(\d(\.\d+)?)?": Grammar(
        code="c", module="m", values="WXQ", long_values=("--check-hash-based-pycs",)
    ),
    r"node(js)?": Grammar(
        code="ep", loads="r", values="C",
        long_code=("--eval", "--print", "-pe"),
        long_values=("--conditions", "--title", "--input-type"),
        long_loads=("--require", "--import", "--loader", "--experimental-loader", "--run", "--test"),
    ),
    r"bash|sh|dash|ash|ksh|zsh|rbash": SHELL,
    r"perl(\d.*)?": Grammar(code="eE", loads="IMm", rest="CDFiV", odd="dx"),
    r"ruby(\d.*)?": Grammar(code="e", loads="rICSx", values="EKTF", rest="iW", long_values=("--encoding",)),
    r"php(\d.*)?": Grammar(code="rRBE", file="fF", values="cdSt", loads="z"),
}  # fmt: skip
NAMES = [(re.compile(names), grammar) for names, grammar in GRAMMARS.items()]


class Script(msgspec.Struct, frozen=True):
    """`text` as above, but with the path as it was written; `code` is the program of "code:"."""

    text: str
    code: str = ""


def script(exe: str, argv: Sequence[str], known: bool = True) -> Script | None:
    """Return what is run; None if `exe` is no interpreter. Not `known`: the command line is not."""
    name = exe.rpartition("/")[2]
    grammar = next((grammar for names, grammar in NAMES if names.fullmatch(name)), None)
    if grammar is None:
        return None
    if not known or not argv:
        return Script("?")
    return _Reading(grammar, argv[1:]).read()


class _Reading:
    """One command line, word by word."""

    def __init__(self, grammar: Grammar, words: Sequence[str]) -> None:
        self._grammar, self._words = grammar, list(words)
        self._later = self._loads = self._stdin = False

    def read(self) -> Script:
        while self._words:
            word = self._words.pop(0)
            if word == CUT and not self._words:
                return Script("?")
            if word == "--" or (word == "-" and self._grammar is SHELL):
                return self._operand(self._words[0] if self._words else "")
            if word == "-":
                return self._nothing()
            if not word.startswith(("-", "+")) or len(word) == 1:
                return self._operand(word)
            found = self._long(word) if word.startswith("--") else self._short(word[1:])
            if found:
                return found
        return self._nothing()

    def _nothing(self) -> Script:
        """No word is left, or a lone `-`: the program is read from standard input, unless it was to follow."""
        return Script("?") if self._later or self._loads else Script("stdin:")

    def _operand(self, word: str) -> Script:
        if not word:
            return self._nothing()
        if word == CUT:
            return Script("?")
        if self._later:
            return Script("code:", word)
        if self._stdin:
            return Script("stdin:")
        return Script(f"?{word}" if self._loads else word)

    def _long(self, word: str) -> Script | None:
        name, equals, value = word.partition("=")
        grammar = self._grammar
        if name in grammar.long_code:
            return self._code(value if equals else self._next())
        if name in grammar.long_loads:
            self._loads = True
        if name in (*grammar.long_loads, *grammar.long_values) and not equals:
            self._next()
        return None

    def _short(self, letters: str) -> Script | None:
        grammar = self._grammar
        for i, letter in enumerate(letters):
            rest = letters[i + 1 :]
            if letter in grammar.code:
                return self._code(rest or self._next())
            if letter in grammar.module:
                name = rest or self._next()
                return Script("?" if name in ("", CUT) else f"module:{name}")
            if letter in grammar.file:
                return self._operand(rest or self._next())
            self._later = self._later or letter in grammar.later
            self._stdin = self._stdin or letter in grammar.stdin
            self._loads = self._loads or letter in grammar.loads + grammar.odd
            if letter in grammar.rest + grammar.odd:
                return None
            if letter in grammar.values + grammar.loads:
                # A shell's -o takes the next word whatever follows in its own.
                if not rest or grammar is SHELL:
                    self._next()
                if grammar is not SHELL:
                    return None
        return None

    def _code(self, text: str) -> Script:
        if text in ("", CUT):
            return Script("?")
        return Script("?code:" if self._loads else "code:", text)

    def _next(self) -> str:
        return self._words.pop(0) if self._words else ""
