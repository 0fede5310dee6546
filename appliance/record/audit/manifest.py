"""The manifest of an export: every file that is listed is there as it was, and there is no other."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from appliance.record.audit.primitives import Tools
from appliance.record.audit.stream import Bad, regular

BUNDLE = b"vendorgate bundle 1\0"  # context of the signature
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
OWN = (MANIFEST, SIGNATURE)  # what is not listed
PART = 1 << 20  # bytes read at a time


class Manifest:
    """Of one directory. Falsy where there is none."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, Any] = {}
        self.path = root / MANIFEST

    def __bool__(self) -> bool:
        return self.path.exists()

    @property
    def redacted(self) -> bool:
        """Things were taken out, so there is no proof in it."""
        return bool(self._found.get("about", {}).get("redact"))

    def faults(self, key: bytes, tools: Tools) -> Iterator[tuple[str, Bad]]:
        """Yield the files that are not as the manifest says, or the manifest if it is not what was signed."""
        path = self.path
        try:
            for own in (path, self._root / SIGNATURE):
                if not regular(own):
                    yield str(own), Bad(0, "it is no file")
                    return
            data = path.read_bytes()
            signed = tools.unpack((self._root / SIGNATURE).read_bytes())
            body, signature = signed["body"], signed["signature"]
            vouched = tools.unpack(body)["sha256"]
            self._found = json.loads(data)
            listed = {one["name"]: one for one in self._found["files"]}
        except FileNotFoundError:
            yield str(path), Bad(0, "the signature of the manifest is missing")
            return
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            yield str(path), Bad(0, f"not a manifest with its signature: {error!r}")
            return
        if not tools.signed(key, BUNDLE + body, signature):
            yield str(path), Bad(0, "the manifest is not signed by this key")
        elif hashlib.sha256(data).digest() != vouched:
            yield str(path), Bad(0, "the manifest is not what was signed")
        for name, one in sorted(listed.items()):
            what = self._differs(name, one)
            if what:
                yield str(self._root / name), Bad(0, what)
        for name in sorted(self._names() - listed.keys()):
            yield str(self._root / name), Bad(0, "the manifest does not list this file")

    def _differs(self, name: str, one: dict[str, Any]) -> str:
        if name.startswith("/") or ".." in name.split("/"):
            return "no name for a file in an export"
        digest, size = hashlib.sha256(), 0
        try:
            if not regular(self._root / name):
                return "it is no file"
            with (self._root / name).open("rb") as file:
                while part := file.read(PART):
                    digest.update(part)
                    size += len(part)
        except FileNotFoundError:
            return "the file is missing"
        if size != one.get("size"):
            return f"the file has {size} bytes, and the manifest says {one.get('size')}"
        return "" if digest.hexdigest() == one.get("sha256") else "the file is not what the manifest says"

    def _names(self) -> set[str]:
        """Return all there is but directories; a link to one is no directory, what is behind it would not be seen."""
        found = set()
        for directory, folders, names in os.walk(self._root):
            links = [name for name in folders if (Path(directory) / name).is_symlink()]
            found |= {str((Path(directory) / name).relative_to(self._root)) for name in (*names, *links)}
        return found.difference(OWN)
