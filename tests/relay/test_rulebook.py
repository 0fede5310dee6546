"""The rules directory: what is read, what counts as a change, and names."""

import threading
from pathlib import Path

import pytest

from appliance.model import ConfigError
from appliance.service import rulebook
from appliance.service.rulebook import MAX_ADDRESSES, MAX_FILES, MAX_TEXT, Names


def test_files_are_read_in_name_order_and_tests_are_left_out(tmp_path: Path) -> None:
    rules = tmp_path / "rules.d"
    rules.mkdir()
    for name in ("20-b.yaml", "10-a.yaml", "10-a.test.yaml", ".20-b.yaml.swp", ".hidden.yaml", "README"):
        (rules / name).write_text(f"# {name}")
    assert rulebook.read(rules).texts == (
        ("rules.d/10-a.yaml", "# 10-a.yaml"),
        ("rules.d/20-b.yaml", "# 20-b.yaml"),
    )


def test_stamp_changes_with_a_save_a_rename_and_a_removal(tmp_path: Path) -> None:
    seen = [rulebook.stamp(tmp_path)]
    (tmp_path / "a.yaml").write_text("one")
    seen.append(rulebook.stamp(tmp_path))
    (tmp_path / "a.yaml").write_text("two, longer")
    seen.append(rulebook.stamp(tmp_path))
    (tmp_path / ".new").write_text("two, longer")
    (tmp_path / ".new").rename(tmp_path / "a.yaml")
    seen.append(rulebook.stamp(tmp_path))
    (tmp_path / "a.yaml").rename(tmp_path / "b.yaml")
    seen.append(rulebook.stamp(tmp_path))
    (tmp_path / "b.yaml").unlink()
    assert len(set(seen)) == 5
    assert rulebook.stamp(tmp_path) == seen[0]


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda d: (d / "a.yaml").write_bytes(b"ok: \xff"), "a.yaml: is not UTF-8 at byte 4"),
        (lambda d: (d / "a.yaml").mkdir(), "a.yaml: cannot be read: Is a directory"),
        (lambda d: (d / "a.yaml").symlink_to("/no/such"), "cannot be read: No such file or directory"),
        (lambda d: d.rmdir(), "cannot be read: No such file or directory"),
    ],
    ids=["no utf-8", "a directory", "a dangling link", "no directory"],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, make: object, what: str) -> None:
    rules = tmp_path / "rules.d"
    rules.mkdir()
    make(rules)  # type: ignore[operator]
    with pytest.raises(ConfigError) as caught:
        rulebook.read(rules)
    assert what in str(caught.value)
    assert caught.value.hint


def test_max_text_is_the_most_of_all_files_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"#" * (MAX_TEXT - 10))
    (tmp_path / "b.yaml").write_bytes(b"#" * 10)
    rulebook.read(tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"#" * 11)
    with pytest.raises(ConfigError, match=f"over {MAX_TEXT} bytes"):
        rulebook.read(tmp_path)


def test_max_files(tmp_path: Path) -> None:
    for number in range(MAX_FILES + 1):
        (tmp_path / f"{number}.yaml").touch()
    with pytest.raises(ConfigError, match=f"over {MAX_FILES} files"):
        rulebook.stamp(tmp_path)


class Zone:
    """A resolver whose answers a test changes."""

    def __init__(self) -> None:
        self.answers: dict[str, list[str]] = {"db": ["10.0.0.2", "10.0.0.1"]}
        self.asked: list[str] = []

    def lookup(self, name: str) -> list[str]:
        self.asked.append(name)
        if name not in self.answers:
            raise OSError(f"{name} is unknown")
        return self.answers[name]


def test_name_is_looked_up_once_until_it_is_refreshed() -> None:
    zone = Zone()
    names = Names(zone.lookup)
    assert names.resolve("db") == names.resolve("db") == ("10.0.0.1", "10.0.0.2")
    assert zone.asked == ["db"]
    assert not names.refresh()
    zone.answers["db"] = ["10.0.0.3"]
    assert names.refresh()
    assert names.known == {"db": ("10.0.0.3",)}


def test_name_that_fails_later_keeps_its_addresses() -> None:
    zone = Zone()
    names = Names(zone.lookup)
    names.resolve("db")
    del zone.answers["db"]
    assert not names.refresh()
    assert names.resolve("db") == ("10.0.0.1", "10.0.0.2")
    assert names.failed == {"db": "db is unknown"}


def test_name_that_never_resolved_is_an_error_and_is_tried_again() -> None:
    zone = Zone()
    names = Names(zone.lookup)
    with pytest.raises(OSError, match="new is unknown"):
        names.resolve("new")
    zone.answers["new"] = ["10.0.0.9"]
    assert names.resolve("new") == ("10.0.0.9",)
    assert names.failed == {}


def test_names_no_rule_has_are_forgotten() -> None:
    names = Names(Zone().lookup)
    names.resolve("db")
    names.keep([])
    assert names.known == {}


def test_max_addresses_of_one_name() -> None:
    names = Names(lambda name: [f"10.0.{n // 256}.{n % 256}" for n in range(1000)])
    assert len(names.resolve("many")) == MAX_ADDRESSES


def test_resolver_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()

    def silent(*args: object, **named: object) -> list[object]:
        answer.wait(60)
        return []

    monkeypatch.setattr("socket.getaddrinfo", silent)
    try:
        with pytest.raises(TimeoutError, match=r"no answer in 0\.05 s"):
            rulebook.addresses("slow.example", 0.05)
        assert not answer.is_set()
    finally:
        answer.set()


def test_localhost_resolves_for_real() -> None:
    assert "127.0.0.1" in rulebook.addresses("localhost")
