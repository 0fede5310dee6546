"""The private key of seals and checkpoints: `state_dir/keys/record.key`, made at the first start, root's alone.

Workers never see it. Who has it can rewrite the record, so its worth ends where that of root begins: anchors
outside are for that (record/anchor.py).
"""

import os
import secrets
from pathlib import Path

from appliance.model import HostError
from appliance.record.disk import sync_names
from appliance.record.signing import KEY_BYTES, Signer

KEYS, RECORD_KEY = "keys", "record.key"  # in state_dir


def signer(state_dir: Path) -> Signer:
    """Return what signs, with the key on disk or a new one.

    Raises:
        HostError: the key is there and is none, or others may read it.
    """
    path = state_dir / KEYS / RECORD_KEY
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not path.exists():
            _make(path)
        status, secret = path.stat(), path.read_bytes()
    except OSError as error:
        raise HostError(f"{path}: {error.strerror}", "can the service write state_dir?") from error
    if status.st_mode & 0o077:
        raise HostError(f"{path} may be read by others (mode {status.st_mode & 0o777:o})", f"chmod 600 {path}")
    if len(secret) != KEY_BYTES:
        raise HostError(f"{path} is no key: {len(secret)} bytes, not {KEY_BYTES}", "bring it back from a backup")
    return Signer(secret)


def _make(path: Path) -> None:
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:
        file.write(secrets.token_bytes(KEY_BYTES))
        file.flush()
        os.fsync(fd)
    new.rename(path)
    sync_names(path.parent)
