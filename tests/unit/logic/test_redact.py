import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.kit import ids
from hivectl.logic import redact

SECRETS = {
    "anthropic": "sk-ant-api03-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
    "hive": "hive_" + "Ab1-" * 10 + "xyz",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",
    "aws id": "AKIAIOSFODNN7EXAMPLE",
    "github classic": "ghp_" + "a1B2" * 9,
    "github fine": "github_pat_" + "a1B2c3" * 10,
    "gitlab": "glpat-" + "a1B2c3d4" * 3,
    "slack": "xoxb-123456789012-abcdefABCDEF",
    "google": "AIza" + "SyA1b2C3d4" * 4,
}


@pytest.mark.parametrize("name", SECRETS)
def test_s45_known_shapes_are_taken_out_anywhere(name: str) -> None:
    secret = SECRETS[name]
    for text in (
        secret,
        f"x {secret} y",
        f'{{"a":"{secret}"}}',
        f"url?k={secret}&b=1",
        f"({secret})",
    ):
        assert secret not in redact.redact_text(text)
    assert redact.redact_text(f"before {secret} after") == f"before {redact.MASK} after"


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-123",
        "authorization: Basic dXNlcjpwYXNz",
        '{"Authorization": "token abcdef123"}',
        "proxy-authorization=Bearer abcdef123",
        "curl -H 'Authorization: abcdef123dXNlcjpwYXNz'",
        "Authorization: Negotiate abcdef123",
        "Authorization: AWS4-HMAC-SHA256 Credential=x/y, Signature=abcdef123",
        'Authorization: Digest username="me", response="abcdef123"',
        'Authorization:   "Own abcdef123"',
        "Cookie: theme=dark; session=abcdef123",
        "set-cookie: a=b; x=abcdef123",
    ],
)
def test_s45_authorization_headers_lose_their_value(text: str) -> None:
    shown = redact.redact_text(text)
    assert redact.MASK in shown
    for secret in ("abc.def-123", "dXNlcjpwYXNz", "abcdef123"):
        assert secret not in shown


def test_s45_private_keys_go_whole_even_when_cut() -> None:
    key = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow\nIBAAKC\n-----END RSA PRIVATE KEY-----"
    assert redact.redact_text(f"a\n{key}\nb") == f"a\n{redact.MASK}\nb"
    assert redact.redact_text(f"a {key[:50]}") == f"a {redact.MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter22",
        "AWS_SECRET_ACCESS_KEY = wJalrXUtnFEMI/K7MDENG",
        "api-key: abcdefgh",
        '"client_secret": "abcdefgh"',
        "https://example.org/?access_token=abcdefgh&x=1",
        "ANTHROPIC_AUTH_TOKEN=abcdefgh",
    ],
)
def test_s45_assignments_to_telling_names_lose_their_value(text: str) -> None:
    shown = redact.redact_text(text)
    assert redact.MASK in shown
    for secret in ("hunter22", "wJalrXUtnFEMI/K7MDENG", "abcdefgh"):
        assert secret not in shown


WORDS = st.lists(st.integers(0, 16**6).map(lambda n: f"bird{n:06x}"), min_size=1, max_size=6)
SPACES = st.sampled_from([" ", "  ", "\t", ", ", "; ", " = ", ": ", '" ', "' ", "\\ ", "} ", "&"])
NAMES = st.sampled_from(
    ["password", "client_secret", "API_KEY", "x-api-key", "GITHUB_TOKEN", "db-passphrase"]
)
SIGNS = st.sampled_from(["=", ": ", " = ", ":", "      = "])


def json_in(value: object, depth: int) -> str:
    for _ in range(depth):
        value = json.dumps(value)
    return str(value)


@given(NAMES, SIGNS, WORDS, SPACES, st.sampled_from(["", "b"]), st.text(max_size=40))
def test_s45_a_quoted_value_goes_whole(name: str, sign: str, words: list[str], space: str, kind: str, after: str) -> None:  # fmt: skip
    value = space.join(words)
    for quoted in (json.dumps(value), repr(value)):
        shown = redact.redact_text(f"x {name}{sign}{kind}{quoted} {after}")
        assert not [word for word in words if word in shown.removesuffix(after)]


@given(NAMES, WORDS, SPACES, st.integers(1, 4))
def test_s45_so_does_one_in_json_within_json(
    name: str, words: list[str], space: str, depth: int
) -> None:
    shown = redact.redact_text(json_in({name: space.join(words), "user": "me"}, depth))
    assert not [word for word in words if word in shown]
    if "\\" not in space:
        assert "me" in shown


@given(WORDS, SPACES, st.text(alphabet="abcXYZ-09", min_size=1, max_size=20), st.booleans())
def test_s45_a_header_loses_all_behind_its_name_whatever_the_scheme(
    words: list[str], space: str, scheme: str, is_quoted: bool
) -> None:
    value = space.join([scheme, *words])
    line = f"Authorization: {value}"
    shown = redact.redact_text(f"GET /\r\n{line}\r\nAccept: x")
    assert shown == f"GET /\r\nAuthorization: {redact.MASK}\r\nAccept: x"
    shown = redact.redact_text(json.dumps([line, "Accept: x"]))
    assert not [word for word in words if word in shown]
    shown = redact.redact_text(json.dumps({"authorization": value, "accept": "x"}))
    assert not [word for word in words if word in shown]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("most", range(8, 30))
def test_s45_what_was_cut_off_and_marked_so_is_found_too(name: str, most: int) -> None:
    cut = SECRETS[name][:most] + "…"
    assert redact.redact_text(f"Bash: {cut}") in {f"Bash: {redact.MASK}", f"Bash: {redact.MASK}…"} or most < 15  # fmt: skip


@pytest.mark.parametrize("most", range(60))
def test_s45_an_excerpt_holds_no_half_of_a_secret(most: int) -> None:
    for secret in SECRETS.values():
        shown = redact.excerpt(f"{'x' * 20} {secret} {'y' * 600}", most)
        assert len(shown) <= most
        assert f"{'x' * 20} {redact.MASK} {'y' * 600}".startswith(shown)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("password='a b' user=bob", f"password='{redact.MASK}' user=bob"),
        ('{"token": "a b", "n": 1}', f'{{"token": "{redact.MASK}", "n": 1}}'),
        ("password='a b\nnext line", f"password='{redact.MASK}\nnext line"),
        ("curl -H 'Authorization: X a b' url", f"curl -H 'Authorization: {redact.MASK}' url"),
        ("token_path='a b' x", "token_path='a b' x"),
        ("token_path='password=abc' x", f"token_path='password={redact.MASK}' x"),
        ("env.API_KEY: must be a text", "env.API_KEY: must be a text"),
        ('password=""', 'password=""'),
    ],
)
def test_s45_no_more_than_the_value_is_masked(text: str, shown: str) -> None:
    assert redact.redact_text(text) == shown


def test_s45_passwords_in_urls_are_taken_out() -> None:
    shown = redact.redact_text("fetch https://user:hunter22@example.org/x")
    assert shown == f"fetch https://user:{redact.MASK}@example.org/x"


@pytest.mark.parametrize(
    "text",
    [
        "input_tokens=5123 output_tokens: 88",
        "token_file=/home/a/.local/state/hivectl/token",
        "the secret of good soup",
        "session 9f1c4a52-6a6f-4d7a-9a57-3d2ad8b8c1ce",
        "x_06d5k2v0w4m8q1t3z7y9 ended",
        "hive_mind is a word",
    ],
)
def test_harmless_text_stays(text: str) -> None:
    assert redact.redact_text(text) == text


def test_s45_values_under_secret_names_are_masked_at_any_depth() -> None:
    value = {"a": [{"api_key": "abc", "b": (1, "ok")}], "Authorization": {"x": 1}, "tokens": 5}
    assert redact.redact_value(value) == {
        "a": [{"api_key": redact.MASK, "b": [1, "ok"]}],
        "Authorization": redact.MASK,
        "tokens": 5,
    }


def test_numbers_under_secret_names_stay_numbers() -> None:
    assert redact.redact_value({"token": 5, "password": None}) == {"token": 5, "password": None}


def test_secret_used_as_a_key_is_masked_too() -> None:
    assert redact.redact_value({SECRETS["anthropic"]: 1}) == {redact.MASK: 1}


def test_bytes_are_only_counted() -> None:
    assert redact.redact_value(b"hunter22") == "<8 bytes>"


def test_endless_nesting_ends() -> None:
    value: list[object] = []
    value.append(value)
    assert "..." in str(redact.redact_value(value))


@given(st.text(), st.text())
def test_s45_every_token_we_make_is_found_in_any_surrounding(before: str, after: str) -> None:
    token = ids.make_token()
    assert token not in redact.redact_text(f"{before} {token} {after}")


@given(
    st.lists(
        st.sampled_from([*"abc=: \n'\"\\-_./[]b", "token", "eyJ", "sk-ant", "authorization", "cookie", redact.MASK]),
        max_size=60,
    ).map("".join)
)  # fmt: skip
def test_redaction_is_stable(text: str) -> None:
    once = redact.redact_text(text)
    assert redact.redact_text(once) == once


@pytest.mark.parametrize(
    "unit",
    [
        "a", "token", "token=", "eyJ", "eyJaaaaaa.", "-----BEGIN ", "https://a:", "sk-", "Bearer ", "\\", '\\"', "\\'a",
        'token="', "token='\\", 'token="\n', 'token=\\"', 'authorization:"', "authorization:", "'authorization=\n",
        "token      ", "-token_id=", "cookie:\\\\\\",
    ],
)  # fmt: skip
def test_hostile_text_costs_linear_time(unit: str) -> None:
    text = unit * (400_000 // len(unit))
    began = time.monotonic()
    redact.redact_text(text)
    assert time.monotonic() - began < 3
