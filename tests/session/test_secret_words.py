"""Looking for a secret only where its words are finds the same as looking everywhere."""

from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.session import secret

PARTS = ["password", "PassWord", "passwd", "pwd", "passphrase", "identified", "by", "as", "client_secret", "secret_access_key", "secretkey", "access_token", "authtoken", "api-key", "apikey", "API_KEY", "sslpassword", "=", "'x_y'", '"q"', "$$z$$", "://", "u:p@h", "authorization:_b", "cookie:_a", "token=abc", "secret=1", "&", "paſsword", "Key", "api-Key", "İdentıfied", "with_x", ":", ">", "é"]
TEXTS = st.lists(st.sampled_from([*(part.replace("_", " ") for part in PARTS), *PARTS, " ", "\n"]), max_size=9).map("".join)


def everywhere(text: str) -> str:
    for start, end in secret._places(text):
        part = text[start:end]
        for _, pattern in secret._SECRETS:
            part = pattern.sub(secret._covered, part)
        text = text[:start] + part + text[end:]
    return text


@settings(max_examples=1500, deadline=None)
@given(TEXTS)
def test_patterns_that_are_left_out_would_have_found_nothing(text: str) -> None:
    assert secret.veil(text) == everywhere(text)


def test_the_texts_of_that_test_hold_secrets() -> None:
    assert secret.veil("alter role r password 'x y'") == "alter role r password *****"
    assert secret.veil("GET /\nauthorization: b") == "GET /\nauthorization: *"
