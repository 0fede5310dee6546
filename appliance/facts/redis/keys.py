"""Which keys a command touches, by the server's table, and by the command's own grammar where the table cannot tell.

Source: Redis 7.0 documentation, "Command key specifications"; t_stream.c, sort.c, geo.c, cluster.c (MIGRATE) of 7.0 for
those whose options can look like the words keys come after.
"""

from collections.abc import Callable, Sequence

import msgspec

from appliance.facts.redis.commands import Command, Spec

MAX_KEYS = 10_000  # of one command that are told apart; ours: a rule looks at each. With more they are not known

Words = Sequence[bytes]


class Keys(msgspec.Struct, frozen=True, gc=False):
    """Keys of one command. `unknown` says why there may be more."""

    read: tuple[bytes, ...] = ()  # whose values it reads
    targets: tuple[bytes, ...] = ()  # that it gives the values of others
    other: tuple[bytes, ...] = ()  # all else: set, removed, given a time to live, asked about
    unknown: str = ""

    @property
    def all(self) -> tuple[bytes, ...]:
        return (*self.read, *self.targets, *self.other)

    @property
    def copied(self) -> frozenset[bytes]:
        """Keys whose values it writes to another key."""
        return frozenset(key for key in self.read if any(target != key for target in self.targets))


NOT_SO = Keys()  # arguments with which any server refuses the command


def keys(command: Command, words: Words) -> Keys:
    """Return the keys of a command with these words, its own included."""
    if not command.fits(len(words)):
        # Later servers take more words after some (ZRANK ... WITHSCORE), none takes fewer.
        return NOT_SO if len(words) < abs(command.arity) else Keys(unknown="more words than servers known here take")
    own = OWN.get(command.name)
    found = own(words) if own is not None else _by_specs(command.specs, words)
    return found if len(found.all) <= MAX_KEYS else Keys(unknown=f"more than {MAX_KEYS} keys")


def _by_specs(specs: Sequence[Spec], words: Words) -> Keys:
    read: list[bytes] = []
    targets: list[bytes] = []
    other: list[bytes] = []
    for spec in specs:
        if "not_key" in spec.access:
            continue  # a shard channel
        found = _by_spec(spec, words)
        if spec.reads:
            read += found
        if spec.writes and len(specs) > 1:
            targets += found
        elif not spec.reads:
            other += found
    return Keys(tuple(read), tuple(targets), tuple(other))


def _by_spec(spec: Spec, words: Words) -> list[bytes]:
    at = spec.at
    if spec.keyword:
        wanted = spec.keyword.encode()
        places = range(spec.start, len(words)) if spec.start > 0 else range(len(words) + spec.start, 0, -1)
        at = next((i + 1 for i in places if words[i].upper() == wanted), 0)
    if not 0 < at < len(words):
        return []
    if spec.count >= 0:
        number = whole(words[at + spec.count])
        return list(words[at + spec.first :: spec.step][:number]) if number else []
    last = at + spec.last if spec.last >= 0 else len(words) + spec.last
    if spec.last < 0 and spec.limit > 1:
        last = at + (len(words) - at) // spec.limit - 1
    return list(words[at : last + 1 : spec.step])


def whole(word: bytes) -> int:
    """Return a number of keys; 0 if it is none, with which the server refuses the command."""
    return int(word) if word.isdigit() and len(word) < 10 else 0


# -- grammars -------------------------------------------------------------------------------------------------------


def _streams(words: Words, at: int) -> Keys:
    """XREAD and XREADGROUP: options, then STREAMS, keys, and as many ids."""
    after = {b"COUNT": 1, b"BLOCK": 1, b"GROUP": 2, b"NOACK": 0}
    while at < len(words) and (word := words[at].upper()) != b"STREAMS":
        if word not in after:
            return Keys(unknown="an option that is not known here")
        at += after[word] + 1
    rest = words[at + 1 :]
    return Keys(read=tuple(rest[: len(rest) // 2])) if rest and len(rest) % 2 == 0 else NOT_SO


def _sort(words: Words) -> Keys:
    """SORT: GET and BY read keys whose names are made of the elements."""
    stored: tuple[bytes, ...] = ()
    at, unknown = 2, ""
    while at < len(words):
        word = words[at].upper()
        if word == b"LIMIT":
            at += 3
        elif word == b"STORE" and at + 1 < len(words):
            stored, at = (words[at + 1],), at + 2
        elif word in (b"BY", b"GET") and at + 1 < len(words):
            if b"*" in words[at + 1]:
                unknown = "it reads keys whose names are made of what it sorts"
            at += 2
        else:
            at += 1
    return Keys(read=(words[1],), targets=stored, unknown=unknown)


def _radius(options: int) -> Callable[[Words], Keys]:
    """GEORADIUS and GEORADIUSBYMEMBER: the server takes the last of STORE and STOREDIST."""

    def read(words: Words) -> Keys:
        stored = [
            words[at + 1] for at in range(options, len(words) - 1) if words[at].upper() in (b"STORE", b"STOREDIST")
        ]
        return Keys(read=(words[1],), targets=tuple(stored))

    return read


def _migrate(words: Words) -> Keys:
    """MIGRATE: one key, or all after KEYS. A password may be spelt KEYS."""
    after = {b"AUTH": 1, b"AUTH2": 2, b"COPY": 0, b"REPLACE": 0}
    at = 6
    while at < len(words) and (word := words[at].upper()) != b"KEYS":
        at += after.get(word, 0) + 1
    named = tuple(words[at + 1 :])
    return Keys(read=named if named and not words[3] else (words[3],))  # one may have no name


OWN: dict[str, Callable[[Words], Keys]] = {
    "XREAD": lambda words: _streams(words, 1),
    "XREADGROUP": lambda words: _streams(words, 1),
    "SORT": _sort,
    "SORT_RO": _sort,
    "GEORADIUS": _radius(6),
    "GEORADIUSBYMEMBER": _radius(5),
    "MIGRATE": _migrate,
}
