"""The modules on the path of every message, compiled to machine code where that was asked for (`make fast`).

What is compiled lies here, beside a list of the sources it was made of. It is used only while each of those sources is
byte for byte what it was then, and by this Python; else, and with VENDORGATE_PLAIN set, all of them run as they are
written. Both are one program: the tests run both. How it is made is in __main__.py.
"""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
LIST = "made-of"  # in the folder: a line for each source, of its SHA-256 and the name of its module
PLAIN = "VENDORGATE_PLAIN"


class Finder(MetaPathFinder):
    """Finds compiled modules by name."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = self.files.get(fullname)
        if file is None:
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, str(file)))


def source(module: str) -> Path:
    """Return where a module of ours is written."""
    return HERE.parent.parent / (module.replace(".", "/") + ".py")


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def usable(folder: Path = HERE) -> dict[str, Path]:
    """Return the compiled modules and what they share, by name; none if a source is another than it was."""
    try:
        made_of = {module: was for was, module in map(str.split, (folder / LIST).read_text().splitlines())}
        if any(digest(source(module)) != was for module, was in made_of.items()):
            return {}
    except OSError:
        return {}
    suffix = EXTENSION_SUFFIXES[0]  # names this Python, its version and the machine
    found = {file.name.removesuffix(suffix): file for file in folder.glob(f"*{suffix}")}
    return found if made_of and made_of.keys() <= found.keys() else {}


def in_use() -> bool:
    """Return True if this process runs the compiled modules."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


def settle() -> None:
    """Have the imports that follow find compiled modules, if there are usable ones."""
    files = {} if os.environ.get(PLAIN) else usable()
    if files:
        sys.meta_path.insert(0, Finder(files))
