"""PostgreSQL's own regression statements, fetched when a test asks for them and kept outside the project.

They come as Debian's source package, from wherever this host gets its packages: its own sources are read, with source
packages enabled in a copy. Nothing of them is kept in the project.
"""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "postgresql-15"
FOLDER = "/src/test/regress/sql/"


class Unavailable(Exception):
    """The corpus cannot be had on this host; the message says why."""


def cache() -> Path:
    """Return the folder the corpus is kept in."""
    base = os.environ.get("XDG_CACHE_HOME") or Path(tempfile.gettempdir()) / f"vendorgate-tests-{os.geteuid()}"
    return Path(base) / PACKAGE


def files() -> list[tuple[str, str]]:
    """Return name and text of each file of statements.

    Raises:
        Unavailable: it is not kept yet and cannot be fetched.
    """
    folder = cache()
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(folder.glob("*.orig.tar.*")) or _fetch(folder)
    texts = []
    with tarfile.open(found[-1]) as archive:
        for member in archive:
            if FOLDER in f"/{member.name}" and member.name.endswith(".sql"):
                file = archive.extractfile(member)
                if file is not None:
                    texts.append((Path(member.name).stem, file.read().decode(errors="replace")))
    if not texts:
        raise Unavailable(f"no statements in {found[-1].name}")
    return sorted(texts)


def _fetch(folder: Path) -> list[Path]:
    parts = folder / "parts"
    for name in ("parts", "lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for source in (Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")):
        if source.suffix == ".sources":
            text = source.read_text().replace("Types: deb\n", "Types: deb-src\n")
        elif source.suffix == ".list":
            lines = source.read_text().splitlines() if source.exists() else []
            text = "".join(f"deb-src {line[4:]}\n" for line in lines if line.startswith("deb "))
        else:
            continue
        (parts / source.name).write_text(text)
    options = ["Dir::Etc::sourcelist=/dev/null", f"Dir::Etc::sourceparts={parts}", f"Dir::State::lists={folder}/lists"]
    options += [f"Dir::Cache={folder}", "APT::Sandbox::User=root"]
    words = [word for option in options for word in ("-o", option)]
    _run(["apt-get", *words, "-q", "update"], folder)
    shown = _run(["apt-cache", *words, "showsrc", PACKAGE], folder)
    versions = [line.split()[1] for line in shown.splitlines() if line.startswith("Version:")]
    for version in versions:
        try:
            _run(["apt-get", *words, "-q", "source", "--download-only", f"{PACKAGE}={version}"], folder)
        except Unavailable:
            continue  # listed, but not there
        return sorted(folder.glob("*.orig.tar.*"))
    raise Unavailable(f"none of the versions {versions} of {PACKAGE} could be fetched")


def _run(words: list[str], folder: Path) -> str:
    try:
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=200)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(str(error)) from None
    if done.returncode:
        raise Unavailable(f"{words[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout


def split(text: str) -> Iterator[str]:
    """Yield the statements of a psql script as psql sends them, without its own commands and the data of COPY."""
    at = start = depth = atomic = 0
    while at < len(text):
        step, kind = _token(text, at)
        if kind == "meta":
            # a command of psql; those that begin with \g, \bind, \watch, \crosstabview, \gexec, \gset send what is before
            line = text[at : at + step]
            before = text[start:at]
            if line.startswith(("\\g", "\\crosstabview", "\\watch")) and before.strip():
                yield before
            elif before.strip():
                at, text = start, text[:at] + text[at + step :]
                at = len(before) + start
                continue
            start = at + step
        elif kind == "word":
            word = text[at : at + step].lower()
            created = text[start:at].lstrip().lower().startswith("create")
            if created and (word == "begin" or (atomic and word == "case")):
                atomic += 1
            elif atomic and word == "end":
                atomic -= 1
        elif kind in "()":
            depth += 1 if kind == "(" else -1
        elif kind == ";" and depth <= 0 and not atomic:
            statement = text[start : at + 1]
            yield statement
            depth, start = 0, at + 1
            if _reads_data(statement):
                end = text.find("\n\\.\n", at)
                step = (end + 4 if end >= 0 else len(text)) - at
                start = at + step
        at += step
    if text[start:].strip():
        yield text[start:]


def _reads_data(statement: str) -> bool:
    words = statement.lower().split()
    return bool(words) and "copy" in words[:1] + words[1:2] and "from" in words and any(w.startswith("stdin") for w in words)


def _token(text: str, at: int) -> tuple[int, str]:
    """Return length and kind of what stands at `at`."""
    char = text[at]
    if char == "'":
        escapes = at > 0 and text[at - 1] in "eE" and (at < 2 or not (text[at - 2].isalnum() or text[at - 2] == "_"))
        return _quoted(text, at, "'", escapes) - at, "string"
    if char == '"':
        return _quoted(text, at, '"', False) - at, "string"
    if text.startswith("--", at):
        end = text.find("\n", at)
        return (end if end >= 0 else len(text)) - at, "comment"
    if text.startswith("/*", at):
        return _comment(text, at) - at, "comment"
    if char == "$":
        end = text.find("$", at + 1)
        tag = text[at : end + 1]
        if end > 0 and all(c.isalnum() or c == "_" for c in tag[1:-1]) and not tag[1:2].isdigit():
            close = text.find(tag, end + 1)
            return (close + len(tag) if close >= 0 else len(text)) - at, "string"
        return 1, "other"
    if char == "\\":
        end = text.find("\n", at)
        return (end if end >= 0 else len(text)) - at, "meta"
    if char.isalpha() or char == "_":
        end = at
        while end < len(text) and (text[end].isalnum() or text[end] in "_$"):
            end += 1
        if text[end : end + 1] == "'" and text[at:end].lower() == "e":
            return _quoted(text, end, "'", True) - at, "string"
        return end - at, "word"
    return 1, char if char in "();" else "other"


def _quoted(text: str, at: int, quote: str, escapes: bool) -> int:
    at += 1
    while at < len(text):
        if escapes and text[at] == "\\":
            at += 2
        elif text[at] == quote:
            if text[at + 1 : at + 2] != quote:
                return at + 1
            at += 2
        else:
            at += 1
    return at


def _comment(text: str, at: int) -> int:
    depth = 0
    while at < len(text):
        if text.startswith("/*", at):
            depth, at = depth + 1, at + 2
        elif text.startswith("*/", at):
            depth, at = depth - 1, at + 2
            if not depth:
                return at
        else:
            at += 1
    return at
