"""The journal: no name of a governed process makes a line of its own in it, or moves a cursor."""

import subprocess
import sys

SAYS = """
import logging
from appliance.service import journal
journal.begin("worker[7]")
log = logging.getLogger("x")
log.warning("incident: %s", "a\\nCRITICAL forged\\r\\x1b[2J\\u202e\\udc80")
try:
    raise ValueError("b\\nCRITICAL forged")
except ValueError:
    log.exception("c")
log.debug("not told")
"""


def test_names_make_no_lines_and_move_no_cursor() -> None:
    done = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=True)
    first, second, third, *rest = done.stderr.splitlines()
    assert first == "worker[7] WARNING incident: a"
    assert second.startswith("    CRITICAL forged\\")
    assert third == "worker[7] ERROR c"
    assert all(line.startswith("    ") for line in rest)
    assert done.stderr.replace("\n", "").isprintable()
