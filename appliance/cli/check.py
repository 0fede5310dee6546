"""`vendorgate check`."""

import textwrap

import click

from appliance import compiled
from appliance.cli import screen
from appliance.cli.fence import place
from appliance.cli.hub import Hub
from appliance.cli.site import No, Site, pass_site
from appliance.kernel.check import Finding, preflight
from appliance.kernel.containable import gaps
from appliance.kernel.fence import Place
from appliance.model import HostError

WIDTH = 100
INDENT = " " * 7


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@pass_site
def check(site: Site, as_json: bool) -> None:
    """Tell what this host lacks, and how to get it.

    Looks at the kernel, the tools, the paths of the settings, at other firewalls in the way, and at the rights
    of what runs in the slice. Changes nothing. Exit status 1 if something is lacking; each lack names the
    promise that is lost with it.

    \b
    vendorgate check
    vendorgate check --json | jq '.[] | select(.ok | not)'
    """
    found = [*preflight(place(site), _runs(site)), *vendors(place(site)), _speed()]
    if as_json:
        screen.json(found)
    for finding in () if as_json else found:
        _print(finding)
    lacks = sum(not finding.ok for finding in found)
    if lacks:
        raise No(f"{lacks} of {len(found)} checks found a lack")
    if not as_json:
        click.echo(f"{len(found)} checks, nothing lacks")


def _speed() -> Finding:
    """Tell whether messages pass through compiled modules; no promise but those of speed hangs on it."""
    how = "compiled" if compiled.in_use() else "run as written (`make fast` compiles them)"
    return Finding("speed", True, f"the modules on the path of every message are {how}")


def vendors(where: Place) -> list[Finding]:
    """Return a finding for each way out that a unit in the slice has."""
    found = gaps(where)
    if not found:
        return [Finding("vendors", True, f"nobody in {where.slice} holds a right that leads round the fence")]
    remedy = "{}, in a drop-in for the unit (systemd/vendor-agent.conf has them all)"
    return [
        Finding(f"unit {gap.unit}", False, gap.what, remedy.format(gap.remedy), f"{gap.unit} is not contained")
        for gap in found
    ]


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
