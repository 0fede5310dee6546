"""`vendorgate approvals`, `approve`, `deny`: what waits, and the answer."""

import sys
import time

import click

from appliance.cli import screen
from appliance.cli.hub import Hub
from appliance.cli.site import No, Site, pass_site
from appliance.cli.words import LAST, one_of
from appliance.control.desk import Change, Held
from appliance.model import ConfigError, HostError


@click.command()
@click.argument("id", required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document; with --watch a line for each change."
)
@click.option("--watch", is_flag=True, help="Stay, and show questions as they come and go.")
@pass_site
def approvals(site: Site, id: str | None, as_json: bool, watch: bool) -> None:
    """Show what waits for a reviewer.

    Each question names the process as the kernel knows it, the rule that holds it, and the message; with ID it is that
    question alone, with all bytes that would be released, the client's credentials among them. Nothing of it has been
    sent on. Time that runs out is a denial.

    \b
    vendorgate approvals
    vendorgate approvals 01kaq3v9m2f0a7x-4
    vendorgate approvals --watch
    vendorgate approve 01kaq3v9m2f0a7x-4
    """
    hub = Hub(site.socket)
    if watch:
        if id:
            raise ConfigError("approvals", "--watch is of all questions", f"vendorgate approvals {id}")
        _watch(hub, as_json)
        return
    if id:
        _whole(hub.question(_find(hub, id)), as_json)
        return
    waiting = hub.approvals()
    if as_json:
        screen.json(waiting)
    elif not waiting:
        click.echo("Nothing waits.")
    for question in () if as_json else waiting:
        _print(question)


@click.command()
@click.argument("id")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def approve(site: Site, id: str, reason: str) -> None:
    """Release a held message: exactly its bytes, for the process that sent it.

    Who you are is taken from the kernel, and has to be in the group that the rule names; root may always
    answer. An ID cut short is asked back on a terminal and refused elsewhere, since another question may
    have taken its place.

    \b
    vendorgate approve 01kaq3v9m2f0a7x-4 --reason "ticket 4711"
    """
    hub = Hub(site.socket)
    whole = _find(hub, id)
    if whole != id:
        if not sys.stdin.isatty():
            raise ConfigError(f"`{id}`", "an approval needs the whole id", whole)
        _print(hub.question(whole))
        click.confirm("Release this?", abort=True)
    screen.say(hub.answer(whole, True, reason).text)


@click.command()
@click.argument("id")
@click.option("--reason", default="", help="Goes into the record.")
@pass_site
def deny(site: Site, id: str, reason: str) -> None:
    """Refuse a held message. One denial is enough; the client gets an error of its protocol.

    \b
    vendorgate deny 01kaq3v9m2f0a7x-4 --reason "not on a Saturday"
    """
    hub = Hub(site.socket)
    screen.say(hub.answer(_find(hub, id), False, reason).text)


def _find(hub: Hub, word: str) -> str:
    """Return the whole id of a question that waits."""
    ids = [question.id for question in hub.approvals()]
    found = ids[-1] if word == LAST and ids else one_of(word, ids)
    if found is None:
        raise No(f"no question `{word}` is waiting", "vendorgate approvals lists them")
    return found


def _watch(hub: Hub, as_json: bool) -> None:
    for change in hub.watch():
        if as_json:
            screen.json_line(change)
        else:
            _say(change)
        sys.stdout.flush()
    raise HostError("the watch ended: vendorgate stopped", "systemctl status vendorgate")


def _say(change: Change) -> None:
    match change:
        case Change("gone", id):
            click.echo(f"{screen.faint(screen.moment(time.time()))}  {screen.visible(id)} is over\n")
        case Change("vote", id, Held() as question):
            text = f"{id} approved by {', '.join(question.approved_by)} of {question.needed}"
            click.echo(f"{screen.faint(screen.moment(time.time()))}  {screen.visible(text)}\n")
        case Change(_, _, Held() as question):
            _print(question)


def _print(question: Held) -> None:
    """Print all a reviewer has to know."""
    now, process = time.time(), question.process
    times = f"asked {screen.span(now - question.asked)} ago, {screen.span(question.expires - now)} left"
    click.echo(f"{screen.strong(screen.visible(question.id))}  {screen.faint(times)}")
    who = screen.visible(question.identity or "no known identity")
    if process:
        _line("who", f"{who}: {screen.visible(process.exe)}, pid {process.pid}, uid {process.uid}, "
              f"in {screen.visible(process.cgroup)}")  # fmt: skip
        _line("command", " ".join(map(_word, process.argv)))
        for name, text in (("script", process.script), ("package", process.package), ("sha256", process.sha256)):
            if text:
                _line(name, screen.visible(text))
        if process.became:
            what = " ".join(map(_word, process.became.argv))
            _line("is now", f"{screen.visible(process.became.exe)}: {what}")
        if process.parents:
            _line("started by", " < ".join(map(screen.visible, process.parents)))
    else:
        _line("who", f"{who}: a process that could not be named")
    to = f"{question.target or 'no named target'} ({question.server}, {question.protocol})"
    _line("to", screen.visible(to))
    because = f": {screen.visible(question.reason)}" if question.reason else ""
    _line("rule", f"{screen.visible(question.rule)} ({screen.visible(question.file)}){because}")
    _line("needs", _needs(question))
    _line("bytes", f"{question.size}, sha256 {question.sha256[:16]}")
    for line in screen.visible_lines(question.message):
        click.echo(f"  {click.style('|', fg='yellow')} {line}")
    click.echo()


def _whole(question: Held, as_json: bool) -> None:
    """Print a question with its bytes: what they say to a person may be less than what they are."""
    if as_json:
        screen.json(question)
        return
    _print(question)
    for line in screen.visible_lines(question.raw.decode("utf-8", "backslashreplace").replace("\r\n", "\n")):
        click.echo(f"  {click.style(':', fg='yellow')} {line}")
    if not question.raw:
        click.echo("  they are a secret's, and are not shown")


def _needs(question: Held) -> str:
    more = question.needed - len(question.approved_by)
    of = f" of group {screen.visible(question.group)}" if question.group else ""
    given = f"; approved by {screen.visible(', '.join(question.approved_by))}" if question.approved_by else ""
    return f"{more} approver{'s' if more != 1 else ''}{of}{given}"


def _word(word: str) -> str:
    """Return a word of a command line so that its borders show."""
    text = screen.visible(word)
    return text if text and all(c.isalnum() or c in "-_./:=@%+," for c in text) else f"'{text}'"


def _line(name: str, text: str) -> None:
    click.echo(f"  {screen.faint(f'{name:<10}')} {text}")
