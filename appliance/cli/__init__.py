"""The command `vendorgate`. A command is a module of its own, imported when used, so that help is quick.

Exit status: 0 fine; 1 the answer is no; 2 wrong use or bad configuration; 3 the host cannot do it.
"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

import click

from appliance.cli.site import DEFAULT_CONFIG, No, Site
from appliance.model import ConfigError, HostError

INTERRUPTED = 130  # 128 + SIGINT, as a shell says it
MAX_QUOTED = 100  # characters of a word in an error

# name -> where it is and the first line of its help, so that the list is printed without importing any
COMMANDS = {
    "run": ("service:run", "Run the appliance in the foreground, as the systemd unit does."),
    "fence": ("fence:fence", "The pinned layer that keeps governed processes in."),
    "check": ("check:check", "Tell what this host lacks, and how to get it."),
    "status": ("status:status", "Tell what is in force now."),
    "reload": ("status:reload", "Put the rules on disk in force."),
    "rules": ("rules:rules", "Validate, test and explain rules."),
    "sessions": ("sessions:sessions", "List recorded sessions, the newest first."),
    "show": ("show:show", "Print one session: who, every statement, its verdict, what came back."),
    "replay": ("replay:replay", "Play one session as it ran, in its own time."),
    "export": ("export:export", "Write sessions to a file for other tools."),
    "whatif": ("whatif:whatif", "Judge recorded sessions by other rules."),
    "pcap": ("pcap:pcap", "Judge a capture made elsewhere."),
    "verify": ("verify:verify", "Check that the record is whole."),
    "hold": ("hold:hold", "Put sessions under legal hold."),
    "release-hold": ("hold:release", "Release what `hold` held."),
    "approvals": ("approvals:approvals", "Show what waits for a reviewer."),
    "approve": ("approvals:approve", "Release a held message."),
    "deny": ("approvals:deny", "Refuse a held message."),
    "freeze": ("freeze:freeze", "Stop all processes of a vendor where they are."),
    "thaw": ("freeze:thaw", "Let frozen processes go on."),
    "kill": ("freeze:kill", "End all processes of a vendor."),
    "observe": ("observe:observe", "Show what a vendor's processes write and read inside TLS."),
    "init": ("init:init", "Write the first rules for an agent, with comments and tests."),
    "adopt": ("adopt:adopt", "Put an agent under control: a service, an account's services, or a container."),
    "release": ("adopt:release", "Let an agent go that was adopted."),
    "learn": ("learn:learn", "Propose least-privilege rules for what an agent does, with tests."),
    "exec": ("exec:exec_", "Run a command governed: for CI jobs, shells and first looks."),
    "trust": ("trust:trust", "Have governed programs trust the certificates they are shown."),
    "demo": ("service:demo", "Show the main job in a lab of its own (root)."),
}


HIDDEN = {"manual": "manual:manual"}  # for who builds the package


class Lazy(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        module, _, name = (HIDDEN.get(cmd_name) or COMMANDS[cmd_name][0]).partition(":")
        command = getattr(import_module(f"appliance.cli.{module}"), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = get_close_matches(args[0], COMMANDS, 1)
            if not near:
                raise
            raise click.UsageError(f"{error.message}\nhint: did you mean `{near[0]}`?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"vendorgate {import_module('importlib.metadata').version('vendorgate')}")
        ctx.exit()


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="VENDORGATE_CONFIG",
    show_envvar=True,
    help=f"The settings.  [default: {DEFAULT_CONFIG}]",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)
@click.pass_context
def cli(ctx: click.Context, config: Path | None) -> None:
    """vendorgate judges, masks, holds and records what vendors' agents on this host do over the network.

    \b
    Try it:      vendorgate demo
    A new host:  vendorgate check; systemctl enable --now vendorgate
    Day by day:  vendorgate approvals --watch
                 vendorgate sessions --since 1h --verdict block
                 vendorgate show last

    An ID may be cut as long as it is unique; `last` is the newest. With --json a command prints one JSON
    document. Exit status: 0 fine, 1 the answer is no, 2 wrong use or bad configuration, 3 the host cannot
    do it.

    Completion for bash comes with the package; in a checkout: source <(vendorgate manual bash)
    """
    ctx.obj = Site(config)
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    try:
        status = cli.main(words, prog_name="vendorgate", standalone_mode=False)
        sys.stdout.flush()
        return status if isinstance(status, int) else 0
    except No as no:
        return _fail(str(no), 1)
    except ConfigError as error:
        return _fail(str(error), 2)
    except HostError as error:
        return _fail(str(error), 3)
    except click.ClickException as error:
        error.show()
        return 2
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        return _enough()
    except SystemExit as end:
        if end.code != 1:
            raise
        return _enough()  # so click ends a command whose reader is gone; no command of ours exits by itself
    except UnicodeEncodeError as error:  # of names of files and directories only the bytes matter
        return _fail(f"`{str(error.object)[:MAX_QUOTED]}` cannot be written in UTF-8", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        hint = "\nhint: sudo vendorgate ..." if isinstance(error, PermissionError) and os.geteuid() else ""
        return _fail(f"{where}{error.strerror or error}{hint}", 3)


def _enough() -> int:
    """Whoever read us has enough. The flush at exit must not complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


def _fail(text: str, status: int) -> int:
    from appliance.cli import screen  # noqa: PLC0415  help needs none of it

    screen.warn(text)
    return status
