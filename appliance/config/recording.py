"""The settings below `record:`: what is kept, for how long, how safe, and where else."""

from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import msgspec

from appliance.config import document
from appliance.config.document import Node

MIN_SYNC_S, MAX_SYNC_S = 1.0, 60.0  # each sync of a busy disk takes some ms; above a minute a power cut takes too much
MAX_CHECKPOINT_S = 3600.0  # what was written since the last checkpoint can be cut off unseen
MAX_WORDS = 32  # of a command

Level = Literal["full", "requests", "metadata"]


class Place(msgspec.Struct, frozen=True):
    """Where something is sent: a directory, or a bucket by the URL of its store, as https://s3.example/bucket/prefix."""

    to: str
    region: str = "us-east-1"  # what stores that have none expect
    credentials: Path = Path()  # file with two lines: the id of the key, and the secret


class Anchor(msgspec.Struct, frozen=True):
    """Who outside is told of checkpoints."""

    command: tuple[str, ...] = ()  # gets the line on its standard input
    syslog: bool = False
    place: Place | None = None
    every_s: float = 3600.0


class Record(msgspec.Struct, frozen=True):
    """What is kept, for how long, and whether traffic may go on without it."""

    level: Level = "full"
    retention_s: float = 30 * 86400.0
    max_bytes: int = 20 << 30
    required: bool = True
    sync_s: float = 5.0  # between two syncs of the disk; 0: nothing is forwarded before it is on the disk
    checkpoint_s: float = 10.0  # between two checkpoints while something is recorded
    ship: Place | None = None
    anchor: Anchor | None = None


def record(node: Node, name: str) -> Record:
    """Return what `record:` says."""
    read: dict[str, Any] = {
        "level": _level,
        "retention": document.duration,
        "max_bytes": document.size,
        "required": document.flag,
        "sync": _sync,
        "checkpoint": lambda n, called: _between(n, called, 1.0, MAX_CHECKPOINT_S),
        "ship": lambda n, called: _place(document.mapping(n, called, Place.__struct_fields__), n, called),
        "anchor": _anchor,
    }
    kept_as = {"retention": "retention_s", "sync": "sync_s", "checkpoint": "checkpoint_s"}
    fields = document.mapping(node, name, tuple(read))
    found = {kept_as.get(key, key): read[key](n, f"{name}.{key}") for key, n in fields.items()}
    return msgspec.structs.replace(Record(), **found)


def _level(node: Node, name: str) -> Level:
    return cast(Level, document.choice(node, name, ("full", "requests", "metadata")))


def _sync(node: Node, name: str) -> float:
    if node.text == "always":
        return 0.0
    return _between(node, name, MIN_SYNC_S, MAX_SYNC_S, "write always, or 1s to 60s")


def _between(node: Node, name: str, least: float, most: float, hint: str = "") -> float:
    seconds = document.duration(node, name)
    if not least <= seconds <= most:
        node.fail(f"{name}: `{node.text}` is not from {least:g} s to {most:g} s", hint)
    return seconds


def _anchor(node: Node, name: str) -> Anchor:
    keys = ("command", "syslog", "every", *Place.__struct_fields__)
    fields = document.mapping(node, name, keys)
    anchor = Anchor()
    if "command" in fields:
        words = document.strings(fields["command"], f"{name}.command")
        if not words or len(words) > MAX_WORDS or not words[0].startswith("/"):
            fields["command"].fail(f"{name}.command: not a program's path and its arguments", "as in [/usr/bin/logger]")
        anchor = msgspec.structs.replace(anchor, command=tuple(words))
    if "syslog" in fields:
        anchor = msgspec.structs.replace(anchor, syslog=document.flag(fields["syslog"], f"{name}.syslog"))
    if "every" in fields:
        every_s = _between(fields["every"], f"{name}.every", 1.0, 86_400.0)
        anchor = msgspec.structs.replace(anchor, every_s=every_s)
    places = {key: n for key, n in fields.items() if key in Place.__struct_fields__}
    if places:
        anchor = msgspec.structs.replace(anchor, place=_place(places, node, name))
    if not (anchor.command or anchor.syslog or anchor.place):
        node.fail(f"{name}: tells nobody", "write command:, syslog: true, or to:")
    return anchor


def _place(fields: dict[str, Node], node: Node, name: str) -> Place:
    if "to" not in fields:
        node.fail(f"{name}: does not say where to", "write to: and a directory or an URL")
    to = document.string(fields["to"], f"{name}.to")
    url = urlsplit(to)
    if not to.startswith("/"):
        if url.scheme not in ("http", "https") or not url.hostname or url.path.strip("/") == "" or url.query:
            hint = "write a directory, or as in https://s3.example/bucket/prefix"
            fields["to"].fail(f"{name}.to: `{to}` is no place to send to", hint)
        if "credentials" not in fields:
            node.fail(f"{name}: has no credentials", "write credentials: and a file with key id and secret")
    region = document.string(fields["region"], f"{name}.region") if "region" in fields else Place(to).region
    path = Path(document.string(fields["credentials"], f"{name}.credentials")) if "credentials" in fields else Path()
    return Place(to.rstrip("/") or "/", region, path)
