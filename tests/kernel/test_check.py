"""The preflight: fine here, and what it says where something is missing."""

import socket
import subprocess
from pathlib import Path

import msgspec
import pytest

from appliance.kernel import check, fence, libbpf, load, nft, pins
from appliance.kernel.check import Finding, preflight
from appliance.kernel.fence import Place
from appliance.kernel.libbpf import Object
from appliance.lab.hosts import Lab
from appliance.model import HostError
from tests.kernel.stage import Inside

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def inside(lab: Lab) -> Inside:
    return Inside(lab.host)


def of(findings: list[Finding], name: str) -> Finding:
    [finding] = [f for f in findings if f.name == name]
    return finding


def test_this_host_can(lab: Lab, inside: Inside) -> None:
    found = inside(preflight, lab.place())
    extras = [part.name for part in load.EXTRAS]
    assert [f for f in found if not f.ok and f.name not in extras] == []
    assert [f.name for f in found] == [
        "rights", "cgroup", "btf", "libbpf", "bpf-fs", "lineage", "fence", *extras, "lookup", "redirect", "queue", "firewalls", "port",
    ]  # fmt: skip


def test_check_and_the_fence_agree_on_what_the_kernel_does_not_take(lab: Lab, inside: Inside) -> None:
    place = msgspec.structs.replace(lab.place(), slice=f"{lab.slice}/checked.slice")
    inside(fence.up, place).close()
    lacking = inside(fence.status, place).lacking
    fence.down(place)
    found = [f for f in inside(preflight, place) if f.name in {part.name for part in load.EXTRAS}]
    assert tuple(f.promise for f in found if not f.ok) == lacking
    assert all(f.remedy for f in found if not f.ok)


@pytest.mark.parametrize("part", load.EXTRAS, ids=lambda part: part.name)
def test_each_part_names_what_is_lost_without_it(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, part: load.Part) -> None:
    objects = load.object_directory()
    for other in load.PARTS:
        (tmp_path / other.file).write_bytes(b"" if other in (part, load.EXTRAS[-2]) else (objects / other.file).read_bytes())
    monkeypatch.setattr(load, "OBJECTS", (tmp_path,))
    finding = of(preflight(lab.place()), part.name)
    assert not finding.ok and finding.promise == part.promise and finding.remedy == part.remedy


def test_a_cgroup_root_that_is_none(lab: Lab, inside: Inside, tmp_path: Path) -> None:
    finding = of(inside(preflight, Place(tmp_path)), "cgroup")
    assert not finding.ok and "no mount" in finding.what and finding.remedy and finding.promise


def test_a_port_in_use_unless_it_is_ours(lab: Lab, inside: Inside) -> None:
    with inside(socket.create_server, ("127.0.0.1", 0)) as server:
        place = lab.place(server.getsockname()[1])
        finding = of(inside(preflight, place), "port")
        assert not finding.ok and "in use" in finding.what
        assert all(f.name != "port" for f in inside(preflight, place, True))


def test_a_firewall_that_drops(lab: Lab, inside: Inside) -> None:
    inside(nft.apply, "table inet strict {\n chain out {\n type filter hook output priority 0; policy drop;\n }\n}\n")
    finding = of(inside(preflight, lab.place()), "firewalls")
    inside(nft.apply, "delete table inet strict\n")
    assert not finding.ok and "inet strict out" in finding.what


def test_objects_that_were_not_built(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(load, "OBJECTS", (tmp_path, tmp_path))
    found = preflight(lab.place())
    assert "no lineage.bpf.o" in of(found, "fence").what and of(found, "fence").remedy == "make bpf"


def test_no_libbpf(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise HostError("libbpf cannot be used", "install it")

    monkeypatch.setattr(libbpf, "library", absent)
    assert of(preflight(lab.place()), "libbpf").remedy == "install it"


def test_no_btf(lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(check, "BTF", tmp_path / "vmlinux")
    assert not of(preflight(lab.place()), "btf").ok


def test_an_object_that_is_none_says_what_libbpf_said(tmp_path: Path) -> None:
    (tmp_path / "x.bpf.o").write_bytes(b"not ELF")
    with pytest.raises(HostError, match=r"open .*x\.bpf\.o"):
        Object(tmp_path / "x.bpf.o")


def test_a_place_for_pins_that_has_no_bpf_file_system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pins, "PLACES", (tmp_path / "none", tmp_path / "second"))
    assert pins.file_system(mount=False) is None and pins.directory("x") is None
    made = pins.file_system()
    try:
        assert made == tmp_path / "none" and pins.mounted(made) and pins.file_system(mount=False) == made
    finally:
        subprocess.run(["umount", str(made)], check=True)


def test_names_of_instances_do_not_meet() -> None:
    names = [Place(slice=s).instance for s in ("a.slice", "a_dslice", "a/slice", "a_sslice", "a_.slice", "a__slice")]
    assert len(set(names)) == len(names) and not any("." in n or "/" in n for n in names)


HALF = '{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "gone"}}, '
DROPS = '{"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c", "hook": "input", "policy": "drop"}}]}'


@pytest.mark.parametrize(("halves", "found"), [(check.LOOKS - 1, ["ip t c"]), (check.LOOKS, None)])
def test_looks_bounds_how_often_chains_are_listed_that_change_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, halves: int, found: list[str] | None
) -> None:
    """A start right after a kill met what nft prints while the table of who was killed goes."""
    (tmp_path / "nft").write_text(
        f"#!/bin/sh\necho >>{tmp_path}/told\n"
        f"[ $(wc -l <{tmp_path}/told) -le {halves} ] && echo '{HALF}' || echo '{DROPS}'\n"
    )
    (tmp_path / "nft").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    if found is not None:
        assert check.firewalls() == found
        return
    with pytest.raises(HostError, match="no whole JSON"):
        check.firewalls()
