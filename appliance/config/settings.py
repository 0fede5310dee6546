"""vendorgate.yaml -> Settings. Every key has a default, so an empty file is a valid one."""

import ipaddress
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance.config import document
from appliance.config.document import Node
from appliance.config.recording import Record, record


class Relay(msgspec.Struct, frozen=True):
    """Where governed connections are taken to, and who does it."""

    port: int = 15001
    workers: int = 0  # 0: one a core ("auto")
    user: str = "vendorgate"
    drain_s: float = 5.0  # for live sessions to end by themselves at a stop or restart; then they get an error


class Approvals(msgspec.Struct, frozen=True):
    """How many held messages there may be; one more is denied."""

    max_pending: int = 1000
    max_pending_per_process: int = 20


class Authority(msgspec.Struct, frozen=True):
    """What the local authority is good for: names with what is below them, networks. None: everything."""

    names: tuple[str, ...] = ()


# Where syslog(3) and sd_journal_send(3) write. They do nothing for who writes there.
JOURNAL = (
    "/dev/log",
    "/run/systemd/journal/dev-log",
    "/run/systemd/journal/socket",
    "/run/systemd/journal/stdout",
)


class Settings(msgspec.Struct, frozen=True):
    """All of vendorgate.yaml."""

    slice: str = "vendor.slice"  # cgroup path below cgroup_root
    cgroup_root: Path = Path("/sys/fs/cgroup")
    rules: Path = Path("/etc/vendorgate/rules.d")
    state_dir: Path = Path("/var/lib/vendorgate")
    runtime_dir: Path = Path("/run/vendorgate")
    relay: Relay = Relay()
    record: Record = Record()
    approvals: Approvals = Approvals()
    authority: Authority = Authority()
    on_failure: Literal["closed", "open"] = "closed"
    existing_connections: Literal["drop", "keep"] = "drop"
    unix: tuple[str, ...] | None = JOURNAL  # sockets governed processes may speak to, besides their own; None: any


MAX_DRAIN_S = 600.0  # who restarts waits for it, and so do new connections
MAX_WORKERS = 256  # far above any core count that helps; a typo must not fork thousands
MAX_PENDING = 1_000_000  # each held message keeps its bytes in a relay
MAX_UNIX = 107  # bytes; unix(7), sun_path without its NUL
MAX_NAMES = 100  # of the authority: every client walks them at every handshake
MAX_USER = 32  # characters; useradd(8)


LABEL = "abcdefghijklmnopqrstuvwxyz0123456789-_"


def settings(where: str, text: str) -> Settings:
    """Return the settings in `text`; `where` is the file's name for errors.

    Raises:
        ConfigError: an unknown key or a value that cannot be.
    """
    fields = document.mapping(document.parse(where, text), "settings", Settings.__struct_fields__)
    read: dict[str, Callable[[Node, str], Any]] = {
        "slice": _slice,
        "cgroup_root": _path,
        "rules": _path,
        "state_dir": _path,
        "runtime_dir": _path,
        "relay": _relay,
        "record": record,
        "approvals": _approvals,
        "authority": _authority,
        "on_failure": lambda n, name: document.choice(n, name, ("closed", "open")),
        "existing_connections": lambda n, name: document.choice(n, name, ("drop", "keep")),
        "unix": _unix,
    }
    return msgspec.structs.replace(Settings(), **{key: read[key](node, key) for key, node in fields.items()})


def _slice(node: Node, name: str) -> str:
    text = document.string(node, name)
    parts = text.split("/")
    if text.startswith("/") or any(p in ("", ".", "..") for p in parts):
        node.fail(f"{name}: `{text}` is not a path below cgroup_root", "write it as in vendor.slice")
    return text


def _path(node: Node, name: str) -> Path:
    text = document.string(node, name)
    if not text.startswith("/") or "\0" in text:
        node.fail(f"{name}: `{text}` is not an absolute path", "begin it with /")
    return Path(text)


def _relay(node: Node, name: str) -> Relay:
    fields = document.mapping(node, name, ("port", "workers", "user", "drain"))
    relay = Relay()
    if "port" in fields:
        relay = msgspec.structs.replace(relay, port=document.whole(fields["port"], f"{name}.port", 1, 65535))
    if "workers" in fields:
        relay = msgspec.structs.replace(relay, workers=_workers(fields["workers"], f"{name}.workers"))
    if "user" in fields:
        relay = msgspec.structs.replace(relay, user=_user(fields["user"], f"{name}.user"))
    if "drain" in fields:
        relay = msgspec.structs.replace(relay, drain_s=_drain(fields["drain"], f"{name}.drain"))
    return relay


def _workers(node: Node, name: str) -> int:
    if document.string(node, name) == "auto":
        return 0
    return document.whole(node, name, 1, MAX_WORKERS)


def _drain(node: Node, name: str) -> float:
    seconds = document.duration(node, name)
    if seconds > MAX_DRAIN_S:
        node.fail(f"{name}: `{node.text}` is over {MAX_DRAIN_S:g} s", "write 5s, or as long as your longest request")
    return seconds


def _user(node: Node, name: str) -> str:
    text = document.string(node, name)
    if len(text) > MAX_USER or any(c in text for c in ":/ \n\0"):
        node.fail(f"{name}: `{text}` is not a user's name")
    return text


def _unix(node: Node, name: str) -> tuple[str, ...] | None:
    """Return paths, directories (with a slash at the end) and abstract names (@); None for `any`."""
    if node.text == "any":
        return None
    found = tuple(document.string(entry, name) for entry in document.sequence(node, name))
    for text in found:
        if len(text.encode()) > MAX_UNIX or text[:1] not in "/@" or "\0" in text or "/../" in f"{text}/":
            node.fail(f"{name}: `{text}` names no unix socket", "a path, a directory with / at its end, or @name")
    return found


def _approvals(node: Node, name: str) -> Approvals:
    fields = document.mapping(node, name, Approvals.__struct_fields__)
    found = {key: document.whole(n, f"{name}.{key}", 1, MAX_PENDING) for key, n in fields.items()}
    return msgspec.structs.replace(Approvals(), **found)


def _authority(node: Node, name: str) -> Authority:
    fields = document.mapping(node, name, Authority.__struct_fields__)
    if "names" not in fields:
        return Authority()
    entries = document.sequence(fields["names"], f"{name}.names")
    if not 0 < len(entries) <= MAX_NAMES:
        fields["names"].fail(f"{name}.names: {len(entries)} names", f"1 to {MAX_NAMES}; leave it out for every name")
    return Authority(tuple(_limit(entry, f"{name}.names") for entry in entries))


def _limit(node: Node, name: str) -> str:
    """Return a name of DNS (RFC 1035 2.3.1) or a network, in the form that certificates hold."""
    text = document.string(node, name)
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        labels = text.lower().removeprefix(".").split(".")
    if len(text) > 253 or any(not label or len(label) > 63 or label.strip(LABEL) for label in labels):
        node.fail(f"{name}: `{text}` is neither a name nor a network", "write it as in example.com or 10.0.0.0/8")
    return ".".join(labels)
