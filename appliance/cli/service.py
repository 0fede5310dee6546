"""`vendorgate run` and `vendorgate demo`: they are the thing itself, imported only here."""

from importlib import import_module
from pathlib import Path

import click

from appliance.cli.site import Site, pass_site
from appliance.kernel import needs


@click.command()
@pass_site
def run(site: Site) -> int:
    """Run the appliance in the foreground, as the systemd unit does.

    Puts the fence and the steering in force, starts the relay workers, and says `vendorgate ready` on
    stderr (and to systemd) when governed processes are served. SIGHUP takes up changed rules, SIGTERM stops
    in order; the fence stays either way.

    \b
    vendorgate --config /etc/vendorgate/vendorgate.yaml run
    """
    _ = site.settings  # a wrong file is told before anything is touched
    needs.rights("vendorgate run")
    status = import_module("appliance.service").run(site.path)
    return int(status or 0)


@click.command()
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="Where the export goes."
)
def demo(output: Path | None) -> int:
    """Show the main job in a lab of its own (root).

    Two network namespaces and a real PostgreSQL, with vendorgate between an agent and the database:
    masking, a blocked DROP, a held ALTER, kill -9 of everything, and an export for Wireshark. Nothing of
    the host is changed.

    \b
    vendorgate demo -o /tmp/demo.pcapng
    """
    needs.rights("vendorgate demo")
    return int(import_module("appliance.demo").main(output))
