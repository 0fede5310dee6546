"""`vendorgate hold` and `release-hold`: what retention may not touch."""

import click

from appliance.cli import screen
from appliance.cli.identity import who
from appliance.cli.site import No, Site, pass_site
from appliance.cli.store import source
from appliance.cli.words import session_id
from appliance.model import ConfigError, HostError
from appliance.record.checkpoint import Checkpoints, Deed, Said
from appliance.record.keeper import PROOF
from appliance.record.signing import Signer
from appliance.service.keys import signer

MAX_REASON = 500  # characters; it stays in the checkpoints for ever


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--identity", "identities", multiple=True, help="All sessions of an identity, past and to come.")
@click.option("--reason", default="", help="Goes into the record: the case, who asked.")
@click.option("--json", "as_json", is_flag=True, help="With nothing to hold: print what is held as JSON.")
@pass_site
def hold(site: Site, ids: tuple[str, ...], identities: tuple[str, ...], reason: str, as_json: bool) -> None:
    """Put sessions under legal hold: whatever their age, and however full the store, they stay.

    Without ID or --identity, list what is held. A hold is a signed entry among the checkpoints, with who placed it
    and why; so is its release. Held sessions still count against record.max_bytes.

    \b
    vendorgate hold 01kaq3v9m2f0a7x --reason "case 2026-118"
    vendorgate hold --identity acme --reason "case 2026-118"
    vendorgate hold
    """
    checkpoints = _checkpoints(site)
    if ids or identities:
        _note(checkpoints, Deed("hold", who(), _fit(reason), _whole(site, ids), identities))
    held, of = checkpoints.held
    if as_json:
        screen.json({"sessions": sorted(held), "identities": sorted(of)})
        return
    for kind, words in (("session", held), ("identity", of)):
        for word in sorted(words):
            click.echo(f"{kind:<9} {screen.visible(word)}")
    if not (held or of):
        click.echo("Nothing is held.")


@click.command("release-hold")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--identity", "identities", multiple=True, help="An identity that was held.")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def release(site: Site, ids: tuple[str, ...], identities: tuple[str, ...], reason: str) -> None:
    """Release what `hold` held: it goes when its time is up.

    \b
    vendorgate release-hold 01kaq3v9m2f0a7x --reason "case closed"
    """
    if not (ids or identities):
        hint = "name sessions or --identity; `vendorgate hold` lists them"
        raise ConfigError("release-hold", "nothing is named", hint)
    checkpoints = _checkpoints(site)
    held, of = checkpoints.held
    for word in ids:
        if word not in held:
            raise No(f"session `{word}` is not held", "`vendorgate hold` lists what is, in full")
    for word in identities:
        if word not in of:
            raise No(f"identity `{word}` is not held", "`vendorgate hold` lists what is")
    _note(checkpoints, Deed("release", who(), _fit(reason), ids, identities))


def _checkpoints(site: Site) -> Checkpoints:
    directory = site.settings.state_dir
    try:
        if not (directory / PROOF).is_dir():
            raise No(f"{directory}: nothing is recorded here", "state_dir in the settings says where")
        key: Signer = signer(directory)
    except PermissionError:
        raise HostError(f"{directory} cannot be read", "only root may hold and release") from None
    return Checkpoints(directory / PROOF, key)


def _note(checkpoints: Checkpoints, deed: Deed) -> None:
    checkpoints.append(Said(deeds=(deed,)))


def _whole(site: Site, ids: tuple[str, ...]) -> tuple[str, ...]:
    place = source(site) if ids else None
    return tuple(dict.fromkeys(session_id(place, id) for id in ids)) if place else ()


def _fit(reason: str) -> str:
    if len(reason) > MAX_REASON:
        raise ConfigError("--reason", f"longer than {MAX_REASON} characters", "name the case, not all of it")
    return reason
