from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sottovoce.core.errors import ConfigError
from sottovoce.edge.storeurl import StoreUrl, parse_store_url

REDIS = StoreUrl(kind="redis", host="127.0.0.1", port=6379, database="0")
POSTGRES = StoreUrl(kind="postgresql", user="gate", host="db.example", port=5432, database="spent", tls=True)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("/var/lib/spent.sqlite", StoreUrl(kind="sqlite", path="/var/lib/spent.sqlite")),
        ("spent.sqlite", StoreUrl(kind="sqlite", path="spent.sqlite")),
        ("sqlite:/a%20b?tokens=5&seconds=0.5", StoreUrl(kind="sqlite", path="/a b", tokens=5, seconds=0.5)),
        ("redis://127.0.0.1", REDIS),
        ("redis://127.9.9.9/3", replace(REDIS, host="127.9.9.9", database="3")),
        ("valkey://localhost:7000/", replace(REDIS, host="localhost", port=7000)),
        ("redis://[::1]", replace(REDIS, host="::1")),
        ("redis:///2?socket=/run/x.sock", replace(REDIS, host="", port=0, socket="/run/x.sock", database="2")),
        ("rediss://u@r.example?ca=/a.pem", replace(REDIS, host="r.example", user="u", tls=True, ca="/a.pem")),
        ("valkeys://r.example", replace(REDIS, host="r.example", tls=True)),
        ("postgresql://gate@db.example/spent", POSTGRES),
        ("postgres://gate@127.0.0.1:1/spent", replace(POSTGRES, host="127.0.0.1", port=1, tls=False)),
        ("postgresql://gate@/spent?socket=/run/pg", replace(POSTGRES, host="", port=0, socket="/run/pg", tls=False)),
        (f"redis://127.0.0.1?store={'0a' * 16}&tokens=1", replace(REDIS, store="0a" * 16, tokens=1)),
    ],
)  # fmt: skip
def test_where_a_store_is(text: str, wanted: StoreUrl) -> None:
    assert parse_store_url(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no store"),
        ("mysql://127.0.0.1/x", "unknown scheme"),
        ("http://127.0.0.1/", "unknown scheme"),
        ("redis://:canary@127.0.0.1", "holds a password"),
        ("postgresql://a:canary@127.0.0.1/b", "holds a password"),
        ("redis://127.0.0.1/0#x", "fragment"),
        ("redis://127.0.0.1/0#", "fragment"),
        ("redis://127.0.0.1:x/0", "malformed"),
        ("redis://127.0.0.1:99999/0", "malformed"),
        ("redis://[::1/0", "malformed"),
        ("redis://127.0.0.1?size=1", "unknown or repeated"),
        ("redis://127.0.0.1?tokens=1&tokens=2", "unknown or repeated"),
        ("sqlite:/a?store=" + "0" * 32, "unknown or repeated"),
        ("redis://127.0.0.1?tokens", "malformed options"),
        ("redis://127.0.0.1?tokens=", "without a value"),
        ("redis://127.0.0.1?tokens=0", "room"),
        ("redis://127.0.0.1?tokens=-1", "room"),
        ("redis://127.0.0.1?seconds=0", "time limit"),
        ("redis://127.0.0.1?seconds=nan", "time limit"),
        ("redis://127.0.0.1?seconds=1e3", "time limit"),
        ("redis://127.0.0.1?store=1", "hexadecimal"),
        ("redis://127.0.0.1/x", "a number"),
        ("redis://", "host or a socket"),
        ("redis://127.0.0.1?socket=/x", "host or a socket"),
        ("redis://r.example", "needs TLS"),
        ("redis://192.0.2.1", "needs TLS"),
        ("rediss:///0?socket=/x", "no TLS"),
        ("redis://127.0.0.1?ca=/x", "not TLS"),
        ("postgresql://127.0.0.1", "names no database"),
        ("postgresql://127.0.0.1/a/b", "names no database"),
        ("sqlite://host/x", "names no file"),
        ("sqlite:", "names no file"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        parse_store_url(text)
    assert "canary" not in str(caught.value) + caught.value.hint


@settings(deadline=None)
@given(st.one_of(st.text(), st.from_regex(r"(rediss?|postgresql|sqlite)://?[ -~]{0,40}", fullmatch=True)))
def test_any_text_is_a_store_or_a_typed_error(text: str) -> None:
    try:
        url = parse_store_url(text)
    except ConfigError:
        return
    assert url.kind in {"sqlite", "redis", "postgresql"}
    assert bool(url.path) == (url.kind == "sqlite")


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff", b"x" * 4097])
def test_a_password_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        replace(REDIS, password_file=str(file)).password()
    assert caught.value.hint == f"looked for {file}"


def test_a_password_is_all_but_the_last_line_end(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(" a b \n")
    assert replace(REDIS, password_file=str(file)).password() == " a b "
    assert REDIS.password() == ""
