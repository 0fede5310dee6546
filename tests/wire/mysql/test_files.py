"""Whether a statement names a file."""

import pytest

from appliance.wire.mysql.files import names

NAMED = [
    "load data local infile 'a' into table t",
    'LOAD DATA LOW_PRIORITY LOCAL INFILE "a" INTO TABLE t',
    "load xml concurrent local infile 'a' into table t",
    "select 1; /* x */ load data -- y\n local infile # z\n 'a' into table t",
    "/*!50000 load data local infile 'a' */ into table t",
    "/*M!100100 load */ data local infile 'a' into table t",
    "load data local infile\t'a'into table t",
]
NOT_NAMED = [
    "select 1",
    "",
    "load data infile 'a' into table t",
    "load data local infile 'b' into table t fields terminated by 'a'",
    "select 'load data local infile ''a'''",
    'select "load data local infile", \'a\'',
    "select 1 -- load data local infile 'a'",
    "select 1 # load data local infile 'a'",
    "/* load data local infile 'a' */ select 1",
    "select load data local infile 'a'",
    "explain load data local infile 'a'",
    "select `; load data local infile`, 'a'",
    "load data local infile 'a",
]


@pytest.mark.parametrize("text", NAMED)
def test_named(text: str) -> None:
    assert names(text, "a", True)
    assert names(text, "a", False)
    assert not names(text, "b", True)


@pytest.mark.parametrize("text", NOT_NAMED)
def test_not_named(text: str) -> None:
    assert not names(text, "a", True)
    assert not names(text, "a", False)


def test_what_a_literal_says() -> None:
    assert names(r"load data local infile 'C:\\a\n\x' into table t", "C:\\a\nx", True)
    assert names(r"load data local infile 'C:\a' into table t", r"C:\a", False)
    assert not names(r"load data local infile 'C:\a' into table t", r"C:\a", True)
    assert names("load data local infile 'it''s' into table t", "it's", True)
    assert names('load data local infile "say ""hi""" into table t', 'say "hi"', True)
    assert not names(r"select '\'; load data local infile ', 'a'", "a", True)


def test_time_over_a_long_text() -> None:
    for text in ("'" * 200_001, "/*" * 100_000, "load " * 50_000, "\\" * 200_000, '"\\' * 100_000):
        assert not names(text, "a", True)
        assert not names(text, "a", False)
