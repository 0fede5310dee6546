"""A session played again on a terminal: keys steer it, and the terminal is as it was whatever ends it."""

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.record.replay import LEAST, MOST, PAUSED, replay
from tests.record import dialogue as d
from tests.record.samples import ASK_DBA, NO_DROP, T, asked, closed, flow, opened, write
from tests.record.test_pcapng import frames
from tests.record.test_show import session

PATIENCE_S = 20.0


class Keys:
    """Presses keys in the order of a script, each when the player waits; remembers how long it would have waited."""

    def __init__(self, script: list[str | None]) -> None:
        self.script, self.waits, self.out = script, [], []  # type: ignore[var-annotated]

    def __call__(self, seconds: float | None) -> str | None:
        self.waits.append(seconds)
        return self.script.pop(0) if self.script else None

    def play(self, **how: float) -> str:
        replay(session(), self.out.append, self, **how)  # type: ignore[arg-type]
        return "".join(self.out)


def test_without_a_key_it_runs_as_it_ran() -> None:
    keys = Keys([])
    assert "closed ended" in keys.play()
    assert keys.waits == [1.0] * 13


def test_space_pauses_and_goes_on() -> None:
    keys = Keys([None, " ", " "])
    text = keys.play()
    assert keys.waits[:4] == [1.0, 1.0, None, 1.0]
    assert text.count(PAUSED) == 1 and PAUSED + "\r\x1b[K" in text
    assert "closed ended" in text


def test_n_jumps_to_the_next_verdict_and_stays_there() -> None:
    keys = Keys(["n", "n", "n", "q"])
    text = keys.play()
    shown = text.split(PAUSED)
    assert "masked by hide-ssn" in shown[0].splitlines()[-2]
    assert "block no-drop" in shown[1].splitlines()[-1]
    assert "held dba" in shown[2].splitlines()[-1]
    assert "answered" not in text
    assert keys.waits == [1.0, None, None, None]


def test_n_after_the_last_verdict_runs_to_the_end() -> None:
    assert "closed ended" in Keys(["n"] * 6).play()


def test_another_key_goes_one_line_further_while_paused() -> None:
    keys = Keys([" ", "x", "x", "q"])
    text = keys.play()
    assert text.count(PAUSED) == 3
    assert "auth" in text and "select name" not in text


def test_plus_and_minus_change_the_speed_within_bounds() -> None:
    keys = Keys(["+", "+", "-", None, "-", "-"])
    keys.play()
    assert keys.waits[:7] == [1.0, 0.5, 0.25, 0.5, 0.5, 1.0, 2.0]
    assert (LEAST, MOST) == (1 / 64, 1024.0)
    keys = Keys(["+"] * 13)
    keys.play(speed=MOST)
    assert set(keys.waits) == {1 / MOST}
    keys = Keys(["-"] * 13)
    keys.play(speed=LEAST)
    assert set(keys.waits) == {64.0}


def test_q_ends_it_at_once() -> None:
    text = Keys([None, "q"]).play()
    assert "opened" in text and "auth" not in text


def test_a_terminal_that_is_gone_while_paused_ends_it() -> None:
    assert "auth" not in Keys([None, " ", None]).play()


# -- on a terminal ----------------------------------------------------------------------------------------------


class Screen:
    """`vendorgate replay` on a terminal of its own."""

    def __init__(self, home: Path, *words: str, before: str = "") -> None:
        config = home / "vendorgate.yaml"
        config.write_text(f"state_dir: {home}/state\nruntime_dir: {home}/run\n")
        self.ours, self._theirs = pty.openpty()
        self.before = termios.tcgetattr(self._theirs)
        code = f"import sys\n{before}\nfrom appliance.cli import main\nsys.exit(main(sys.argv[1:]))"
        heeding = ["env", "--default-signal=INT,HUP"]  # who runs the tests in the background has them ignored
        self.process = subprocess.Popen(
            [*heeding, sys.executable, "-c", code, "--config", str(config), "replay", "last", *words],
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            start_new_session=True,
            env={**os.environ, "TERM": "xterm"},
        )
        self.seen = ""

    def press(self, key: str) -> None:
        os.write(self.ours, key.encode())

    def expect(self, text: str) -> None:
        """Wait until `text` is on the screen, after what was expected before."""
        end = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            ready, _, _ = select.select([self.ours], [], [], 0.2)
            if ready:
                self.seen += os.read(self.ours, 4096).decode("utf-8", "replace")
        self.seen = self.seen.split(text, 1)[1]

    def wait(self, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not ready():
            assert time.monotonic() < end
            time.sleep(0.02)

    @property
    def mode(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    @property
    def single(self) -> bool:
        return not termios.tcgetattr(self._theirs)[3] & termios.ICANON

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        os.close(self.ours)
        os.close(self._theirs)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    records = tmp_path / "state" / "records"
    records.mkdir(parents=True)
    notes = [opened(), *asked("select 1"), *asked("drop table t", NO_DROP), *asked("alter", ASK_DBA)[:1], closed()]
    for number, note in enumerate(notes):
        write(records, flow("f1"), [note], T + number * 3600)
        path = next(iter(records.glob("wf1.*")))
        path.rename(records / f"w{number}.{path.name.split('.', 1)[1]}")
    return tmp_path


@pytest.fixture
def screens(home: Path) -> Iterator[Callable[..., Screen]]:
    made: list[Screen] = []

    def make(*words: str, before: str = "") -> Screen:
        made.append(Screen(home, *words, before=before))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_keys_steer_it(screens: Callable[..., Screen]) -> None:
    screen = screens("--max-wait", "3600")
    screen.expect("opened")
    screen.wait(lambda: screen.single)
    screen.press(" ")
    screen.expect("-- paused")
    screen.press("n")
    screen.expect("no-drop")
    screen.expect("-- paused")
    screen.press("q")
    assert screen.process.wait(PATIENCE_S) == 0
    assert screen.mode == screen.before
    assert "alter" not in screen.seen


BREAK = """
import appliance.record.replay as r
def broken(*_): raise SystemExit(7)
r.Player._key = broken
"""


@pytest.mark.parametrize("how", ["q", "^C", "TERM", "HUP", "KILL", "fault", "end"])
def test_the_terminal_is_as_it_was_whatever_ends_it(screens: Callable[..., Screen], how: str) -> None:
    words = ["--speed", "inf"] if how == "end" else ["--max-wait", "3600"]
    screen = screens(*words, before=BREAK if how == "fault" else "")
    if how == "end":
        screen.expect("closed")
    else:
        screen.expect("opened")
        screen.wait(lambda: screen.single)
    match how:
        case "q" | "fault":
            screen.press("q")
        case "^C":
            screen.process.send_signal(signal.SIGINT)
        case "TERM" | "HUP" | "KILL":
            screen.process.send_signal(getattr(signal, f"SIG{how}"))
    screen.process.wait(PATIENCE_S)
    screen.wait(lambda: screen.mode == screen.before)


def test_it_has_single_keys_again_after_a_stop(screens: Callable[..., Screen]) -> None:
    screen = screens("--max-wait", "3600")
    screen.expect("opened")
    screen.wait(lambda: screen.single)
    screen.process.send_signal(signal.SIGSTOP)
    termios.tcsetattr(screen._theirs, termios.TCSANOW, screen.before)  # as a shell does
    screen.process.send_signal(signal.SIGCONT)
    screen.wait(lambda: screen.single)
    screen.press("q")
    assert screen.process.wait(PATIENCE_S) == 0
    assert screen.mode == screen.before


def test_elsewhere_it_is_plain_text(home: Path) -> None:
    config = home / "vendorgate.yaml"
    config.write_text(f"state_dir: {home}/state\nruntime_dir: {home}/run\n")
    words = [sys.executable, "-m", "appliance.cli", "--config", str(config), "replay", "last", "--max-wait", "0"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert "= block no-drop" in done.stdout and "+21600.000   - closed ended" in done.stdout


def test_the_dialogue_of_the_samples_plays_to_its_end() -> None:
    out: list[str] = []
    found = [msgspec.structs.replace(f, time=T) for f in frames(d.whole())]
    replay(found, out.append, lambda seconds: None)
    assert "- closed ended\n" in out[-1]
