"""Every kind of chaos that was promised has its test, during live traffic."""

import ast
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROMISED = {
    "kill -9": "test_processes.py::test_killed",
    "kill -9 again and again": "test_processes.py::test_killed_again_and_again",
    "SIGSTOP": "test_processes.py::test_stopped",
    "OOM": "test_processes.py::test_out_of_memory",
    "disk full": "test_disk.py::test_disk_full",
    "nft flush ruleset": "test_firewall.py::test_flush_ruleset",
    "base-chain churn": "test_firewall.py::test_base_chain_churn",
    "cgroup recreated": "test_fence.py::test_cgroup_recreated",
    "upgrade under load": "test_fence.py::test_upgrade_under_load",
    "clock jump": "test_clock.py::test_clock_jump",
}


@pytest.mark.parametrize("kind", PROMISED)
def test_every_kind_has_its_test(kind: str) -> None:
    file, _, name = PROMISED[kind].partition("::")
    functions = {n.name: n for n in ast.walk(ast.parse((HERE / file).read_text())) if isinstance(n, ast.FunctionDef)}
    assert "live" in [argument.arg for argument in functions[name].args.args], "it is done to a storm"
