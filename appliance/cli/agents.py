"""Who can be adopted, and by which files: a unit, an account's own services, a container.

Sources: systemd.unit(5), "Description" (drop-ins), systemd.resource-control(5) Slice=; user@.service(5);
systemd-nspawn@.service; podman-systemd.unit(5); Compose file reference, `cgroup_parent`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path

import msgspec

from appliance.cli.trust import BUNDLE
from appliance.cli.trust import UNIT as TRUST
from appliance.cli.trust import drop_in as trusting
from appliance.model import ConfigError, HostError
from appliance.service.adoption import Adoption, File

TEMPLATES = (Path(__file__).parents[2] / "systemd", Path("/usr/share/vendorgate"))
TEMPLATE = "vendor-agent.conf"
WHERE = ("etc/systemd/system", "run/systemd/system", "run/systemd/generator", "run/systemd/transient",
         "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")  # fmt: skip
DROP_IN = "etc/systemd/system/{}.d/vendorgate.conf"
NAME = re.compile(r"[A-Za-z0-9:_.\\@-]{1,250}\.service")
SLICE = re.compile(r"[A-Za-z0-9:_.\\-]+\.slice")
OURS = re.compile(r"(?:vendorgate|systemd-(?!nspawn@)|dbus|init\.|getty|serial-getty|user@|user-runtime)")
# What the manager of a user's services can do without; the rest of the template is for single programs.
MANAGER = ("Slice", "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "LockPersonality",
           "SystemCallArchitectures", "TasksMax")  # fmt: skip
CONTAINER = ("Slice", "TasksMax")  # its engine needs all it has to make it
QUADLETS = ("etc/containers/systemd", "usr/share/containers/systemd")  # podman makes NAME.service of NAME.container
CONTAINER_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,250}")  # Docker's; those of machines are host names
FIXED = ("Slice", "CapabilityBoundingSet")  # without them it would not be governed


class Wishes(msgspec.Struct, frozen=True):
    """What ops want otherwise."""

    account: str = ""  # User=
    write: tuple[str, ...] = ()  # paths it may write to
    loosen: tuple[str, ...] = ()  # keys of the template left out


class Host(msgspec.Struct, frozen=True):
    """Where files are looked for, and the slice that is governed, a cgroup path below the root of cgroups."""

    root: Path
    slice: str

    @property
    def slice_unit(self) -> str:
        """The unit of the slice.

        Raises:
            ConfigError: it is none.
        """
        name = self.slice.rpartition("/")[2]
        if not SLICE.fullmatch(name):
            raise ConfigError("slice", f"`{self.slice}` is no slice of systemd", "call it as in vendor.slice")
        return name

    def fragment(self, unit: str) -> Path | None:
        """Return the file of a unit, or of what it is an instance of."""
        template = re.sub(r"@[^.]*\.", "@.", unit)
        names = (unit, template) if template != unit else (unit,)
        return next((path for name in names for top in WHERE if (path := self.root / top / name).exists()), None)

    def units(self) -> Iterator[str]:
        """Yield the names of the services there are."""
        for top in WHERE:
            yield from (path.name for path in sorted((self.root / top).glob("*.service")))

    def said(self, unit: str, key: str) -> str:
        """Return what the files of a unit say of a key, the last of them; ours left out."""
        fragment = self.fragment(unit)
        files = [fragment] if fragment else []
        folders = [self.root / top / f"{unit}.d" for top in reversed(WHERE)]
        drop_ins = {path.name: path for folder in folders for path in folder.glob("*.conf")}
        files += [path for name, path in sorted(drop_ins.items()) if name != "vendorgate.conf"]
        values = re.findall(rf"(?m)^\s*{key}\s*=[ \t]*(.*?)\s*$", "\n".join(map(_text, files)))
        return str(values[-1]) if values else ""


def unit(host: Host, name: str, wishes: Wishes) -> Adoption:
    """Return what puts a service into the slice.

    Raises:
        ConfigError: there is none of this name, or it is none to adopt.
    """
    name = name if name.endswith(".service") else f"{name}.service"
    if not NAME.fullmatch(name):
        raise ConfigError(name, "is not the name of a service", "write it as in acme.service")
    if OURS.match(name):
        raise ConfigError(name, "is a part of the host, or of vendorgate itself", "adopt the agent's own service")
    if host.fragment(name) is None:
        known = {one.removesuffix(".service") for one in host.units()}
        near = get_close_matches(name.removesuffix(".service"), known, 1)
        hint = f"did you mean `{near[0]}.service`?" if near else "systemctl list-unit-files --type=service lists them"
        raise ConfigError(name, "there is no such unit on this host", hint)
    files = (File(DROP_IN.format(name), drop_in(host, wishes)), *_trust(host, name))
    return Adoption("unit", name, host.slice_unit, files, (name,), tuple(_notes(host, name, wishes)))


def user(host: Host, name: str, wishes: Wishes) -> Adoption:
    """Return what puts all services of an account into the slice: those of the host, and those it starts itself.

    Raises:
        ConfigError: there is no such account, or it is root.
    """
    uid = _uid(host, name)
    if uid == 0:
        raise ConfigError("--user root", "the host itself runs as root", "make the agent an account: adduser --system")
    own = [one for one in dict.fromkeys(host.units()) if host.said(one, "User") in (name, str(uid))]
    own = [one for one in own if NAME.fullmatch(one) and not OURS.match(one) and "@." not in one]
    manager = f"user@{uid}.service"
    files = [File(DROP_IN.format(manager), drop_in(host, Wishes(), MANAGER)), *_trust(host, manager)]
    for one in own:
        files += [File(DROP_IN.format(one), drop_in(host, wishes)), *_trust(host, one)]
    notes = (
        f"logins of {name} (ssh, su, cron) are in a slice of their own and stay free: take its password and keys "
        f"(usermod --lock --shell /usr/sbin/nologin {name}), or start them by `vendorgate exec --user {name}`",
        *(note for one in own for note in _notes(host, one, wishes)),
    )
    return Adoption("user", name, host.slice_unit, tuple(files), (*own, manager), notes)


def container(host: Host, name: str) -> Adoption:
    """Return what puts a container into the slice when it is next made.

    Raises:
        ConfigError: there is none of this name, or its engine takes no file.
    """
    if not CONTAINER_NAME.fullmatch(name):
        raise ConfigError(f"--container {name}", "is no name of a container", "as `machinectl` or `docker ps` print it")
    machines = [host.root / place for place in (f"var/lib/machines/{name}", f"var/lib/machines/{name}.raw",
                                                f"etc/systemd/nspawn/{name}.nspawn")]  # fmt: skip
    quadlets = [host.root / place / f"{name}.container" for place in QUADLETS]
    service = ""
    if any(path.exists() for path in machines):
        service = f"systemd-nspawn@{name}.service"
    elif any(path.exists() for path in quadlets):
        service = f"{name}.service"
    if service:
        file = File(DROP_IN.format(service), drop_in(host, Wishes(), CONTAINER))
        return Adoption("container", name, host.slice_unit, (file,), (service,))
    return _docker(host, name)


def drop_in(host: Host, wishes: Wishes, only: Sequence[str] = ()) -> str:
    """Return the text of a drop-in: the template, as wished, or `only` these keys of it.

    Raises:
        ConfigError: a wish cannot be.
        HostError: the template is not installed.
    """
    head = "# Written by `vendorgate adopt`; `vendorgate release` takes it back. Not to be edited: adopt again.\n"
    lines = _template().splitlines()[2:]
    keys = {line.partition("=")[0] for line in lines if line[:1].isupper()}
    for key in wishes.loosen:
        if key in FIXED or key not in keys:
            free = sorted(keys - {*FIXED, "Requires", "After", "User"})
            what = "holds it in the slice" if key in FIXED else "is no line of the drop-in"
            raise ConfigError(f"--loosen {key}", what, f"one of {', '.join(free)}")
    found = [line.replace("vendor.slice", host.slice_unit) for line in lines]
    if only:
        unit_part = ("Requires", "After")
        found = [line for line in found if line[:1] == "[" or line.partition("=")[0] in (*unit_part, *only) or not line]
    found = [f"# loosened: {line}" if line.partition("=")[0] in wishes.loosen else line for line in found]
    if wishes.account:
        found = [line.replace("# User=VENDOR", f"User={wishes.account}") for line in found]
    for path in wishes.write:
        if not path.startswith("/") or any(c in path for c in "\n\""):
            raise ConfigError(f"--write {path}", "is not a whole path", "begin it with /")
    text = "\n".join([*found, *(f'ReadWritePaths="{path}"' for path in wishes.write), ""])
    return head + text


def _template() -> str:
    for place in TEMPLATES:
        if (place / TEMPLATE).exists():
            return (place / TEMPLATE).read_text()
    raise HostError(f"no {TEMPLATE} in {TEMPLATES[0]} nor {TEMPLATES[1]}", "install the package vendorgate again")


def _trust(host: Host, name: str) -> Iterator[File]:
    """Yield the variables by which it trusts what it is shown, once there is something to trust."""
    if (host.root / BUNDLE).exists():
        yield File(TRUST.format(name), trusting())


def _notes(host: Host, name: str, wishes: Wishes) -> Iterator[str]:
    account = wishes.account or host.said(name, "User")
    dynamic = host.said(name, "DynamicUser").lower() in ("yes", "true", "1", "on")
    if account in ("", "root", "0") and not dynamic:
        yield f"{name} runs as root, who owns the files of the host: adopt it again with --as ACCOUNT"
    if not (host.root / BUNDLE).exists():
        yield f"{name} does not trust the certificates it is shown: vendorgate trust install {name}"
    for path in sorted((host.root / WHERE[0] / f"{name}.d").glob("*.conf")):
        if path.name > "vendorgate.conf" and re.search(r"(?m)^\s*Slice\s*=", _text(path)):
            yield f"/{path.relative_to(host.root)} comes later and says Slice= too: take that line out"


def _docker(host: Host, name: str) -> Adoption:
    slice_unit = host.slice_unit
    for path in sorted((host.root / "var/lib/docker/containers").glob("*/config.v2.json")):
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            continue
        if found.get("Name") == f"/{name}" or (len(name) >= 12 and found.get("ID", "").startswith(name)):
            return _compose(host, name, (found.get("Config") or {}).get("Labels") or {}, slice_unit)
    what = "no container of systemd-nspawn, podman (a .container file) or docker has this name"
    raise ConfigError(f"--container {name}", what, "machinectl list-images, podman ps -a or docker ps -a list them")


def _compose(host: Host, name: str, labels: dict[str, str], slice_unit: str) -> Adoption:
    service, place = labels.get("com.docker.compose.service"), labels.get("com.docker.compose.project.working_dir")
    files = labels.get("com.docker.compose.project.config_files", "").split(",")
    base = Path(files[0]).name
    named = SERVICE.fullmatch(service or "") and (place or "").startswith("/")
    if not service or not place or not named or base not in OVERRIDES:
        hint = f"make it again with: docker run --cgroup-parent={slice_unit} ..."
        raise ConfigError(f"--container {name}", "docker moves no container that exists", hint)
    override = Path(place.lstrip("/")) / OVERRIDES[base]
    if (host.root / override).exists() and "vendorgate adopt" not in _text(host.root / override):
        hint = f"write there, at services.{service}: cgroup_parent: {slice_unit}"
        raise ConfigError(f"/{override}", "is yours, and YAML is not for us to edit", hint)
    head = "# Written by `vendorgate adopt`; `vendorgate release` takes it back."
    text = f"{head}\nservices:\n  {service}:\n    cgroup_parent: {slice_unit}\n"
    note = f"it is free until it is made again: cd {place} && docker compose up -d {service}"
    return Adoption("container", name, slice_unit, (File(str(override), text),), (), (note,))


SERVICE = re.compile(r"[A-Za-z0-9._-]+")  # Compose specification, "services"; a label may say anything
OVERRIDES = {  # what Compose reads by itself besides the first file
    "compose.yaml": "compose.override.yaml",
    "compose.yml": "compose.override.yml",
    "docker-compose.yml": "docker-compose.override.yml",
    "docker-compose.yaml": "docker-compose.override.yaml",
}


def _uid(host: Host, name: str) -> int:
    for line in _text(host.root / "etc/passwd").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) > 2 and fields[2].isdigit():
            return int(fields[2])
    raise ConfigError(f"--user {name}", "is no account of this host", f"adduser --system --group {name}")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
