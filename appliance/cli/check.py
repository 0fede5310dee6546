"""`vendorgate check`."""

import textwrap

import click

from appliance.cli import screen
from appliance.cli.fence import place
from appliance.cli.hub import Hub
from appliance.cli.site import No, Site, pass_site
from appliance.kernel.check import Finding, preflight
from appliance.model import HostError

WIDTH = 100
INDENT = " " * 7


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def check(site: Site, as_json: bool) -> None:
    """Tell what this host lacks, and how to get it.

    Looks at the kernel, the tools, the paths of the settings, and at other firewalls in the way. Changes
    nothing. Exit status 1 if something is lacking; each lack names the promise that is lost with it.

    \b
    vendorgate check
    vendorgate check --json | jq '.[] | select(.ok | not)'
    """
    found = preflight(place(site), _runs(site))
    if as_json:
        screen.json(found)
    for finding in () if as_json else found:
        _print(finding)
    lacks = sum(not finding.ok for finding in found)
    if lacks:
        raise No(f"{lacks} of {len(found)} checks found a lack")
    if not as_json:
        click.echo(f"{len(found)} checks, nothing lacks")


def _runs(site: Site) -> bool:
    """Tell whether vendorgate runs, so that what it holds is no lack."""
    try:
        return Hub(site.socket).is_up()
    except HostError:
        return True  # somebody listens whom we may not ask


def _print(finding: Finding) -> None:
    mark = click.style("ok  ", fg="green") if finding.ok else click.style("LACK", fg="red", bold=True)
    click.echo(f"{mark}   {screen.strong(screen.visible(finding.name))}  {screen.visible(finding.what)}")
    if not finding.ok:
        for name, text in (("lost", finding.promise), ("remedy", finding.remedy)):
            if text:
                _wrapped(f"{name}: {screen.visible(text)}")


def _wrapped(text: str) -> None:
    click.echo(textwrap.fill(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT + "  "))
