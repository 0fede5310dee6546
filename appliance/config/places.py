"""Identities and targets of a rules file, and places written inside a rule."""

import ipaddress
import re
from collections.abc import Callable, Sequence

import msgspec

from appliance.config import document, packets
from appliance.config.document import Node
from appliance.facts.hosts import public
from appliance.facts.words import PROTOCOLS
from appliance.model import Trust
from appliance.policy.rule import DIGEST, IMAGES, KEYS, Host, Identity, Net, Network, Target

Resolve = Callable[[str], Sequence[str]]

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
HOST = re.compile(r"(?=.{1,253}\.?\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?)+")
HEX = re.compile(rf"(?:{DIGEST})?[0-9a-fA-F]{{64}}")
PACKAGE = re.compile(r"[A-Za-z0-9*][A-Za-z0-9*+._-]*")  # of dpkg and rpm alike; `*` is any text
UNIT = re.compile(r"[A-Za-z0-9*:_.\\@-]+\.(?:service|scope|socket|mount|swap)|[A-Za-z0-9:_.\\@-]*\*")
CONTAINER = re.compile(r"[A-Za-z0-9*_.:-]+")
PIN = re.compile(r"[0-9a-f]{64}")
MAX_UID = 2**32 - 2  # 2**32 - 1 is "no user" to the kernel
MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")  # Address writes such an address as the IPv4 it is


def name(node: Node, what: str) -> str:
    if node.text is None or not NAME.fullmatch(node.text):
        node.fail(f"{what}: `{node.text}` is not a name", "use letters, digits, `.`, `_` and `-`, at most 64")
    return node.text


def identity(key: Node, node: Node) -> Identity:
    """Return one entry of `identities`."""
    who = f"identity {name(key, 'identities')}"
    fields = document.mapping(node, who, KEYS)
    if not fields:
        what = f"{who}: has no key, so it would be any process"
        node.fail(what, "name a cgroup, exe, uid, package or parent")
    for field, check in CHECKS.items():
        for n, text in _each(fields, field):
            check(n, who, text)
    uids = document.one_or_more(fields["uid"], who) if "uid" in fields else ()
    texts = {k: document.strings(n, f"{who}: {k}") for k, n in fields.items() if k != "uid"}
    for field in ("sha256", "script"):  # digests are compared as they are printed: in small letters
        texts[field] = tuple(t.lower() if HEX.fullmatch(t) else t for t in texts.get(field, ()))
    return Identity(
        name=str(key.text),
        where=key.where,
        uid=tuple(document.whole(n, f"{who}: uid", 0, MAX_UID) for n in uids),
        **texts,
    )


def _cgroup(node: Node, who: str, text: str) -> None:
    if text.startswith("/") or any(part in ("", ".", "..") for part in text.split("/")):
        node.fail(f"{who}: cgroup: `{text}` is not a path below the slice", "write it as in acme.service")


def _path(node: Node, who: str, text: str) -> None:
    if not text.startswith(("/", "*")):
        node.fail(f"{who}: exe: `{text}` is not a whole path", f"write /usr/bin/{text} or **/{text}")


def _parent(node: Node, who: str, text: str) -> None:
    if not text.startswith(("/", "*")):
        node.fail(f"{who}: parent: `{text}` is not a whole path", f"write /usr/bin/{text} or **/{text}")


def _sha256(node: Node, who: str, text: str) -> None:
    if not HEX.fullmatch(text) or ":" in text:
        node.fail(f"{who}: sha256: `{text}` is not 64 hexadecimal digits", "sha256sum FILE prints them")


def _script(node: Node, who: str, text: str) -> None:
    what = f"{who}: script: `{text}`"
    if text.startswith(DIGEST):
        if not HEX.fullmatch(text):
            node.fail(f"{what} is not sha256: and 64 hexadecimal digits", "sha256sum FILE prints them")
    elif not text.startswith(("/", "*", "module:")) and text not in ("code:", "stdin:"):
        hint = f"write /opt/agent/{text} or **/{text}; or module:NAME, code:, stdin:, sha256:DIGITS"
        node.fail(f"{what} is not a whole path", hint)


def _package(node: Node, who: str, text: str) -> None:
    if not PACKAGE.fullmatch(text):
        what = f"{who}: package: `{text}` is not the name of a package"
        node.fail(what, "write it without version and architecture, as in postgresql-client-15")


def _unit(node: Node, who: str, text: str) -> None:
    if not UNIT.fullmatch(text):
        what = f"{who}: unit: `{text}` is not the name of a unit"
        node.fail(what, f"write it with its kind, as in {text.partition('.')[0] or 'acme'}.service")


def _container(node: Node, who: str, text: str) -> None:
    if not CONTAINER.fullmatch(text):
        what = f"{who}: container: `{text}` is not an id"
        node.fail(what, "write its digits, at least 12 of them; an engine's name for it is not known to the kernel")


def _image(node: Node, who: str, text: str) -> None:
    if text not in IMAGES:
        node.fail(f"{who}: image: unknown value `{text}`", document.did_you_mean(text, IMAGES))


CHECKS: dict[str, Callable[[Node, str, str], None]] = {
    "cgroup": _cgroup, "exe": _path, "parent": _parent, "sha256": _sha256, "script": _script, "package": _package,
    "unit": _unit, "container": _container, "image": _image,
}  # fmt: skip


def _each(fields: dict[str, Node], key: str) -> list[tuple[Node, str]]:
    if key not in fields:
        return []
    return [(n, document.string(n, key)) for n in document.one_or_more(fields[key], key)]


def target(key: Node, node: Node, resolve: Resolve) -> Target:
    """Return one entry of `targets`."""
    what = f"target {name(key, 'targets')}"
    fields = document.mapping(node, what, ("protocol", "address", "tls", "mode"))
    protocol = ""
    if "protocol" in fields:
        protocol = document.string(fields["protocol"], f"{what}: protocol")
        if protocol not in PROTOCOLS:
            hint = document.did_you_mean(protocol, tuple(PROTOCOLS))
            fields["protocol"].fail(f"{what}: protocol `{protocol}` is not known here", hint)
    if "address" not in fields:
        node.fail(f"{what}: has no address", "write address: host:port")
    nets: list[Net] = []
    hosts: list[Host] = []
    for n, text in _each(fields, "address"):
        if protocol == "icmp" and _split(text)[1]:
            n.fail(f"{what}: `{text}`: icmp has no ports", f"write {_split(text)[0]}")
        found = _nets(n, what, text, resolve)
        nets += found
        hosts += _hosts(text, found)
    trust = _trust(fields["tls"], f"{what}: tls") if "tls" in fields else Trust()
    if protocol == "tls":
        trust = msgspec.structs.replace(trust, passes=True)  # what it is judged by stands before all is hidden
    mode = packets.mode(fields, what, protocol, trust)
    return Target(str(key.text), protocol, tuple(nets), key.where, trust, tuple(hosts), mode)


def _trust(node: Node, what: str) -> Trust:
    """Return how a server proves who it is."""
    if node.fields is None:
        document.choice(node, what, ("pass",))
        return Trust(passes=True)
    fields = document.mapping(node, what, ("ca", "name", "pin", "present", "pass"))
    if not fields:
        node.fail(f"{what}: is empty", "write ca:, name: or pin:, or leave `tls` out to trust what this host trusts")
    if "pin" in fields and fields.keys() & {"ca", "name"}:
        fields["pin"].fail(f"{what}: pin leaves nothing for ca and name to say", "write pin alone, or the others")
    passes = "pass" in fields and document.flag(fields["pass"], f"{what}: pass")
    if passes and fields.keys() & {"ca", "pin", "present"}:
        fields["pass"].fail(f"{what}: what is passed unread proves nothing to us", "write pass and name alone")
    paths = {key: document.string(fields[key], f"{what}: {key}") for key in ("ca", "present") if key in fields}
    for key, path in paths.items():
        if not path.startswith("/"):
            fields[key].fail(f"{what}: {key}: `{path}` is not a whole path", f"write /etc/vendorgate/{path}")
    name_ = document.string(fields["name"], f"{what}: name") if "name" in fields else ""
    if name_ and not HOST.fullmatch(name_):
        fields["name"].fail(f"{what}: name: `{name_}` is no name of a server", "write it as in db.internal")
    for n, text in _each(fields, "pin"):
        if not PIN.fullmatch(text):
            n.fail(f"{what}: pin: `{text[:70]}` is no SHA-256", "write 64 hexadecimal digits in small letters")
    pin = document.strings(fields["pin"], f"{what}: pin") if "pin" in fields else ()
    return Trust(name_.lower().rstrip("."), paths.get("ca", ""), pin, paths.get("present", ""), passes)


def inline(node: Node, rule: str, text: str) -> Target:
    """Return the place written as CIDR[:port] in `to`.

    Raises:
        ConfigError: it looks like a place and is none.
    """
    return Target(text, "", tuple(_nets(node, f"{rule}: to", text, None)), node.where)


def looks_like_a_place(text: str) -> bool:
    return "/" in text or ":" in text or text.replace(".", "").isdigit()


def _nets(node: Node, what: str, text: str, resolve: Resolve | None) -> list[Net]:
    host, ports = _split(text)
    low, high = _ports(node, what, text, ports)
    try:
        return [Net(_unmapped(ipaddress.ip_network(host)), low, high)]
    except ValueError as e:
        if "host bits" in str(e):
            wide = ipaddress.ip_network(host, strict=False)
            node.fail(f"{what}: `{host}` has bits set behind its prefix", f"did you mean {wide}?")
    if resolve is None or not HOST.fullmatch(host) or host.replace(".", "").isdigit():
        hint = "write 10.0.0.0/8:5432 or [fd00::1]:5432" + (", or name:port" if resolve else "")
        node.fail(f"{what}: `{text}` is not an address", hint)
    return [Net(_unmapped(ipaddress.ip_network(a)), low, high) for a in _resolved(node, what, host, resolve)]


def _hosts(text: str, nets: Sequence[Net]) -> list[Host]:
    """Return the host that was written by its name, if it was, found at these addresses."""
    host, _ = _split(text)
    if "/" in host or ":" in host or host.replace(".", "").isdigit():
        return []
    found = tuple(str(net.network.network_address) for net in nets)
    return [Host(host.lower().rstrip("."), nets[0].low, nets[0].high, not all(map(public, found)), found)]


def _resolved(node: Node, what: str, host: str, resolve: Resolve) -> Sequence[str]:
    hint = "check the name, or write the address itself"
    try:
        found = resolve(host)
        for address in found:
            ipaddress.ip_address(address)
    except (OSError, ValueError) as e:
        node.fail(f"{what}: name `{host}` does not resolve: {e}", hint)
    if not found:
        node.fail(f"{what}: name `{host}` does not resolve", hint)
    return found


def _split(text: str) -> tuple[str, str]:
    """Return the host or network and the ports as text; bare IPv6 has no ports."""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        return host, rest.removeprefix(":") if rest else ""
    if text.count(":") == 1:
        host, _, ports = text.partition(":")
        return host, ports or "-"
    return text, ""


def _ports(node: Node, what: str, text: str, ports: str) -> tuple[int, int]:
    if not ports:
        return 0, 65535
    low, _, high = ports.partition("-")
    high = high or low
    if not all(p.isascii() and p.isdigit() and 1 <= int(p) <= 65535 for p in (low, high) if len(p) < 6):
        node.fail(f"{what}: `{text}` has no port from 1 to 65535", "write it as in db.internal:5432")
    if max(len(low), len(high)) > 5 or int(low) > int(high):
        node.fail(f"{what}: `{text}` has no port from 1 to 65535", "write it as in db.internal:5432")
    return int(low), int(high)


def _unmapped(network: Network) -> Network:
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(MAPPED):
        v4 = int(network.network_address) & 0xFFFFFFFF
        return ipaddress.IPv4Network((v4, network.prefixlen - 96))
    return network
