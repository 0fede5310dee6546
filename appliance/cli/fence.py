"""`vendorgate fence`: the pinned layer, which stays in force whatever else of ours stops."""

import click
import msgspec

from appliance.cli import screen
from appliance.cli.site import No, Site, pass_site
from appliance.kernel import fence as kernel
from appliance.kernel import needs
from appliance.service import barrier


@click.group()
def fence() -> None:
    """The pinned layer that keeps governed processes in.

    It needs no process of ours: killed, stopped or crashed, vendorgate leaves governed processes without a
    network, never with an open one. Only `down`, or root by hand, takes it away.

    \b
    vendorgate fence status
    """


@fence.command()
@pass_site
def up(site: Site) -> None:
    """Put it in force; what is in force already is brought up to date without a gap.

    \b
    vendorgate fence up
    """
    settings = site.settings
    needs.rights("vendorgate fence up")
    with barrier.put_up(settings) as fence:
        for line in barrier.told(fence.kept):
            click.echo(line, err=True)
    click.echo(f"The fence of {site.settings.slice} is up.")


@fence.command()
@pass_site
def down(site: Site) -> None:
    """Take it away: governed processes reach the network past vendorgate.

    \b
    vendorgate fence down
    """
    settings = site.settings
    needs.rights("vendorgate fence down")
    stays = barrier.take_down(settings)
    if stays:
        click.echo(stays, err=True)
    click.echo(f"The fence of {site.settings.slice} is down: what runs there is free.")


@fence.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def status(site: Site, as_json: bool) -> None:
    """Tell what is in force, by the kernel's word. Exit status 1 if it is not all of it.

    \b
    vendorgate fence status --json
    """
    needs.rights("vendorgate fence status")
    found = in_force(site)
    if as_json:
        screen.json(msgspec.to_builtins(found))
    else:
        state = click.style("up", fg="green") if found.up else click.style("down", fg="red", bold=True)
        click.echo(f"{site.settings.slice}: {state}, {found.cgroups} cgroups")
        for name, count in found.counters.items():
            click.echo(f"  {name.replace('_', ' '):<24} {count:>12}")
        for promise in found.lacking:
            click.echo(f"  not promised on this kernel: {promise}")
    if not found.up:
        missing = ", ".join(found.missing)
        raise No(f"not in force: {missing}" if missing else "the fence is not up", "vendorgate fence up")


def place(site: Site) -> kernel.Place:
    """Return what the settings say is governed."""
    return barrier.place(site.settings)


def in_force(site: Site) -> kernel.Status:
    """Ask the kernel what is in force."""
    return kernel.status(place(site))
