"""What the service keeps on disk: the records (written by workers), their proof, the index over them, and keys.

    state_dir/            root's, 0700
        records/          segments: root's directory
        begun/            a directory for each worker, where it begins them (record/begun.py)
        proof/            checkpoints and the public key (record/checkpoint.py)
        keys/record.key   what signs them (keys.py)
        catalog.sqlite    what is in each sealed segment, for retention; made again when it is lost
        index.sqlite      made from the records, and made again when it is lost
        rules/REVISION/   the files of each revision that was in force, for readers of the record
        authority.pem     certifies servers' names to clients; its key is keys/authority.key (authority.py)
        mask.key          hashes of masked values are those of this install alone
        approvals.jsonl   who answered (questions.py)
        asked.jsonl       what was asked, and ended without an answer
"""

import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from appliance.model import HostError
from appliance.policy import Policy
from appliance.record.begun import Begun
from appliance.service.authority import Authority
from appliance.service.launch import User
from appliance.service.rulebook import KEPT, Files, keep

log = logging.getLogger("vendorgate.hub")

KEY_BYTES = 32  # of a keyed hash of 256 bits


class Stores:
    """The directory of state, made fit for use."""

    def __init__(
        self, state_dir: Path, who: User, names: tuple[str, ...] = (), tell: Callable[[str], object] = log.error
    ) -> None:
        """Make what is missing. `names` are what the authority is for; none: all. `tell` gets what workers are refused.

        Raises:
            HostError: it cannot be used.
        """
        self._state_dir, self._who = state_dir, who
        self.records, self.index = state_dir / "records", state_dir / "index.sqlite"
        try:
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.key = _key(state_dir / "mask.key")
            self.records.mkdir(mode=0o700, exist_ok=True)
            os.chown(self.records, os.geteuid(), os.getegid(), follow_symlinks=False)
            self.records.chmod(0o700)
            if self.records.stat().st_dev != state_dir.stat().st_dev:
                hint = "mount state_dir as a whole: segments are begun elsewhere in it, and moved there"
                raise HostError(f"{self.records}: a file system of its own", hint)
            self._begun = Begun(self.records, tell)
            self._begun.take()
        except OSError as error:
            hint = "can the service write state_dir?"
            raise HostError(f"state_dir {state_dir}: {error.strerror}", hint) from error
        self.authority = Authority(state_dir, names)

    def place(self, worker: str) -> int:
        """Return a descriptor of the directory in which a worker that is about to start begins its segments.

        Raises:
            HostError: there is none.
        """
        try:
            return self._begun.place(worker, self._who.uid, self._who.gid)
        except OSError as error:
            raise HostError(f"a directory for {worker} below {self._state_dir}: {error.strerror}") from error

    def take(self) -> None:
        """Take into the record what workers began: before it is read, or sealed.

        Raises:
            OSError: something could not be taken.
        """
        self._begun.take()

    def kept(self, policy: Policy, files: Files) -> Policy:
        """Keep the files of rules that are about to be in force; return the rules.

        They do not fail for that: the record tells their revision.
        """
        try:
            keep(self._state_dir / KEPT, policy.revision, files)
        except OSError as error:
            log.error("rules of revision %s are not kept for readers of the record: %s", policy.revision, error)
        return policy

    def close(self) -> None:
        self._begun.close()


def _key(path: Path) -> bytes:
    """Return the key, made at the first start."""
    try:
        key = path.read_bytes()
    except FileNotFoundError:
        key = b""
    if len(key) != KEY_BYTES:
        key = secrets.token_bytes(KEY_BYTES)
        new = path.with_suffix(".new")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(fd)
        new.rename(path)
    return key
