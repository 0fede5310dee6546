"""The man page and the completion: every command and option is in them, and groff and bash take them."""

import re
import subprocess
from pathlib import Path

import pytest

from appliance.cli import COMMANDS, cli
from appliance.cli.manual import completion, entries, man


@pytest.fixture(scope="module")
def page() -> str:
    return man(cli)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bash") / "vendorgate"
    path.write_text(completion(cli))
    return path


def complete(script: Path, *words: str) -> list[str]:
    """Return what bash would offer at the end of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    code = f'source "{script}"; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _vendorgate; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "--norc", "-u", "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.split()


def test_groff_has_nothing_to_say(page: str) -> None:
    done = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8"], input=page, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_and_option_is_on_the_page(page: str) -> None:
    done = subprocess.run(["groff", "-man", "-Tascii", "-rLL=300n", "-P-cbou"], input=page, capture_output=True, text=True, timeout=30)
    shown = re.sub(r"\s+", " ", done.stdout)
    for entry in entries(cli):
        assert f"vendorgate {' '.join(entry.path)} " in shown
        for words, _ in entry.options:
            assert words.split()[0].rstrip(",") in shown
    for name in COMMANDS:
        assert f"vendorgate {name}" in shown
    assert "vendorgate adopt acme.service --restart" in shown  # examples stand as they are typed
    assert "manual" not in {entry.path[0] for entry in entries(cli)}


@pytest.mark.parametrize(
    ("words", "some"),
    [
        (["vendorgate", ""], {"run", "adopt", "learn", "sessions"}),
        (["vendorgate", "ado"], {"adopt"}),
        (["vendorgate", "--con"], {"--config"}),
        (["vendorgate", "rules", ""], {"check", "test", "explain", "schema"}),
        (["vendorgate", "rules", "explain", "--be"], {"--before"}),
        (["vendorgate", "init", "--may", ""], {"read-only", "hygiene", "nothing"}),
        (["vendorgate", "--config", "x", "sessions", "--verdict", "bl"], {"block"}),
        (["vendorgate", "learn", "--"], {"--for", "--since", "--open", "--help"}),
    ],
)
def test_what_bash_offers(script: Path, words: list[str], some: set[str]) -> None:
    found = complete(script, *words)
    assert some <= set(found), found
    assert all(word.startswith(words[-1]) for word in found)


def test_after_two_dashes_it_is_another_command(script: Path) -> None:
    assert complete(script, "vendorgate", "exec", "--identity", "ci", "--", "ru") == []


def test_the_command_prints_both(capsys: pytest.CaptureFixture[str], page: str, script: Path) -> None:
    from appliance.cli import main

    assert main(["manual", "man"]) == 0
    assert capsys.readouterr().out == page
    assert main(["manual", "bash"]) == 0
    assert capsys.readouterr().out == script.read_text()


def test_every_help_teaches_by_an_example() -> None:
    for entry in entries(cli):
        help = entry.command.help or ""
        assert "\b" in help and entry.path[-1] in help.partition("\b")[2].split(), f"{entry.path}: no example"
