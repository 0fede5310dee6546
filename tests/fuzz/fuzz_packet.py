"""Fuzzing of packets, guided by coverage: `python -m tests.fuzz.fuzz_packet CORPUS_DIR` runs without an end."""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["appliance"]):
    from tests.fuzz.packet_input import corpus, run


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for number, data in enumerate(corpus()):
        (folder / f"packets-{number}").write_bytes(data)
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
