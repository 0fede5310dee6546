"""A process that became bare holds nothing and can gain nothing."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.kernel

PROBE = """
import json, os, sys
from pathlib import Path
from appliance.service import bare
bare.become(65534, 65534)
status = dict(line.partition(":")[::2] for line in Path("/proc/self/status").read_text().splitlines())
try:
    os.setresuid(0, 0, 0)
    back = True
except PermissionError:
    back = False
print(json.dumps({"back": back, **{k: v.split() for k, v in status.items()}}))
"""


def test_every_privilege_is_gone() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    status = json.loads(done.stdout)
    assert status["back"] is False
    assert set(status["Uid"]) == set(status["Gid"]) == {"65534"}
    assert status["Groups"] == []
    assert status["NoNewPrivs"] == ["1"]
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name][0], 16) == 0, name


def test_setuid_programs_give_nothing_back() -> None:
    probe = "import subprocess, sys; from appliance.service import bare; bare.become(65534, 65534); "
    probe += "print(subprocess.run(['su', '-c', 'id -u'], capture_output=True, input=b'').returncode)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() != "0"


def test_what_is_left_is_an_error() -> None:
    probe = "from appliance.service import bare; bare._libc.prctl = lambda *a: 0; bare.become(65534, 65534)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.returncode == 1
    assert "NoNewPrivs 0" in done.stderr
