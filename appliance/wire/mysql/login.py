"""The handshake: the server's greeting, the client's answer, COM_CHANGE_USER.

Sources: MySQL 8.4 source documentation, "Connection Phase Packets"; MariaDB documentation, "Connection".

What the client gives of its password is in the middle of the packet that says who it is. The record needs the packet
(what follows cannot be read without it) but not the password, so that part is blanked out in what is shown.
"""

import msgspec

from appliance.model import Message, ProtocolError, Side
from appliance.wire.mysql import capabilities as caps
from appliance.wire.mysql import charsets
from appliance.wire.mysql.flow import Link
from appliance.wire.mysql.packets import Fields, packets

VERSION = 10
CLEAR_TEXT = "mysql_clear_password"
ANSWER_FIELDS = 32  # bytes of the fields of fixed length in the client's answer
CHARSET_AT = 8  # where the charset is, in it
EXTENDED_AT = 28  # where MariaDB has its 32 flags more, in it
MIN_NONCE = 13  # bytes of the second part of the nonce, its NUL included


class Offer(msgspec.Struct, frozen=True, gc=False):
    """What the greeting says."""

    version: str
    connection: bytes
    capabilities: int
    mariadb: bool
    plugin: str
    lower_at: int  # where in the payload the lower 16 flags are
    extended_at: int  # ... and MariaDB's 32 flags more


def read_offer(payload: bytes) -> Offer:
    """Read a greeting."""
    if payload[:1] != bytes((VERSION,)):
        raise ProtocolError(f"the server greets with version {payload[:1].hex()} of the protocol, not {VERSION}")
    fields = Fields(payload, 1)
    version = fields.until_nul().decode("ascii", "replace")
    connection = fields.take(4)
    fields.take(9)  # the first part of the nonce, and a NUL
    lower_at = fields.at
    offered = fields.number(2)
    if not fields.left:
        raise ProtocolError("the server is too old: it does not speak the protocol of 4.1")
    fields.take(3)
    offered |= fields.number(2) << 16
    nonce = fields.number(1)
    fields.take(6)
    extended_at = fields.at
    mariadb = not offered & caps.LONG_PASSWORD
    extended = fields.number(4)
    offered |= extended << 32 if mariadb else 0
    if not offered & caps.PROTOCOL_41:
        raise ProtocolError("the server is too old: it does not speak the protocol of 4.1")
    fields.take(min(max(MIN_NONCE, nonce - 8), fields.left))
    plugin = fields.until_nul().decode("ascii", "replace") if offered & caps.PLUGIN_AUTH else ""
    return Offer(version, connection, offered, mariadb, plugin, lower_at, extended_at)


def reduced(raw: bytes, offer: Offer) -> tuple[bytes, int]:
    """Return the greeting without what is not read here, and those flags."""
    gone = offer.capabilities & ~(caps.MARIADB_READ if offer.mariadb else caps.READ)
    if not gone:
        return raw, 0
    left, out = offer.capabilities & ~gone, bytearray(raw)
    at = 4 + offer.lower_at
    out[at : at + 2] = (left & 0xFFFF).to_bytes(2, "little")
    out[at + 5 : at + 7] = (left >> 16 & 0xFFFF).to_bytes(2, "little")
    if offer.mariadb:
        at = 4 + offer.extended_at
        out[at : at + 4] = (left >> 32).to_bytes(4, "little")
    return bytes(out), gone


def flags(link: Link, payload: bytes) -> int:
    """Return the flags of the client's answer, or of its request for TLS."""
    if len(payload) < ANSWER_FIELDS:
        raise ProtocolError(f"the client answers the greeting with {len(payload)} bytes")
    given = int.from_bytes(payload[:4], "little")
    if not given & caps.PROTOCOL_41:
        raise ProtocolError("the client does not speak the protocol of 4.1")
    if link.mariadb and not given & caps.LONG_PASSWORD:
        given |= int.from_bytes(payload[EXTENDED_AT:ANSWER_FIELDS], "little") << 32
    return given


def startup(link: Link, raw: bytes, payload: bytes) -> Message:
    """Read the client's answer to the greeting."""
    given = flags(link, payload)
    link.capabilities = agreed = given & link.offered
    link.charset_next = charset = charsets.of_client(payload[CHARSET_AT])
    link.algorithm = "zlib" if agreed & caps.COMPRESS else "zstd" if agreed & caps.ZSTD else ""
    fields = Fields(payload, ANSWER_FIELDS)
    user = charset.decode(fields.until_nul())
    if agreed & caps.PLUGIN_AUTH_LENENC:
        size = len(fields.string())
        secret = 4 + fields.at - size, size
    else:
        secret = _answer(link, fields)
    database = charset.decode(fields.until_nul()) if agreed & caps.CONNECT_WITH_DB else ""
    shown = Shown("startup", _blanked(raw, secret), user, database, payload[CHARSET_AT])
    return _message(link, shown, fields)


def change_user(link: Link, raw: bytes, payload: bytes) -> Message:
    """Read a COM_CHANGE_USER; `raw` is its packet, `payload` what is in it."""
    fields = Fields(payload, 1)
    user = fields.until_nul()
    secret = _answer(link, fields)
    database, collation = fields.until_nul(), 0
    if fields.left >= 2:
        collation = fields.number(2)
        link.charset_next = charsets.of_client(collation)
    decode = link.charset_next.decode
    blanked = _blanked(packets(payload, raw[3]), secret)
    return _message(link, Shown("change-user", blanked, decode(user), decode(database), collation), fields)


class Shown(msgspec.Struct, frozen=True, gc=False):
    """What is known of a login before its plugin and attributes are read."""

    kind: str
    raw: bytes  # without what it gives of the password
    user: str
    database: str
    collation: int


def _answer(link: Link, fields: Fields) -> tuple[int, int]:
    """Take what is given of the password, with a length of a byte or to a NUL; return place and size in the packet."""
    if link.capabilities & caps.SECURE_CONNECTION:
        size = len(fields.take(fields.number(1)))
        return 4 + fields.at - size, size
    at = 4 + fields.at
    return at, len(fields.until_nul())


def _blanked(raw: bytes, secret: tuple[int, int]) -> bytes:
    at, size = secret
    return raw[:at] + bytes(size) + raw[at + size :]


def _message(link: Link, shown: Shown, fields: Fields) -> Message:
    """Read the rest of a login."""
    plugin = fields.until_nul().decode("ascii", "replace") if link.capabilities & caps.PLUGIN_AUTH else ""
    if plugin == CLEAR_TEXT:
        refuse_clear_text(link)
    link.plugin = plugin or link.plugin
    lines = [
        f"charset={link.charset_next.name}",
        f"collation={shown.collation}",
        f"capabilities={caps.words(link.capabilities)}",
        f"plugin={plugin}",
    ]
    if link.capabilities & caps.CONNECT_ATTRS and fields.left:
        attributes = Fields(fields.string())
        while attributes.left:
            key, value = attributes.string(), attributes.string()
            text = f"attribute.{key.decode('utf-8', 'replace')}={value.decode('utf-8', 'replace')}"
            lines.append(text.replace("\n", " "))
    text = "\n".join(lines)
    return Message(Side.CLIENT, shown.kind, shown.raw, text=text, name=shown.user, status=shown.database)


def refuse_clear_text(link: Link) -> None:
    """Raise ProtocolError unless what the client says is encrypted."""
    if not link.encrypted:
        raise ProtocolError(f"{CLEAR_TEXT} outside TLS: a password in clear text is not passed on")
