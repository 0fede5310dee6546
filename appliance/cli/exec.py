"""`vendorgate exec`: run one command governed, as a CI job or a shell would.

The command takes the place of this process, so that its exit status, its terminal and its signals are its own. Before
that, this process goes into a cgroup of its own below the slice, gives up every privilege, and what it had open.

Source: cgroups(7); capabilities(7), "Effect of user ID changes on capabilities"; environ(7).
"""

import os
import pwd
import re
import shutil
import signal
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

import click
import msgspec

from appliance.cli import screen
from appliance.cli.fence import in_force, place
from appliance.cli.hub import Hub
from appliance.cli.site import Site, pass_site
from appliance.cli.trust import BUNDLE, environment
from appliance.kernel import cgroups
from appliance.kernel.fence import Place
from appliance.model import ConfigError, HostError
from appliance.policy.rule import Identity
from appliance.service import bare, confined, identities

MADE = re.compile(r"exec-\d+-\d+")  # in the name of a cgroup made here; the numbers tell it from all others
TRIES = 20  # to enter a cgroup that another `exec` may take for a leftover in the same moment
NOT_FOUND, NOT_RUN = 127, 126  # exit statuses, as a shell says it
OURS = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID",
        "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")  # the last two: where it may not go
LAST_FD = (1 << 31) - 1  # a limit that was lowered hides what is open above it
CHANGED = (signal.SIGPIPE, signal.SIGXFSZ)  # Python ignores them, and an exec keeps that


class User(msgspec.Struct, frozen=True):
    """Whom the command runs as."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str
    switched: bool  # it is another than ours


@click.command("exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--identity", "name", required=True, metavar="NAME", help="Of the rules: what the command is judged as.")
@click.option("--user", "account", metavar="USER", help="Whom it runs as.  [default: who called sudo, else yourself]")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@pass_site
def exec_(site: Site, name: str, account: str | None, command: tuple[str, ...]) -> int:
    """Run a command governed: for CI jobs, shells and first looks (root).

    The command is judged as the identity NAME of your rules, from its first packet on; so is all that it starts. It
    runs as USER, without capabilities and without a way to gain any, and trusts the certificates it is shown if
    `vendorgate trust install` was run. Its exit status is that of this command.

    It has no way to service managers, container engines or the cgroups of others, and types into no terminal: what it
    would have done outside the slice fails.

    NAME says where it runs: in a cgroup of its own that the identity's `cgroup` matches, as ci-*.scope does. An
    identity that is more than that, as a certain exe, is only what fits it.

    \b
    vendorgate exec --identity ci -- make test
    vendorgate exec --identity acme --user acme -- psql -h db.internal orders
    vendorgate exec --identity acme -- bash           # a governed shell, to try things
    """
    if os.geteuid() != 0:
        raise HostError(f"only root can put a process into {site.settings.slice}", "sudo vendorgate exec ...")
    identity = identities.named(site.settings.rules, name)
    user = _user(account)
    _fits(identity, user)
    where = place(site)
    if not in_force(site).up:
        what = f"the fence of {where.slice} is not up: the command would be free"
        raise HostError(what, "systemctl start vendorgate, or vendorgate fence up")
    program = shutil.which(command[0])
    if program is None:
        screen.warn(f"{command[0]}: not found")
        return NOT_FOUND
    _refuse_sockets()
    _advise(site, user)
    enter(where, identity)
    confined.conceal((site.settings.state_dir, site.settings.runtime_dir, site.settings.rules))
    return _become(user, program, command)


def _user(account: str | None) -> User:
    """Return whom to run as."""
    called = os.environ.get("SUDO_UID", "")
    try:
        found = pwd.getpwnam(account) if account else pwd.getpwuid(int(called) if called.isdigit() else os.getuid())
    except KeyError:
        raise ConfigError(f"--user {account or called}", "is no account of this host", "adduser makes one") from None
    return User(
        found.pw_name, found.pw_uid, found.pw_gid, found.pw_dir, found.pw_shell, switched=found.pw_uid != os.getuid()
    )


def _fits(identity: Identity, user: User) -> None:
    if identity.uid and user.uid not in identity.uid:
        wanted = " or ".join(map(str, identity.uid))
        what = f"is uid {wanted}, and the command would run as {user.name} ({user.uid})"
        raise ConfigError(f"identity {identity.name}", what, "name that account with --user")
    if identity.container:
        what = "is a container, and the command would run in none"
        raise ConfigError(f"identity {identity.name}", what, "name an identity with a cgroup")


def _refuse_sockets() -> None:
    """What is open already is judged by where it was opened: outside."""
    for fd, name in enumerate(("input", "output", "error output")):
        with suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as sock:
                if sock.family != socket.AF_UNIX:
                    what = f"the standard {name} is a connection from outside the slice: it would not be governed"
                    raise HostError(what, "put a pipe between: ... | cat")


def _advise(site: Site, user: User) -> None:
    if user.uid == 0:
        screen.warn("vendorgate: it runs as root, without capabilities; an account of its own is safer: --user NAME")
    elif found := _outside(user, place(site)):
        what = f"{user.name} has processes outside the slice (pid {found}): it may act through them"
        screen.warn(f"vendorgate: {what}; an account of its own is safer: --user NAME")
    with suppress(HostError):
        if not Hub(site.socket).is_up():
            screen.warn("vendorgate is not running, so the command has no network: systemctl start vendorgate")


def _outside(user: User, where: Place) -> int:
    """Return a process of the user that is not governed, 0 if there is none."""
    inside = set(cgroups.processes(where.cgroup))
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == user.uid and int(entry.name) not in inside:
                return int(entry.name)
    return 0


def enter(where: Place, identity: Identity) -> Path:
    """Move this process into a cgroup of its own that the identity names; return its path."""
    _sweep(where.cgroup)
    path = where.cgroup / identities.cgroup(identity, f"exec-{os.getpid()}-{time.monotonic_ns()}")
    for left in reversed(range(TRIES)):
        try:
            cgroups.create(path)
            cgroups.move(os.getpid(), path)
            return path
        except HostError:
            if not left:
                raise
    raise AssertionError


def _sweep(top: Path) -> None:
    """Remove cgroups that commands before left behind; where something runs, the kernel keeps them."""
    for here, below, _files in os.walk(top, topdown=False):
        for name in below:
            if MADE.search(name):
                with suppress(OSError):
                    (Path(here) / name).rmdir()


def _become(user: User, program: str, command: tuple[str, ...]) -> int:
    """Become the command. Returns only if that cannot be."""
    variables = {key: value for key, value in os.environ.items() if key not in OURS and not key.startswith("SUDO_")}
    if Path("/", BUNDLE).exists():
        variables |= environment()
    if user.switched:
        variables |= {"HOME": user.home, "USER": user.name, "LOGNAME": user.name, "SHELL": user.shell or "/bin/sh"}
    groups = os.getgrouplist(user.name, user.gid)
    for number in CHANGED:
        signal.signal(number, signal.SIG_DFL)
    os.closerange(3, LAST_FD)
    bare.become(user.uid, user.gid, groups)
    confined.bind()
    try:
        os.execve(program, command, variables)
    except OSError as error:
        screen.warn(f"{command[0]}: {error.strerror}")
        return NOT_RUN
