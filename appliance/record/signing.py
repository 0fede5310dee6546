"""Ed25519 signatures (RFC 8032) over what the record says of itself. A context keeps a signature to its purpose."""

from hashlib import sha256

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from appliance.record.packed import Signed

KEY_BYTES = 32  # of a private or public key; RFC 8032, 5.1.5
SEAL = b"vendorgate seal 2\0"
CHECKPOINT = b"vendorgate checkpoint 1\0"


class Signer:
    """Holds the private key; its repr does not."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public = self._key.public_key().public_bytes_raw()
        self.name = key_name(self.public)

    def sign(self, context: bytes, value: msgspec.Struct) -> Signed:
        """Return the value as signed bytes."""
        body = msgspec.msgpack.encode(value)
        return Signed(body, self._key.sign(context + body))


def is_signed(public: bytes, context: bytes, signed: Signed) -> bool:
    """Tell whether the holder of the private key vouches for the bytes in this context."""
    return checks(public, context + signed.body, signed.signature)


def checks(public: bytes, data: bytes, signature: bytes) -> bool:
    """Tell whether the signature is that of the key over the data."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def key_name(public: bytes) -> str:
    """Return the short name of a key: the first 16 hex digits of its SHA-256."""
    return sha256(public).hexdigest()[:16]
