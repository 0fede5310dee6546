"""The picture of a terminal."""

from xml.etree import ElementTree

from appliance.lab.picture import COLUMNS, picture

SVG = "{http://www.w3.org/2000/svg}"


def texts(*lines: str) -> list[str]:
    return ["".join(row.itertext()) for row in ElementTree.fromstring(picture(lines)).iter(f"{SVG}text")]


def test_text_is_as_it_was() -> None:
    assert texts("psql> select 1 < 2 & 3\r\n", "\ta\n") == ["psql> select 1 < 2 & 3", "        a"]


def test_colours_are_styles_and_last_until_they_are_taken_back() -> None:
    root = ElementTree.fromstring(picture(["\x1b[1mone", "two\x1b[0m three"]))
    assert [span.text for span in root.iter(f"{SVG}tspan")] == ["one", "two"]


def test_what_else_a_terminal_is_told_is_left_out() -> None:
    assert texts("a\x1b[2Kb\x07c") == ["abc"]


def test_limit_columns() -> None:
    assert texts("x" * COLUMNS) == ["x" * COLUMNS]
    assert texts("x" * (COLUMNS + 1)) == ["x" * (COLUMNS - 1) + "…"]
