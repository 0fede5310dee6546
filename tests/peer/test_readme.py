"""The first five minutes: the two commands of README.md, as they stand there."""

import os
import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
ROOT = Path(__file__).parents[2]
STEPS = 7  # of the demo


def commands() -> list[str]:
    """Return the commands of the section, without sudo and what is said beside them."""
    section = (ROOT / "README.md").read_text().partition("\n## Try it\n")[2].partition("\n## ")[0]
    block = section.split("```")[1]
    return [line.partition("#")[0].removeprefix("sudo ").strip() for line in block.strip().splitlines()]


def test_they_are_two_and_the_second_is_what_ci_runs() -> None:
    demo, test = commands()
    assert demo == "make demo"
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == f"exec {test}"


def test_the_first_one_shows_what_it_says(tmp_path: Path) -> None:
    words = commands()[0].split()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "PYTEST"))}
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = re.findall(r"^(\d)\. ", done.stdout, re.MULTILINE)
    assert shown == [str(number) for number in range(1, STEPS + 1)]
    for word in ("*******6789", "denied by vendorgate", "holds this statement", "NOPERM", "Connection refused", "PGSQL"):
        assert word in done.stdout, word
    for forbidden in ("123-45-6789", "Traceback"):
        assert forbidden not in done.stdout + done.stderr
    (ROOT / "vendorgate-demo.pcapng").unlink(missing_ok=True)
