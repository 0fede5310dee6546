"""Fuzzing guided by coverage, without an end: `python -m tests.fuzz.harness NAME CORPUS_DIR`, by `corpus` and `run` of
NAME_input.py beside this.
"""

import importlib
import sys
from pathlib import Path

import atheris


def main() -> None:
    with atheris.instrument_imports(include=["appliance"]):
        given = importlib.import_module(f"tests.fuzz.{sys.argv.pop(1)}_input")
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(given.corpus()):
        (folder / f"from-corpus-{number}").write_bytes(data)
    atheris.Setup(sys.argv, given.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
