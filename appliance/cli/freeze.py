"""`vendorgate freeze`, `thaw`, `kill`: stopping a vendor while somebody looks."""

import click

from appliance.cli import screen
from appliance.cli.hub import Hub
from appliance.cli.site import Site, pass_site
from appliance.control.desk import Order
from appliance.model import ConfigError


@click.command()
@click.argument("who", required=False, default="")
@click.option("--all", "everybody", is_flag=True, help="Everybody in the slice.")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def freeze(site: Site, who: str, everybody: bool, reason: str) -> None:
    """Stop all processes of a vendor where they are.

    WHO is an identity of the rules, or a cgroup below the slice; globs allowed. Nothing of theirs runs until `thaw`,
    whatever becomes of vendorgate meanwhile. Memory, files and connections stay as they are, to be looked at. An
    identity that is more than cgroups stops the cgroups its processes are in now, and so what else is in them; which
    ones is printed.

    \b
    vendorgate freeze acme --reason "ticket 4711"
    vendorgate freeze 'acme@*.service'
    vendorgate freeze --all
    """
    _give(site, "freeze", who, everybody, reason)


@click.command()
@click.argument("who", required=False, default="")
@click.option("--all", "everybody", is_flag=True, help="The slice itself, not what was frozen by name below it.")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def thaw(site: Site, who: str, everybody: bool, reason: str) -> None:
    """Let frozen processes go on (root).

    \b
    vendorgate thaw acme
    """
    _give(site, "thaw", who, everybody, reason)


@click.command()
@click.argument("who", required=False, default="")
@click.option("--all", "everybody", is_flag=True, help="Everybody in the slice.")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def kill(site: Site, who: str, everybody: bool, reason: str) -> None:
    """End all processes of a vendor, frozen or not (root).

    What systemd restarts comes back: `systemctl stop` it too. What is frozen stays frozen for what comes after.

    \b
    vendorgate kill acme --reason "ticket 4711"
    """
    _give(site, "kill", who, everybody, reason)


def _give(site: Site, deed: str, who: str, everybody: bool, reason: str) -> None:
    if bool(who) == everybody:
        raise ConfigError(deed, "names nobody, or both somebody and everybody", f"vendorgate {deed} WHO, or --all")
    done = Hub(site.socket).contain(Order(deed, who, everybody, reason))  # type: ignore[arg-type]
    screen.say(done.text)
