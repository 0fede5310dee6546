"""What is taken out of a command line, and what is left as it is."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.service.secrets import AUTHORIZATION, PAIR, PLAIN, URL, hide
from appliance.session.secret import MAX_PLACES, WORDS, veil

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


def test_words_of_secrets_far_from_each_other_cost_no_copy_of_the_whole_each() -> None:
    """72 places in a value of 32 MB: the whole was put together anew for each of them, in 3 s."""
    text = "".join((word + " 'x'" + " " * 450_000) * MAX_PLACES for word in WORDS)
    began = time.process_time()
    veil(text)
    assert time.process_time() - began < 1.5


@settings(deadline=None)
@given(st.from_regex(PLAIN, fullmatch=True))
def test_what_is_passed_at_a_glance_would_be_passed_anyway(word: str) -> None:
    shown = URL.sub("x", PAIR.sub("x", AUTHORIZATION.sub("x", veil(word))))
    assert shown == word


@pytest.mark.parametrize("word", ["password", "identified", "authorization", "token", "api-key", "secret/x.y", "pwd_x"])
def test_a_word_alone_is_no_secret(word: str) -> None:
    assert PLAIN.fullmatch(word)
    assert hide((word,)) == (word,) == (URL.sub("x", PAIR.sub("x", AUTHORIZATION.sub("x", veil(word)))),)
