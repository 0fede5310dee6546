"""`vendorgate adopt` and `release`: what is written, shown and asked; that all of it is undone; what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.cli import agents, main
from appliance.cli.trust import ALONE, BUNDLE
from appliance.model import ConfigError, HostError
from appliance.service import folders
from appliance.service.adoption import KEPT, MAX_FILE, Adoption, File, Keeper

ROOT = Path(__file__).parents[2]
Captured = pytest.CaptureFixture[str]
UNITS = {
    "acme.service": "[Service]\nExecStart=/opt/acme/agent\nUser=acme\n",
    "rooted.service": "[Service]\nExecStart=/opt/acme/agent\n",
    "second.service": "[Service]\nExecStart=/opt/acme/second\nUser=acme\n",
    "worker@.service": "[Service]\nExecStart=/opt/acme/worker %i\nDynamicUser=yes\n",
    "dbus.service": "[Service]\nExecStart=/usr/bin/dbus-daemon\n",
}
DROP_IN = "etc/systemd/system/{}.d/vendorgate.conf"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A host as files."""
    root = tmp_path / "root"
    units = root / "usr/lib/systemd/system"
    units.mkdir(parents=True)
    for name, text in UNITS.items():
        (units / name).write_text(text)
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nacme:x:4711:4711::/var/lib/acme:/bin/sh\n")
    return root


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    config = tmp_path / "vendorgate.yaml"
    config.write_text(f"state_dir: {tmp_path}/state\n")
    return ["--config", str(config)]


def everything(root: Path) -> dict[str, object]:
    """Return all there is below a directory: text, rights, owner."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        at = path.stat()
        text = path.read_text() if path.is_file() else None
        found[str(path.relative_to(root))] = (text, at.st_mode, at.st_uid, at.st_gid)
    return found


def trusted(root: Path) -> None:
    for path in (BUNDLE, ALONE):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("certificates\n")


def adopt(words: list[str], root: Path, *more: str) -> int:
    return main([*words, "adopt", *more, "--root", str(root)])


def release(words: list[str], root: Path, *more: str) -> int:
    return main([*words, "release", *more, "--root", str(root)])


# -- a unit ------------------------------------------------------------------------------------------------------------


def test_a_unit_gets_the_drop_in_that_ships(words: list[str], root: Path) -> None:
    assert adopt(words, root, "acme.service", "--yes") == 0
    text = (root / DROP_IN.format("acme.service")).read_text()
    shipped = (ROOT / "systemd/vendor-agent.conf").read_text().splitlines()[2:]
    assert text.splitlines()[1:] == shipped
    for line in ("Slice=vendor.slice", "CapabilityBoundingSet=", "RestrictNamespaces=yes", "NoNewPrivileges=yes"):
        assert line in text.splitlines()
    assert not (root / "etc/systemd/system/acme.service.d/vendorgate-trust.conf").exists()  # nothing to trust so far


def test_the_difference_is_shown_and_the_question_asked(words: list[str], root: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    before = everything(root)
    for answer, status, last in (("n\n", 1, "nothing was changed\n"), ("", 2, "--yes: is missing, and nobody answers\nhint: say --yes, or run it on a terminal\n")):
        done = subprocess.run([sys.executable, "-m", "appliance.cli", *words, "adopt", "acme", "--root", str(root)], input=answer, capture_output=True, text=True)
        assert done.returncode == status
        assert done.stdout.startswith(f"--- /dev/null\n+++ /{DROP_IN.format('acme.service')}\n@@ ")
        assert "\n+Slice=vendor.slice\n" in done.stdout
        assert "Put acme.service into vendor.slice? [y/N]:" in done.stdout
        assert done.stderr.endswith(last)
        assert everything(root) == before
    done = subprocess.run([sys.executable, "-m", "appliance.cli", *words, "adopt", "acme", "--root", str(root)], input="y\n", capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.endswith("acme.service is adopted; undone by: vendorgate release acme.service\n")
    assert (root / DROP_IN.format("acme.service")).exists()


def test_undone_is_as_it_was_to_the_bit(words: list[str], root: Path, capsys: Captured) -> None:
    trusted(root)
    mine = root / DROP_IN.format("acme.service")
    mine.parent.mkdir(parents=True)
    mine.write_text("[Service]\n# of the administrator\nNice=5\n")
    mine.chmod(0o640)
    os.chown(mine, 65534, 65534)
    before = everything(root)
    assert adopt(words, root, "acme.service", "--yes") == 0
    out = capsys.readouterr().out
    assert "\n-Nice=5\n" in out
    assert "Environment=SSL_CERT_FILE=/etc/vendorgate/trust/bundle.pem" in (mine.parent / "vendorgate-trust.conf").read_text()
    assert mine.stat().st_mode & 0o777 == 0o640
    assert adopt(words, root, "acme.service", "--as", "acme", "--yes") == 0  # twice: what was there first is what comes back
    assert "\nUser=acme\n" in mine.read_text()
    assert release(words, root, "acme.service", "--yes") == 0
    assert everything(root) == before
    assert not (root.parent / "state" / KEPT).exists()
    assert release(words, root, "acme.service", "--yes") == 1
    assert capsys.readouterr().err == "acme.service is not adopted\nhint: vendorgate adopt lists who is\n"


def test_directories_that_were_made_go_unless_others_use_them(words: list[str], root: Path) -> None:
    before = everything(root)
    assert adopt(words, root, "acme", "--yes") == 0
    assert adopt(words, root, "rooted", "--yes") == 0
    other = root / "etc/systemd/system/rooted.service.d/mine.conf"
    other.write_text("[Service]\n")
    assert release(words, root, "acme", "--yes") == 0
    assert release(words, root, "rooted", "--yes") == 0
    assert everything(root).keys() - before.keys() == {
        "etc/systemd", "etc/systemd/system", "etc/systemd/system/rooted.service.d", "etc/systemd/system/rooted.service.d/mine.conf",
    }  # fmt: skip


def test_what_was_edited_since_is_shown_when_it_goes(words: list[str], root: Path, capsys: Captured) -> None:
    assert adopt(words, root, "acme", "--yes") == 0
    with (root / DROP_IN.format("acme.service")).open("a") as file:
        file.write("Nice=7\n")
    capsys.readouterr()
    assert release(words, root, "acme", "--yes") == 0
    assert "\n-Nice=7\n" in capsys.readouterr().out


def test_adopted_already(words: list[str], root: Path, capsys: Captured) -> None:
    assert adopt(words, root, "acme", "--yes") == 0
    capsys.readouterr()
    assert adopt(words, root, "acme") == 0
    assert capsys.readouterr().out == "acme.service is adopted already\n"


def test_json_is_a_plan_without_yes(words: list[str], root: Path, capsys: Captured) -> None:
    before = everything(root)
    assert adopt(words, root, "acme", "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["kind"], plan["name"], plan["slice"], plan["done"]) == ("unit", "acme.service", "vendor.slice", False)
    assert [(file["path"], file["before"]) for file in plan["files"]] == [(f"/{DROP_IN.format('acme.service')}", None)]
    assert everything(root) == before
    assert adopt(words, root, "acme", "--json", "--yes") == 0
    assert json.loads(capsys.readouterr().out)["done"] is True
    assert adopt(words, root, "--json") == 0
    assert [(one["kind"], one["name"]) for one in json.loads(capsys.readouterr().out)] == [("unit", "acme.service")]
    assert release(words, root, "acme", "--json", "--yes") == 0
    assert json.loads(capsys.readouterr().out)["files"][0]["after"] is None
    assert everything(root) == before


def test_the_list(words: list[str], root: Path, capsys: Captured) -> None:
    assert adopt(words, root) == 0
    assert capsys.readouterr().out == "nobody is adopted: vendorgate adopt acme.service\n"
    adopt(words, root, "acme", "--yes")
    capsys.readouterr()
    assert adopt(words, root) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:3] == ["unit", "acme.service", "vendor.slice"]


def test_wishes(words: list[str], root: Path) -> None:
    assert adopt(words, root, "acme", "--yes", "--write", "/var/lib/a b", "--loosen", "ProtectSystem", "--loosen", "SystemCallFilter") == 0
    lines = (root / DROP_IN.format("acme.service")).read_text().splitlines()
    assert 'ReadWritePaths="/var/lib/a b"' in lines
    assert "# loosened: ProtectSystem=strict" in lines
    assert "ProtectSystem=strict" not in lines
    assert "PrivateTmp=yes" in lines


def test_another_slice(words: list[str], root: Path, tmp_path: Path, capsys: Captured) -> None:
    (tmp_path / "vendorgate.yaml").write_text(f"state_dir: {tmp_path}/state\nslice: agents.slice/agents-ai.slice\n")
    assert adopt(words, root, "acme", "--yes") == 0
    text = (root / DROP_IN.format("acme.service")).read_text()
    assert "Slice=agents-ai.slice\n" in text
    assert "vendor.slice" not in text
    (tmp_path / "vendorgate.yaml").write_text(f"state_dir: {tmp_path}/state\nslice: agents\n")
    assert adopt(words, root, "acme", "--yes") == 2
    assert capsys.readouterr().err.endswith("slice: `agents` is no slice of systemd\nhint: call it as in vendor.slice\n")


def test_notes_name_what_files_cannot_do(words: list[str], root: Path, capsys: Captured) -> None:
    later = root / "etc/systemd/system/rooted.service.d/zz.conf"
    later.parent.mkdir(parents=True)
    later.write_text("[Service]\nSlice=system.slice\n")
    assert adopt(words, root, "rooted", "--json") == 0
    notes = " ".join(json.loads(capsys.readouterr().out)["notes"])
    assert "rooted.service runs as root, who owns the files of the host: adopt it again with --as ACCOUNT" in notes
    assert "vendorgate trust install rooted.service" in notes
    assert "/etc/systemd/system/rooted.service.d/zz.conf comes later and says Slice= too" in notes
    trusted(root)
    assert adopt(words, root, "worker@7", "--json") == 0
    assert json.loads(capsys.readouterr().out)["notes"] == []


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["acne"], "acne.service: there is no such unit on this host\nhint: did you mean `acme.service`?\n"),
        (["nothing-like-it"], "nothing-like-it.service: there is no such unit on this host\nhint: systemctl list-unit-files --type=service lists them\n"),
        (["../x"], "../x.service: is not the name of a service\nhint: write it as in acme.service\n"),
        (["dbus"], "dbus.service: is a part of the host, or of vendorgate itself\nhint: adopt the agent's own service\n"),
        (["vendorgate"], "vendorgate.service: is a part of the host, or of vendorgate itself\nhint: adopt the agent's own service\n"),
        (["acme", "--loosen", "Slice"], "--loosen Slice: holds it in the slice\nhint: one of"),
        (["acme", "--loosen", "Protect"], "--loosen Protect: is no line of the drop-in\nhint: one of"),
        (["acme", "--write", "x"], "--write x: is not a whole path\nhint: begin it with /\n"),
        (["--user", "nobody-here"], "--user nobody-here: is no account of this host\nhint: adduser --system --group nobody-here\n"),
        (["--user", "root"], "--user root: the host itself runs as root\nhint: make the agent an account: adduser --system\n"),
        (["--container", "a/b"], "--container a/b: is no name of a container\n"),
        (["--container", "none"], "--container none: no container of systemd-nspawn, podman (a .container file) or docker has this name\n"),
        (["acme", "--user", "acme"], "name one: UNIT, --user NAME or --container NAME"),
        (["--container", "x", "--as", "y"], "--as, --write and --loosen are for services"),
    ],
)  # fmt: skip
def test_what_is_refused(words: list[str], root: Path, more: list[str], text: str, capsys: Captured) -> None:
    before = everything(root)
    assert adopt(words, root, *more, "--yes") == 2
    assert text in capsys.readouterr().err
    assert everything(root) == before


# -- an account, a container -------------------------------------------------------------------------------------------


def test_an_account_s_services(words: list[str], root: Path, capsys: Captured) -> None:
    before = everything(root)
    assert adopt(words, root, "--user", "acme", "--yes") == 0
    said = capsys.readouterr()
    assert "logins of acme (ssh, su, cron) are in a slice of their own and stay free" in said.err
    for unit in ("acme.service", "second.service"):
        assert "RestrictNamespaces=yes" in (root / DROP_IN.format(unit)).read_text()
    manager = (root / DROP_IN.format("user@4711.service")).read_text().splitlines()
    assert "Slice=vendor.slice" in manager and "CapabilityBoundingSet=" in manager
    assert "ProtectSystem=strict" not in manager  # it has to write to its home
    assert not (root / DROP_IN.format("rooted.service")).exists()
    assert release(words, root, "--user", "acme", "--yes") == 0
    assert everything(root) == before


def test_what_two_adoptions_share_stays_until_the_last(words: list[str], root: Path) -> None:
    before = everything(root)
    assert adopt(words, root, "acme", "--yes") == 0
    assert adopt(words, root, "--user", "acme", "--yes") == 0
    assert release(words, root, "acme", "--yes") == 0
    assert (root / DROP_IN.format("acme.service")).exists()
    assert release(words, root, "--user", "acme", "--yes") == 0
    assert {path for path in everything(root) if path.endswith(".conf")} == {path for path in before if path.endswith(".conf")}


@pytest.mark.parametrize(
    ("place", "service"),
    [
        ("var/lib/machines/box/etc/os-release", "systemd-nspawn@box.service"),
        ("etc/systemd/nspawn/box.nspawn", "systemd-nspawn@box.service"),
        ("etc/containers/systemd/box.container", "box.service"),
    ],
)
def test_containers_that_are_units(words: list[str], root: Path, place: str, service: str) -> None:
    (root / place).parent.mkdir(parents=True)
    (root / place).write_text("x\n")
    before = everything(root)
    assert adopt(words, root, "--container", "box", "--yes") == 0
    lines = (root / DROP_IN.format(service)).read_text().splitlines()
    assert "Slice=vendor.slice" in lines and any(line.startswith("Requires=vendor.slice") for line in lines)
    assert not [line for line in lines if line.startswith(("Capability", "Restrict", "System"))]
    assert release(words, root, "--container", "box", "--yes") == 0
    assert everything(root) == before


def docker(root: Path, labels: dict[str, str]) -> None:
    """As docker keeps it, cut to what is read."""
    place = root / "var/lib/docker/containers/0123456789abcdef"
    place.mkdir(parents=True)
    document = {"ID": "0123456789abcdef", "Name": "/box", "Config": {"Labels": labels}}
    (place / "config.v2.json").write_text(json.dumps(document))


LABELS = {
    "com.docker.compose.service": "agent",
    "com.docker.compose.project.working_dir": "/srv/acme",
    "com.docker.compose.project.config_files": "/srv/acme/compose.yaml",
}


def test_a_container_of_compose(words: list[str], root: Path, capsys: Captured) -> None:
    docker(root, LABELS)
    (root / "srv/acme").mkdir(parents=True)
    before = everything(root)
    assert adopt(words, root, "--container", "box", "--yes") == 0
    text = (root / "srv/acme/compose.override.yaml").read_text()
    assert text.endswith("services:\n  agent:\n    cgroup_parent: vendor.slice\n")
    assert "docker compose up -d agent" in capsys.readouterr().err
    assert release(words, root, "--container", "box", "--yes") == 0
    assert everything(root) == before
    (root / "srv/acme/compose.override.yaml").write_text("services: {}\n")
    assert adopt(words, root, "--container", "0123456789ab", "--yes") == 2
    assert "is yours, and YAML is not for us to edit\nhint: write there, at services.agent: cgroup_parent: vendor.slice" in capsys.readouterr().err


def test_a_container_of_docker_alone(words: list[str], root: Path, capsys: Captured) -> None:
    docker(root, {})
    assert adopt(words, root, "--container", "box", "--yes") == 2
    assert capsys.readouterr().err == "--container box: docker moves no container that exists\nhint: make it again with: docker run --cgroup-parent=vendor.slice ...\n"


# -- what can go wrong -------------------------------------------------------------------------------------------------


@pytest.mark.kernel
def test_what_systemd_does_not_follow_leaves_all_as_it_was(words: list[str], tmp_path: Path) -> None:
    """In a mount namespace with units of its own. Who was adopted already is not let go by a second adopt that fails."""
    (tmp_path / "bin").mkdir()
    manager = tmp_path / "bin/systemctl"
    manager.write_text(f"#!/bin/sh\nif [ -e {tmp_path}/broken ]; then echo is broken >&2; exit 1; fi\n")
    manager.chmod(0o755)
    script = f"""
set -e
mkdir -p /etc/systemd/system
mount -t tmpfs none /etc/systemd/system
echo '[Service]' > /etc/systemd/system/vg-test-acme.service
PATH={tmp_path}/bin:$PATH
adopt() {{ "$@" adopt vg-test-acme --yes $more > /dev/null; }}
touch {tmp_path}/broken
if adopt "$@"; then exit 9; fi
ls /etc/systemd/system; ls {tmp_path}/state 2>&1 | grep -c adopted || true
rm {tmp_path}/broken
adopt "$@"
touch {tmp_path}/broken
before=$(sha256sum < /etc/systemd/system/vg-test-acme.service.d/vendorgate.conf)
if more='--loosen ProtectSystem' adopt "$@"; then exit 9; fi
[ "$before" = "$(sha256sum < /etc/systemd/system/vg-test-acme.service.d/vendorgate.conf)" ] && echo adopted still
"""
    command = [sys.executable, "-m", "appliance.cli", *words]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", *command], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "vg-test-acme.service\n0\nadopted still\n", done.stderr
    assert done.stderr.count("systemctl daemon-reload: is broken") == 2


def project(root: Path, owner: int, service: str = "web") -> Path:
    """A project of Docker Compose in its vendor's home."""
    home = root / "home/acme/project"
    home.mkdir(parents=True)
    (home / "compose.yaml").write_text("services: {}\n")
    kept = root / "var/lib/docker/containers/0123456789ab"
    kept.mkdir(parents=True)
    labels = {"service": service, "project.working_dir": "/home/acme/project", "project.config_files": "/home/acme/project/compose.yaml"}
    labels = {f"com.docker.compose.{key}": value for key, value in labels.items()}
    (kept / "config.v2.json").write_text(json.dumps({"Name": "/acme", "ID": kept.name, "Config": {"Labels": labels}}))
    for folder in (home, home.parent):
        os.chown(folder, owner, owner)
    return home


def test_a_link_of_the_vendor_leads_root_nowhere(words: list[str], root: Path, capsys: Captured) -> None:
    """What the vendor had in its file would be put back where rules are in force."""
    home = project(root, 65534)
    (home / "compose.override.yaml").write_text("# vendorgate adopt\nrules: [{id: all, do: allow}]\n")
    assert adopt(words, root, "--container", "acme", "--yes") == 0
    rules = root / "etc/vendorgate/rules.d"
    rules.mkdir(parents=True)
    home.rename(home.with_name("elsewhere"))
    home.symlink_to("/etc/vendorgate/rules.d")
    for command in (release, adopt):
        assert command(words, root, "--container", "acme", "--yes") == 2
        assert "is behind a link `project` that others can change" in capsys.readouterr().err
    assert list(rules.iterdir()) == []
    home.unlink()
    home.with_name("elsewhere").rename(home)
    assert release(words, root, "--container", "acme", "--yes") == 0


def test_a_file_in_the_way_of_the_vendor_is_not_written_into(words: list[str], root: Path) -> None:
    home = project(root, 65534)
    os.mkfifo(home / ".compose.override.yaml.vendorgate")
    assert adopt(words, root, "--container", "acme", "--yes") == 0
    assert "cgroup_parent" in (home / "compose.override.yaml").read_text()
    assert sorted(path.name for path in home.iterdir()) == ["compose.override.yaml", "compose.yaml"]


def test_links_of_root_are_followed(words: list[str], root: Path) -> None:
    home = project(root, 0)
    (root / "srv").mkdir()
    home.rename(root / "srv/project")
    home.symlink_to("/srv/project")
    assert adopt(words, root, "--container", "acme", "--yes") == 0
    assert (root / "srv/project/compose.override.yaml").exists()
    home.unlink()
    home.symlink_to("project")
    with pytest.raises(ConfigError, match="others can change"), folders.opened(root, home):
        pass
    assert folders.MAX_LINKS == 40


@pytest.mark.parametrize("name", ["web:\n    image: x\n  other", "a b", "{x}", ""])
def test_a_label_writes_no_yaml(name: str, words: list[str], root: Path, capsys: Captured) -> None:
    home = project(root, 0, name)
    assert adopt(words, root, "--container", "acme", "--yes") == 2
    assert "docker run --cgroup-parent=" in capsys.readouterr().err
    assert not (home / "compose.override.yaml").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "a\nb", "a b", ".", "-x", "\x1b[2J"])
def test_a_container_s_name_is_one(name: str, words: list[str], root: Path, capsys: Captured) -> None:
    assert adopt(words, root, f"--container={name}", "--yes") == 2
    said = capsys.readouterr().err
    assert "is no name of a container" in said
    assert "\x1b" not in said


def test_a_file_that_cannot_be_written_undoes_the_others(root: Path, tmp_path: Path) -> None:
    before = everything(root)
    keeper = Keeper(tmp_path / "state", root)
    (root / "etc/file").write_text("")
    before = everything(root)
    plan = Adoption("unit", "a.service", "vendor.slice", (File("etc/one/a.conf", "x"), File("etc/file/b.conf", "y")))
    with pytest.raises(OSError, match=r"Not a directory|File exists"):
        keeper.adopt(plan)
    assert everything(root) == before
    assert keeper.all() == []


def test_a_crash_after_the_plan_was_kept_can_be_undone(root: Path, tmp_path: Path) -> None:
    keeper = Keeper(tmp_path / "state", root)
    plan = keeper.planned(Adoption("unit", "a.service", "vendor.slice", (File("etc/passwd", "x"), File("etc/new", "y"))))
    before = everything(root)
    keeper.adopt(plan)
    (root / "etc/new").unlink()  # as if it had not been reached
    (found,) = keeper.all()
    keeper.release(found)
    assert everything(root) == before


def test_max_file_and_what_is_no_file_of_ours(words: list[str], root: Path, capsys: Captured) -> None:
    path = root / DROP_IN.format("acme.service")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"#" * (MAX_FILE + 1))
    assert adopt(words, root, "acme", "--yes") == 2
    assert "is longer than" in capsys.readouterr().err
    path.write_bytes(b"\xff")
    assert adopt(words, root, "acme", "--yes") == 2
    assert "is no UTF-8 text" in capsys.readouterr().err
    path.unlink()
    path.symlink_to("/dev/null")  # a masked drop-in
    assert adopt(words, root, "acme", "--yes") == 2
    assert "is no regular file\nhint: move it away" in capsys.readouterr().err


def test_what_is_kept_and_cannot_be_read(tmp_path: Path, root: Path) -> None:
    (tmp_path / "state" / KEPT).mkdir(parents=True)
    (tmp_path / "state" / KEPT / "unit-a.service.json").write_text("{")
    with pytest.raises(HostError, match="cannot be read"):
        Keeper(tmp_path / "state", root).all()


def test_without_the_template(monkeypatch: pytest.MonkeyPatch, words: list[str], root: Path, capsys: Captured) -> None:
    monkeypatch.setattr(agents, "TEMPLATES", (root / "x", root / "y"))
    assert adopt(words, root, "acme", "--yes") == 3
    assert "hint: install the package vendorgate again" in capsys.readouterr().err


def test_a_host_without_systemd_says_what_else_there_is(words: list[str], capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On this very host, whose own files are not touched: nothing is released that was not adopted."""
    monkeypatch.setenv("PATH", str(tmp_path))
    from appliance.cli.adopt import _systemctl

    with pytest.raises(HostError, match="adopt needs a host with systemd; else: vendorgate exec"):
        _systemctl(Path("/"), "daemon-reload")
