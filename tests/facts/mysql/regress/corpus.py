"""Statements of MariaDB's own test suite, fetched when a test asks for them and kept outside the project.

They come as the Debian package mariadb-test-data, from wherever this host gets its packages. Nothing of them is kept in
the project.
"""

import io
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "mariadb-test-data"
FOLDER = "/mysql-test/main/"
WORDS = ["alter", "analyze", "begin", "call", "change", "check", "checksum", "commit", "create", "deallocate", "delete", "desc", "describe", "do", "drop", "execute", "explain", "flush", "grant", "handler", "help", "insert", "kill", "load", "lock", "optimize", "prepare", "purge", "rename", "repair", "replace", "reset", "revoke", "rollback", "savepoint", "select", "set", "show", "signal", "start", "stop", "table", "truncate", "unlock", "update", "use", "values", "with", "xa"]


class Unavailable(Exception):
    """The corpus cannot be had on this host; the message says why."""


def cache() -> Path:
    """Return the folder the corpus is kept in."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()) / f"vendorgate-tests-{os.geteuid()}"
    return Path(base) / PACKAGE


def files() -> Iterator[tuple[str, str]]:
    """Yield name and text of each script.

    Raises:
        Unavailable: it is not kept yet and cannot be fetched.
    """
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob("*.deb")) or _fetch(folder)
    done = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(found[-1])], capture_output=True, check=False, timeout=200)
    if done.returncode:
        raise Unavailable(f"dpkg-deb failed: {done.stderr.decode()[-300:]}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        for member in archive:
            if FOLDER in member.name and member.name.endswith(".test"):
                file = archive.extractfile(member)
                if file is not None:
                    yield Path(member.name).stem, file.read().decode("utf-8", "replace")


def _fetch(folder: Path) -> list[Path]:
    words = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", PACKAGE]
    for before in ([], ["apt-get", "-q", "update"]):
        if before:
            subprocess.run(before, cwd=folder, capture_output=True, check=False, timeout=200)
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
        if not done.returncode:
            return sorted(folder.glob("*.deb"))
    raise Unavailable(f"{PACKAGE} cannot be fetched: {done.stderr.strip()[-300:]}")


def statements(text: str) -> Iterator[str]:
    """Yield the statements of a script of mysqltest, without its own commands."""
    delimiter, kept = ";", ""
    for line in text.splitlines():
        start = line.strip()
        if not kept.strip():
            kept = ""
            if not start or start.startswith(("#", "--")):
                continue
        changed = re.match(r"\s*(?:--)?delimiter\s+(\S+?)\s*;*$", line, re.I)
        if changed and not kept:
            delimiter = changed.group(1)
            continue
        kept += line + "\n"
        if start.endswith(delimiter):
            statement = kept.strip().removesuffix(delimiter).strip()
            kept = ""
            first = re.match(r"[(\s]*([a-z]+)", statement, re.I)
            if first and first.group(1).lower() in WORDS and "$" not in statement:
                yield statement
