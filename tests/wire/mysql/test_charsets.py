"""Character sets by number and name."""

import pytest

from appliance.wire.mysql import charsets


@pytest.mark.parametrize(
    ("collation", "name"),
    [
        (8, "latin1"), (45, "utf8mb4"), (255, "utf8mb4"), (33, "utf8mb3"), (28, "gbk"), (13, "sjis"), (63, "binary"),
        (309, "utf8mb4"), (1070, "utf8mb4"), (1057, "utf8mb3"), (2048, "utf8mb3"), (2304, "utf8mb4"), (2816, "utf16"),
        (608, "utf8mb4"), (3327, "utf32"), (4000, ""), (0, ""), (17, ""),
    ],
)  # fmt: skip
def test_numbers(collation: int, name: str) -> None:
    assert charsets.numbered(collation).name == name


def test_every_codec_is_one_of_python() -> None:
    for name in charsets.CODECS:
        one = charsets.named(name)
        assert one.decode(one.encode("select 1")) == "select 1"


def test_what_is_not_known_stays_visible() -> None:
    assert charsets.named("swe7").decode(b"a\xff") == "a\udcff"
    assert charsets.named("no_such").decode(b"\xe9") == "\udce9"
    assert charsets.named("utf8mb4").decode(b"\xe9") == "\udce9"
    assert charsets.named("utf16").decode(b"abc") == "abc"
    assert charsets.named("UTF8").codec == "utf-8"


def test_a_client_does_not_speak_in_wide_characters() -> None:
    assert charsets.of_client(35).codec == charsets.of_client(54).codec == charsets.of_client(60).codec == ""
    assert charsets.of_client(8).name == "latin1"


def test_words_of_our_own() -> None:
    assert charsets.named("latin1").speak("né €日") == b"n\xe9 \x80?"
    assert charsets.named("binary").speak("é") == b"?"
