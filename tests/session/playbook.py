"""A session test is a script: `>>` puts an event in, `<<` expects the next effect, nothing may be left over."""

from collections.abc import Callable
from types import TracebackType
from typing import Any

from appliance.model import Effect, Event, Note, Send, Side
from appliance.session import Session

Expect = Callable[[Effect], bool]


class Playbook:
    """Drives one session on a clock of its own, which starts at 100 s."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now = 100.0
        self.left: list[Effect] = list(session.start(self.now, wall=1_700_000_000.0))

    def __enter__(self) -> "Playbook":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None:
            assert not self.left, f"left over: {self.left}"

    def __rshift__(self, event: Event) -> "Playbook":
        assert not self.left, f"before {event}: left over: {self.left}"
        self.left = list(self.session.receive(event, self.now))
        return self

    def __lshift__(self, expect: Expect) -> "Playbook":
        assert self.left, f"expected {expect.__doc__ or expect}, but nothing more happens"
        effect = self.left.pop(0)
        assert expect(effect), f"expected {getattr(expect, 'what', expect)}, got {effect}"
        return self

    def wait(self, seconds: float) -> "Playbook":
        self.now += seconds
        return self

    def take(self) -> list[Effect]:
        """Return the effects not looked at, as a test that only wants one of them does."""
        left, self.left = self.left, []
        return left


def _named(what: str, test: Expect) -> Expect:
    test.what = what  # type: ignore[attr-defined]
    return test


def noted(kind: str, **fields: Any) -> Expect:
    """Expect a note of this kind; `verdict` and `rule` look into its decision, `has` into its text."""

    def test(effect: Effect) -> bool:
        if not isinstance(effect, Note) or effect.kind != kind:
            return False
        for name, value in fields.items():
            if name == "has":
                if value not in effect.text:
                    return False
            elif name in ("verdict", "rule"):
                if effect.decision is None or getattr(effect.decision, name) != value:
                    return False
            elif getattr(effect, name) != value:
                return False
        return True

    return _named(f"Note({kind}, {fields})", test)


def sent(to: Side, data: bytes | None = None, has: bytes = b"") -> Expect:
    """Expect bytes to one side: exactly `data`, or any that contain `has`."""

    def test(effect: Effect) -> bool:
        if not isinstance(effect, Send) or effect.to is not to:
            return False
        return effect.data == data if data is not None else has in effect.data

    return _named(f"Send({to}, {data!r}{has!r})", test)


def a(kind: type, **fields: Any) -> Expect:
    """Expect an effect of a type with these fields."""
    return _named(
        f"{kind.__name__}({fields})",
        lambda effect: isinstance(effect, kind) and all(getattr(effect, k) == v for k, v in fields.items()),
    )
