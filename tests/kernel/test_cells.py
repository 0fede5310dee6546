"""Memory that processes have in common."""

import mmap
import os
import subprocess
import sys

import pytest

from appliance.kernel import cells

WRITES = "import sys; from appliance.kernel import cells; cells.opened(int(sys.argv[1]))[7] = 2**63"


def test_what_one_process_writes_another_reads() -> None:
    here = cells.opened(cells.memory())
    subprocess.run([sys.executable, "-c", WRITES, str(cells.memory())], pass_fds=[cells.memory()], check=True)
    assert (here[7], here[8], len(here)) == (2**63, 0, cells.CELLS)


def test_nobody_makes_it_smaller() -> None:
    for size in (0, 2 * cells.CELL * cells.CELLS):
        with pytest.raises(PermissionError):
            os.ftruncate(cells.memory(), size)
    with mmap.mmap(cells.memory(), 0) as whole:
        assert len(whole) == cells.CELL * cells.CELLS
