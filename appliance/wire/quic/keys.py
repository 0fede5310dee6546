"""Opening the first packets of QUIC, whose keys anybody can work out.

Source: RFC 9001 sections 5.2 to 5.4 and appendix A (version 1); RFC 9369 sections 3.2 and 3.3 (version 2).
"""

import hashlib
import hmac

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

V1, V2 = 1, 0x6B3343CF
SALTS = {
    V1: bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a"),
    V2: bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9"),
}
LABELS = {V1: b"quic ", V2: b"quicv2 "}
INITIAL = {V1: 0, V2: 1}  # the type of an Initial packet, in bits 5 and 4 of its first byte
SAMPLE = 16  # bytes; RFC 9001 section 5.4.3


class Keys(msgspec.Struct, frozen=True):
    """Of the client's Initial packets of one connection."""

    key: bytes
    iv: bytes
    head: bytes  # for the protection of headers


def keys(version: int, connection: bytes, side: bytes = b"client in") -> Keys:
    """Return the keys that follow from the connection id the client chose for the server."""
    first = hmac.new(SALTS[version], connection, hashlib.sha256).digest()
    secret = _expand(first, side, 32)
    label = LABELS[version]
    key, iv, head = (_expand(secret, label + name, size) for name, size in ((b"key", 16), (b"iv", 12), (b"hp", 16)))
    return Keys(key, iv, head)


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of RFC 8446 section 7.1, for at most 32 bytes."""
    name = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes((len(name),)) + name + b"\0"
    return hmac.new(secret, info + b"\1", hashlib.sha256).digest()[:size]


def opened(keys: Keys, packet: bytes, at: int, expected: int = 0) -> tuple[int, bytes] | None:
    """Return the number and the frames of a packet whose number begins at `at`; None if the keys are not its own.

    `expected` is the number that would follow those seen, to complete what is sent of it.
    """
    sample = packet[at + 4 : at + 4 + SAMPLE]
    if len(sample) < SAMPLE:
        return None
    encryptor = Cipher(algorithms.AES(keys.head), modes.ECB()).encryptor()
    mask = encryptor.update(sample) + encryptor.finalize()
    head = packet[0] ^ (mask[0] & 0x0F)
    size = (head & 3) + 1
    sent = bytes(a ^ b for a, b in zip(packet[at : at + size], mask[1:], strict=False))
    number = _whole(int.from_bytes(sent, "big"), 8 * size, expected)
    nonce = bytes(a ^ b for a, b in zip(keys.iv, number.to_bytes(12, "big"), strict=True))
    associated = bytes((head,)) + packet[1:at] + sent
    try:
        return number, AESGCM(keys.key).decrypt(nonce, packet[at + size :], associated)
    except InvalidTag:
        return None


def _whole(sent: int, bits: int, expected: int) -> int:
    """Complete a packet's number; RFC 9000 appendix A.3."""
    window = 1 << bits
    number = (expected & ~(window - 1)) | sent
    if number <= expected - window // 2 and number < (1 << 62) - window:
        return number + window
    return number - window if number > expected + window // 2 and number >= window else number
