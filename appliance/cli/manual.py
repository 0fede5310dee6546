"""The man page and the completion for bash, made of the commands themselves, so that they say what those do.

The package prints them when it is built: `vendorgate manual man` and `vendorgate manual bash`.

Source: man(7) and groff_man_style(7); bash(1), "Programmable Completion".
"""

import inspect
import re
from collections.abc import Iterator
from importlib.metadata import version

import click

NAME = "vendorgate"
FILES = (
    ("/etc/vendorgate/vendorgate.yaml", "The settings. Without it all defaults hold. Schema: vendorgate rules schema."),
    ("/etc/vendorgate/rules.d/*.yaml", "The rules, in the order of their names; *.test.yaml beside them are tests."),
    ("/usr/share/vendorgate/rules", "Packs of rules to copy from; vendorgate init does."),
    ("/var/lib/vendorgate", "Records, their proof, keys. What a purge of the package leaves."),
    ("/run/vendorgate/control.sock", "What commands speak to; root's, and of group vendorgate-review."),
)
STATUS = (
    ("0", "Fine."),
    ("1", "The answer is no."),
    ("2", "Wrong use, or bad configuration."),
    ("3", "The host cannot do it."),
)
SHORT = "judge, mask, hold and record what vendors' agents do over the network"
UNITS = ("adopt", "release", "trust install")  # commands whose arguments are units


class Entry:
    """One command, with all its words."""

    def __init__(self, path: tuple[str, ...], command: click.Command, context: click.Context) -> None:
        self.path, self.command, self.context = path, command, context

    @property
    def options(self) -> list[tuple[str, str]]:
        """Return the options as --help shows them, without --help itself."""
        records = (option.get_help_record(self.context) for option in self.command.params)
        return [record for record in records if record]

    @property
    def usage(self) -> str:
        return " ".join(self.command.collect_usage_pieces(self.context))


def entries(group: click.Command) -> Iterator[Entry]:
    """Yield the commands below the top, each group before what is in it."""
    yield from _below((), group, click.Context(group, info_name=NAME))


def _below(path: tuple[str, ...], command: click.Command, context: click.Context) -> Iterator[Entry]:
    if path:
        yield Entry(path, command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None and not found.hidden:
                yield from _below((*path, name), found, click.Context(found, info_name=name, parent=context))


@click.command(hidden=True)
@click.argument("form", type=click.Choice(("man", "bash")))
@click.pass_context
def manual(ctx: click.Context, form: str) -> None:
    """Print the man page, or the completion for bash."""
    top = ctx.find_root().command
    click.echo(man(top) if form == "man" else completion(top), nl=False)


# -- the man page ------------------------------------------------------------------------------------------------------


def man(top: click.Command) -> str:
    """Return the page vendorgate(8)."""
    lines = [f'.TH VENDORGATE 8 "" "{NAME} {version(NAME)}" "System Administration"', ".SH NAME", f"{NAME} \\- {SHORT}"]
    lines += [".SH SYNOPSIS", f".B {NAME}", r"[\fB\-\-config\fR \fIFILE\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]"]
    lines += [".SH DESCRIPTION", *_prose(top.help or ""), ".SH COMMANDS"]
    for entry in entries(top):
        lines += [f".SS {NAME} {' '.join(entry.path)} {_plain(entry.usage)}", *_prose(entry.command.help or "")]
        for words, says in entry.options:
            lines += [".TP", f".B {_plain(words)}", _plain(says) if says else r"\&"]
    for head, pairs in (("FILES", FILES), ("EXIT STATUS", STATUS)):
        lines.append(f".SH {head}")
        for word, says in pairs:
            lines += [".TP", f".B {_plain(word)}", _plain(says)]
    lines += [".SH ENVIRONMENT", ".TP", ".B VENDORGATE_CONFIG", "The settings, where no \\-\\-config names them."]
    lines += [".TP", ".B NO_COLOR", "Print no colours, whatever its value.", ".SH SEE ALSO"]
    lines += [".BR systemd.unit (5),", ".BR systemd.slice (5),", ".BR nft (8),", ".BR cgroups (7)", ""]
    return "\n".join(lines)


def _prose(text: str) -> Iterator[str]:
    r"""Yield paragraphs; one that begins with \b is kept line by line."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            yield from (".PP", ".RS 4", ".nf", *map(_plain, paragraph[1:].strip("\n").split("\n")), ".fi", ".RE")
        else:
            yield from (".PP", _plain(" ".join(paragraph.split())))


def _plain(text: str) -> str:
    """Return text as roff prints it."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    return f"\\&{text}" if text[:1] in (".", "'") else text


# -- completion for bash -----------------------------------------------------------------------------------------------

SCRIPT = """\
# Completion of vendorgate(8) for bash; printed by `vendorgate manual bash`.
_vendorgate() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} path="" word i found=""
    local -A commands=({commands})
    local -A options=({options})
    local -A values=({values})
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${{COMP_WORDS[i]}}
        [[ $word == -- ]] && return
        [[ " ${{commands[_$path]-}} " == *" $word "* ]] && path=${{path:+$path }}$word
    done
    if [[ -n ${{values[$path $previous]-}} ]]; then
        found=${{values[$path $previous]}}
    elif [[ $current == -* ]]; then
        found=${{options[_$path]}}
    elif [[ -n ${{commands[_$path]-}} ]]; then
        found=${{commands[_$path]}}
    elif [[ " {units} " == *" ${{path// /:}} "* && $previous != -* ]]; then
        found=$(systemctl list-unit-files --no-legend --type=service 2>/dev/null |
            while read -r word i; do echo "$word"; done)
    fi
    mapfile -t COMPREPLY < <(compgen -W "$found" -- "$current")
}}
complete -o default -F _vendorgate vendorgate
"""


def completion(top: click.Command) -> str:
    """Return a script for bash that needs no vendorgate to run."""
    found = [Entry((), top, click.Context(top, info_name=NAME)), *entries(top)]
    commands = {
        " ".join(entry.path): " ".join(
            name
            for name in entry.command.list_commands(entry.context)
            if not (below := entry.command.get_command(entry.context, name)) or not below.hidden
        )
        for entry in found
        if isinstance(entry.command, click.Group)
    }
    options = {" ".join(entry.path): " ".join(_options(entry.command)) for entry in found}
    values = {
        f"{' '.join(entry.path)} {name}": " ".join(map(str, option.type.choices))
        for entry in found
        for option in entry.command.params
        if isinstance(option, click.Option) and isinstance(option.type, click.Choice)
        for name in option.opts
    }
    return SCRIPT.format(
        commands=_table(commands, "_"), options=_table(options, "_"), values=_table(values, ""),
        units=" ".join(path.replace(" ", ":") for path in UNITS),
    )  # fmt: skip


def _options(command: click.Command) -> Iterator[str]:
    for option in command.params:
        if isinstance(option, click.Option) and not option.hidden:
            yield from (name for name in (*option.opts, *option.secondary_opts) if name.startswith("--"))
    yield "--help"


def _table(entries: dict[str, str], mark: str) -> str:
    """Return the body of an associative array. No key may be empty, so that of the top is its mark."""
    return "\n" + "".join(f'        ["{mark}{key}"]="{words}"\n' for key, words in entries.items()) + "    "
