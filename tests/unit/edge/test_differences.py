"""Whoever signs a directory sees everything that is different in it, whichever member that is."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

import directory_kit as kit
from sottovoce.core import canonical, hpke
from sottovoce.core.errors import DecodeError
from sottovoce.core.ohttp import KeyConfig, encode_key_configs
from sottovoce.edge.differences import differences
from sottovoce.tlog.entries import Directory, Relay, Revocations

BEFORE = dataclasses.replace(
    kit.directory(),
    relays=(
        *kit.RELAYS,
        Relay(operator="Two \u00e9", url="https://two.example/ohttp", streams=False),
        Relay(operator="Three", url="https://three.example"),
    ),
    revocations=Revocations(
        releases=frozenset({"ab" * 32, "cd" * 32}),
        hosts=frozenset({"host-8", "host-9"}),
        certificates=frozenset({"ab" * 32, "ef" * 32}),
    ),
)
DOCUMENT: dict[str, Any] = json.loads(BEFORE.encode())


def places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every member and item of the document, in depth, but for its kind, of which there is one only."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        if (*path, name) != ("kind",):
            yield (*path, name)
            yield from places(item, (*path, name))


def at(document: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        document = document[part]
    return document


def parsed(document: object) -> Directory | None:
    try:
        return Directory.parse(canonical.encode(document))
    except DecodeError:
        return None


def others(value: Any) -> Iterator[Any]:
    """Values beside this one: each character changed, one more and one less; a number; a list in another order, with an item less."""
    match value:
        case str():
            for number, character in enumerate(value):
                yield value[:number] + ("1" if character == "0" else "0") + value[number + 1 :]
            yield value[:-1]
            yield value + value[-1]
        case int():
            yield value + 1
        case list():
            yield [*value[1:], value[0]]
            yield value[:-1]
            yield [*value, value[0]]
        case dict():
            yield {name: item for name, item in value.items() if name != "carrier"}
            yield {**value, "carrier": "flight"}


PLACES = list(places(DOCUMENT))


@pytest.mark.parametrize("path", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_whatever_is_changed_is_shown(path: tuple[str | int, ...]) -> None:
    value, seen = at(DOCUMENT, path), 0
    for other in others(value):
        document = json.loads(json.dumps(DOCUMENT))
        at(document, path[:-1])[path[-1]] = other
        after = parsed(document)
        if after is None or after == BEFORE:
            continue
        seen += 1
        shown = differences(BEFORE, after)
        assert any(line[2:].startswith(str(path[0])) for line in shown), other
    # There is none that could not be changed, but the carrier, which has one value.
    assert seen or path[-1] == "carrier" or isinstance(value, dict)


def test_every_character_of_a_text_that_is_not_a_key_is_shown() -> None:
    shown = "\n".join(differences(None, BEFORE))
    for path in PLACES:
        value = at(DOCUMENT, path)
        if not isinstance(value, str):
            continue
        if path[-1] in {"key", "ohttp_key_configs"}:
            assert hashlib.sha256(base64.b64decode(value)).hexdigest() in shown
        else:
            assert json.dumps(value) in shown, path


def test_nothing_is_shown_where_nothing_is_different() -> None:
    assert differences(BEFORE, BEFORE) == []
    assert all(line.startswith("+ ") for line in differences(None, BEFORE))


def test_the_next_day_is_other_keys_and_times_alone() -> None:
    shown = differences(kit.directory(kit.TODAY), kit.directory(kit.TODAY + 1))
    assert {line[2:].split(":")[0].rstrip(" 12") for line in shown} == {
        "epoch", "not_before", "not_after", "ohttp_key_configs", "token_keys", "OHTTP key",
    }  # fmt: skip


def test_lines_say_what_it_is() -> None:
    after = dataclasses.replace(
        BEFORE, relays=(*BEFORE.relays[1:], BEFORE.relays[0]), hosts=BEFORE.hosts[:-1]
    )
    assert differences(BEFORE, after) == [
        '- relays 1: operator "One", url "https://one.example/ohttp"',
        '+ relays 3: operator "One", url "https://one.example/ohttp"',
        f'- hosts 4: id "host-4", role "guard", platform "sev-snp", product "Genoa", hardware_id "{4:0128x}"',
    ]
    carrier = dataclasses.replace(BEFORE.relays[1], streams=True)
    streams = dataclasses.replace(BEFORE, relays=(BEFORE.relays[0], carrier, BEFORE.relays[2]))
    assert differences(BEFORE, streams) == [
        '- relays 2: operator "Two \\u00e9", url "https://two.example/ohttp", carrier "flight"',
        '+ relays 2: operator "Two \\u00e9", url "https://two.example/ohttp"',
    ]


def with_suites(*aeads: int) -> Directory:
    config = dataclasses.replace(
        kit.gateway_key(kit.TODAY).config(), symmetric=tuple((hpke.HKDF_SHA256, aead) for aead in aeads)
    )
    return with_configs(config)


def with_configs(*configs: KeyConfig, more: bytes = b"") -> Directory:
    encoded = base64.b64encode(encode_key_configs(configs) + more).decode()
    return dataclasses.replace(BEFORE, ohttp_key_configs=encoded)


def test_the_suites_of_an_ohttp_key_are_shown() -> None:
    shown = differences(with_suites(1), with_suites(3))
    assert any("- OHTTP key: " in line and "AEAD 0x0001," in line for line in shown)
    assert any("+ OHTTP key: " in line and "AEAD 0x0003," in line for line in shown)


def test_a_key_that_nobody_here_can_read_is_shown() -> None:
    config = kit.gateway_key(kit.TODAY).config()
    # A KEM that the protocol does not have, which a device leaves out.
    shown = differences(with_configs(config), with_configs(config, more=b"\x00\x03\x01\xff\xff"))
    assert [line[:21] for line in shown] == ["- ohttp_key_configs: ", "+ ohttp_key_configs: "]
    for malformed in ("A", "AAAA", "AB=="):
        shown = differences(BEFORE, dataclasses.replace(BEFORE, ohttp_key_configs=malformed))
        assert "+ OHTTP keys: cannot be read" in shown
    # Two texts of the same bytes are not the same.
    first, second = (dataclasses.replace(BEFORE, ohttp_key_configs=text) for text in ("AA==", "AB=="))
    assert '+ ohttp_key_configs: "AB=="' in differences(first, second)
