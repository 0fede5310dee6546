"""What one command would do, as words: of a command in the table, one that is not, or a script."""

from collections.abc import Iterable, Sequence

from appliance.facts.redis.commands import COMMANDS, CONTAINERS, Command, name_of
from appliance.facts.redis.effects import COPIES, EFFECTS, WIDEST, compares, effects
from appliance.facts.redis.keys import OWN, Keys, keys, whole
from appliance.facts.redis.meaning import Meaning
from appliance.facts.redis.scripts import Call, Reading, Scripts
from appliance.facts.redis.text import shown

MAX_KEY = 4_096  # bytes of a key or channel that is told; ours: longer ones are not known
MAX_LINE = 1_024  # bytes of a script beyond which the text of its command does not show all of it
MAX_TEXT = 1 << 20  # bytes of a command that detectors look at; ours
MAX_SECRET = 1_024  # of one with a password, of which they see what is shown; ours: of more some is left out there

EVERY = "*"  # stands for all keys
# Commands about all there is; of the second, the answer shows what is in it, or moves it where masks by key do not see.
TOUCH_ALL = frozenset(
    (
        "FLUSHALL", "FLUSHDB", "SWAPDB", "MONITOR", "SYNC", "PSYNC", "SLOWLOG GET", "COMMANDLOG GET", "DEBUG",
        "REPLICAOF", "SLAVEOF", "CLUSTER RESET", "CLUSTER FLUSHSLOTS",
    )
)  # fmt: skip
COPY_ALL = frozenset(("SWAPDB", "MONITOR", "SYNC", "PSYNC", "DEBUG"))
CHANNELS = {
    "PUBLISH": slice(1, 2), "SPUBLISH": slice(1, 2), "SUBSCRIBE": slice(1, None), "SSUBSCRIBE": slice(1, None),
    "PSUBSCRIBE": slice(1, None), "UNSUBSCRIBE": slice(1, None), "PUNSUBSCRIBE": slice(1, None),
    "SUNSUBSCRIBE": slice(1, None),
}  # fmt: skip
GLOB = frozenset(b"*?[\\")
SCRIPTS = frozenset(("EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO", "FCALL", "FCALL_RO"))

Words = Sequence[bytes]
_NOT_KNOWN = b"\0not known\0"  # in place of an argument a script computes
_WHOLLY = frozenset(("effect", "command", "key", "compared", "copied", "channel"))
_NONE: frozenset[str] = frozenset()
_CALLED = {name: frozenset((name,)) for name in COMMANDS}


def _single(command: Command) -> bool:
    """Return whether a command has one key, which is its first argument, and is said by its words on that."""
    spec = command.specs[0] if len(command.specs) == 1 else None
    if spec is None or (spec.at, spec.keyword, spec.last, spec.count) != (1, "", 0, -1) or "not_key" in spec.access:
        return False
    return command.name not in {*OWN, *TOUCH_ALL, *COPY_ALL, *COPIES, *CHANNELS, *SCRIPTS, "COPY"}


SINGLE = frozenset(name for name, command in COMMANDS.items() if _single(command))


def meaning(words: Words, scripts: Scripts) -> Meaning:
    """Return what a command with these words, its own included, would do."""
    name = name_of(words)
    command = COMMANDS.get(name)
    if command is None:
        return _not_known(name)
    if name in SINGLE and command.fits(len(words)) and len(words[1]) <= MAX_KEY:
        key = shown(words[1])
        compared = frozenset((key,)) if compares(command, words, 1) else _NONE
        return Meaning(name, effects(command, words), _CALLED[name], (key,), compared)
    if name in SCRIPTS and command.fits(len(words)):
        return _script(command, words, scripts)
    found = keys(command, words)
    texts, unknown, why = _names(found)
    channels, loose = _channels(name, words)
    several = len(found.all)
    return Meaning(
        name,
        effects(command, words),
        _CALLED[name],
        (*texts, EVERY) if name in TOUCH_ALL else texts,
        _every(name) or (_shown(found.read or found.all) if compares(command, words, several) else frozenset()),
        _every(name) or _shown(_copied(name, found)),
        channels,
        frozenset(_loads(name, words, scripts)),
        unknown | ({"channel"} if loose else frozenset()),
        why or ("it subscribes to a pattern of channels" if loose else ""),
    )


def _every(name: str) -> frozenset[str]:
    return frozenset((EVERY,)) if name in COPY_ALL else frozenset()


def _copied(name: str, found: Keys) -> Iterable[bytes]:
    """Return the keys whose values it writes elsewhere; COPY may keep the name, in another database."""
    return found.all if name in COPIES else found.read if name == "COPY" else found.copied


def _shown(keys: Iterable[bytes]) -> frozenset[str]:
    return frozenset(shown(key) for key in keys if len(key) <= MAX_KEY)


def _names(found: Keys) -> tuple[tuple[str, ...], frozenset[str], str]:
    """Return the keys as text, which facts are not known for that, and why."""
    if found.unknown:
        return _short(found.all), frozenset(("key", "compared", "copied", "count")), found.unknown
    if any(len(key) > MAX_KEY for key in found.all):
        return _short(found.all), frozenset(("key", "compared", "copied")), f"a key of more than {MAX_KEY} bytes"
    return tuple(map(shown, found.all)), frozenset(), ""


def _short(words: Iterable[bytes]) -> tuple[str, ...]:
    return tuple(shown(key) for key in words if len(key) <= MAX_KEY)


def _channels(name: str, words: Words) -> tuple[frozenset[str], bool]:
    """Return the channels a command names, and whether it is about others as well."""
    place = CHANNELS.get(name)
    if place is None:
        return frozenset(), False
    named = words[place]
    pattern = name in ("PSUBSCRIBE", "PUNSUBSCRIBE") and any(GLOB & set(word) for word in named)
    return frozenset(_short(named)), pattern or any(len(word) > MAX_KEY for word in named)


def _loads(name: str, words: Words, scripts: Scripts) -> Iterable[str]:
    if name == "SCRIPT LOAD" and len(words) == 3:
        return [scripts.add(words[2])]
    if name == "FUNCTION LOAD" and len(words) > 2:
        return scripts.add_library(words[-1])
    return ()


def _not_known(name: str) -> Meaning:
    container = name.partition(" ")[0]
    what = "subcommand" if " " in name and container in CONTAINERS else "command"
    return Meaning(
        name,
        commands=frozenset((name,)),
        unknown=_WHOLLY | {"count"},
        why=f"{name[:60]} is no {what} of the servers known here",
        asks=True,
    )


# -- scripts --------------------------------------------------------------------------------------------------------


def _script(command: Command, words: Words, scripts: Scripts) -> Meaning:
    """Return what a script or function does, as far as its text proves it."""
    number = whole(words[2])
    declared = words[3 : 3 + number]
    function = command.name.startswith("FCALL")
    called, text = _called(command.name, words, scripts)
    if text is None:
        reading = Reading(why=f"the text of {called[:60]} was never seen", loose=True)
    elif function:
        reading = Reading(why="what a function does is not read from its text", loose=True)
    else:
        reading = scripts.read(called, text)
    inner = [_call(call, declared) for call in reading.calls]
    names, unknown, why = _names(Keys(other=tuple(declared)))
    unproved = reading.why or next((m.why for m in inner if "effect" in m.unknown), "")
    loose = reading.loose or unproved or any("key" in m.unknown for m in inner)
    # What it does with values it reads is not followed: it may compare them, and write them to any key.
    unknown |= {"compared", "copied"} | ({"key", "count"} if loose else frozenset())
    unknown |= (_WHOLLY if unproved else frozenset()) | ({"channel"} if _speaks(inner) else frozenset())
    return Meaning(
        command.name,
        EFFECTS[command.name].union(*(m.effect for m in inner)),
        frozenset((command.name, *(m.name for m in inner))),
        (*names, *(key for m in inner for key in m.keys if key not in names)),
        channels=frozenset(channel for m in inner for channel in m.channels),
        scripts=frozenset((called,)),
        unknown=unknown,
        why=f"a script: {unproved}" if unproved else why or "what a script does with values is not followed",
        more=shown(text) if text is not None and (text is not words[1] or len(text) > MAX_LINE) else "",
    )


def _called(name: str, words: Words, scripts: Scripts) -> tuple[str, bytes | None]:
    """Return what a script or function is called, and its text if it was seen."""
    if name in ("EVAL", "EVAL_RO"):
        return scripts.add(words[1]), words[1]
    called = shown(words[1][:MAX_KEY])
    if name.startswith("FCALL"):
        return called, scripts.library(called)
    return called.lower(), scripts.text(called)


def _speaks(inner: Iterable[Meaning]) -> bool:
    return any(m.effect & {"publish", "subscribe"} for m in inner)


def _call(call: Call, declared: Words) -> Meaning:
    """Return what one redis.call does; arguments that are computed may be anything."""
    words = [_argument(argument, declared) for argument in call.arguments]
    name = name_of(words)
    command = COMMANDS.get(name)
    if command is None or (name in CONTAINERS and len(words) > 1) or _NOT_KNOWN in words[:1]:
        why = f"it calls {name[:60]}, which is not known here"
        return Meaning(name[:60], unknown=frozenset(("effect", "key")), why=why)
    computed = call.open or _NOT_KNOWN in words
    found = keys(command, words)
    # Which words are keys may depend on those that are not known.
    told = all(spec.told and spec.count < 0 and not spec.keyword for spec in command.specs)
    sure = told and not call.open and _NOT_KNOWN not in found.all and not found.unknown and name not in OWN
    texts = tuple(shown(key) for key in found.all if key != _NOT_KNOWN and len(key) <= MAX_KEY)
    return Meaning(
        name,
        WIDEST.get(name, EFFECTS[name]) if computed else effects(command, words),
        keys=(*texts, EVERY) if name in TOUCH_ALL else texts,
        channels=_channels(name, [word for word in words if word != _NOT_KNOWN])[0],
        unknown=frozenset() if sure or not (command.specs or found.unknown) else frozenset(("key",)),
        why="",
    )


def _argument(argument: bytes | int | None, declared: Words) -> bytes:
    if isinstance(argument, int):
        return declared[argument - 1] if 0 < argument <= len(declared) else _NOT_KNOWN
    return _NOT_KNOWN if argument is None else argument
