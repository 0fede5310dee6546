"""What is taken out of a command line, and what is left as it is."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.service.secrets import AUTHORIZATION, PAIR, PLAIN, URL, hide
from appliance.session.secret import veil

HIDDEN = {
    "connection string": (["psql", "host=db password=hunter2 user=a"], ["psql", "host=db password=*** user=a"]),
    "quoted": (["psql", "password='hun ter2' user=a"], ["psql", "password=*** user=a"]),
    "url": (["psql", "postgres://acme:hunter2@db/shop"], ["psql", "postgres://acme:***@db/shop"]),
    "variable": (["env", "PGPASSWORD=hunter2", "psql"], ["env", "PGPASSWORD=***", "psql"]),
    "prefixed variable": (["env", "AWS_SECRET=hunter2"], ["env", "AWS_SECRET=***"]),
    "option": (["mysql", "--password=hunter2"], ["mysql", "--password=***"]),
    "option and word": (["tool", "--token", "hunter2", "run"], ["tool", "--token", "***", "run"]),
    "header": (["curl", "-H", "Authorization: Bearer hunter2"], ["curl", "-H", "Authorization: ***"]),
    "query": (["curl", "https://x/?api_key=hunter2&a=1"], ["curl", "https://x/?api_key=***&a=1"]),
}
LEFT = (["psql", "-c", "select token from users"], ["python3", "compass=1.py"], ["git", "clone", "ssh://git@host/x"], [""], [])


@pytest.mark.parametrize("words", HIDDEN.values(), ids=HIDDEN.keys())
def test_is_hidden(words: tuple[list[str], list[str]]) -> None:
    assert list(hide(words[0])) == words[1]


@pytest.mark.parametrize("words", LEFT)
def test_is_left(words: list[str]) -> None:
    assert list(hide(words)) == words


@given(st.lists(st.text(max_size=60), max_size=6))
def test_no_word_is_added_or_lost(words: list[str]) -> None:
    assert len(hide(words)) == len(words)


@settings(deadline=None)
@given(st.from_regex(PLAIN, fullmatch=True))
def test_what_is_passed_at_a_glance_would_be_passed_anyway(word: str) -> None:
    shown = URL.sub("x", PAIR.sub("x", AUTHORIZATION.sub("x", veil(word))))
    assert shown == word


@pytest.mark.parametrize("word", ["password", "identified", "authorization", "token", "api-key", "secret/x.y", "pwd_x"])
def test_a_word_alone_is_no_secret(word: str) -> None:
    assert PLAIN.fullmatch(word)
    assert hide((word,)) == (word,) == (URL.sub("x", PAIR.sub("x", AUTHORIZATION.sub("x", veil(word)))),)
