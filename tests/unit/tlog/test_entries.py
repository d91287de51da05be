import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError
from sottovoce.core.limits import LIMITS
from sottovoce.tlog.artifactentries import Artifact
from sottovoce.tlog.entries import ROLES, Accelerator, Directory, Host, Relay, Release, Revocations, TokenKey
from sottovoce.tlog.members import EntryKindError

Entry = Release | Host | Directory
MISSING = object()

HOST = Host(
    id="host-1", role="orchestrator", platform="sev-snp", product="Milan", hardware_id="0123456789abcdef" * 8
)
RELEASE = Release(
    role="orchestrator",
    version="1.0",
    security_version=3,
    platform="sev-snp",
    measurements=("ab" * 48, "cd" * 48),
    vmpl=0,
    artifacts=(Artifact(name="model.gguf", purpose="weights", digest="ef" * 32, bytes=5),),
    accelerators=(Accelerator(architecture="HOPPER", manifests=("ab" * 32,)),),
    issued=1_800_000_000,
    expires=1_800_000_000 + LIMITS.release_life,
)
DIRECTORY = Directory(
    epoch=20_000,
    not_before=1,
    not_after=2,
    ohttp_key_configs="AAAA",
    token_keys=(TokenKey(epoch=20_000, token_type=2, key="AAAA"),),
    issuer="issuer.example",
    relays=(Relay(operator="Relay Inc. \u00e9", url="https://relay.example/ohttp"),),
    hosts=(HOST, dataclasses.replace(HOST, id="host-2", hardware_id="01" * 8)),
    revocations=Revocations(
        releases=frozenset({"ab" * 32, "cd" * 32}), hosts=frozenset({"host-9", "host-8"}), certificates=frozenset()
    ),
    log_origin="log.example/test",
    log_quorum=2,
)  # fmt: skip
ENTRIES: dict[str, Entry] = {"release": RELEASE, "host": HOST, "directory": DIRECTORY}
PARSERS: dict[str, Callable[[bytes], Entry]] = {
    "release": Release.parse,
    "host": Host.parse,
    "directory": Directory.parse,
}


def changed(entry: Entry, path: str, value: Any) -> bytes:
    """The entry's bytes, canonical, with the member at `path` (dots, numbers for items) changed or removed."""
    document = json.loads(entry.encode())
    *folders, name = [int(part) if part.isdigit() else part for part in path.split(".")]
    inner = document
    for folder in folders:
        inner = inner[folder]
    if value is MISSING:
        del inner[name]
    else:
        inner[name] = value
    return canonical.encode(document)


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_entry_survives_its_bytes_both_ways(kind: str) -> None:
    data = ENTRIES[kind].encode()
    assert PARSERS[kind](data) == ENTRIES[kind]
    assert PARSERS[kind](data).encode() == data


def test_the_canonical_form_is_written_out() -> None:
    # RFC 8785: members sorted, no white space.
    assert HOST.encode() == (
        b'{"hardware_id":"' + b"0123456789abcdef" * 8 + b'","id":"host-1","kind":"host",'
        b'"platform":"sev-snp","product":"Milan","role":"orchestrator"}'
    )


@pytest.mark.parametrize("kind", ENTRIES)
def test_another_form_of_the_same_value_is_refused(kind: str) -> None:
    data = ENTRIES[kind].encode()
    document = json.loads(data)
    forms = [
        json.dumps(document).encode(),
        json.dumps(document, separators=(",", ":"), sort_keys=True, indent=1).encode(),
        json.dumps(dict(reversed(list(document.items()))), separators=(",", ":")).encode(),
        data + b"\n",
        b" " + data,
        b"\xef\xbb\xbf" + data,
        data[:-1] + b',"kind":"%b"}' % kind.encode(),
        data.replace(b'"kind"', b'"\\u006bind"'),
    ]
    for form in forms:
        assert form != data
        with pytest.raises(DecodeError):
            PARSERS[kind](form)


@pytest.mark.parametrize("kind", ENTRIES)
@pytest.mark.parametrize("other", ENTRIES)
def test_one_kind_of_entry_never_stands_for_another(kind: str, other: str) -> None:
    if kind != other:
        with pytest.raises(EntryKindError):
            PARSERS[kind](ENTRIES[other].encode())
        with pytest.raises(DecodeError):
            PARSERS[other](changed(ENTRIES[kind], "kind", other))
        return
    for unknown in ("artifact", "", kind.upper(), kind + "2", None, 1, [kind], MISSING):
        with pytest.raises(EntryKindError):
            PARSERS[kind](changed(ENTRIES[kind], "kind", unknown))


def _places(value: Any, path: str = "") -> list[str]:
    """Where an entry has members and items, in depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[str] = []
    for name, item in inner:
        here = f"{path}.{name}" if path else str(name)
        found += [here, *_places(item, here)]
    return found


PLACES = [(kind, place) for kind, entry in ENTRIES.items() for place in _places(json.loads(entry.encode()))]
MEMBERS = [(kind, place) for kind, place in PLACES if not place.rpartition(".")[2].isdigit()]


@pytest.mark.parametrize(("kind", "place"), MEMBERS)
def test_a_missing_member_is_refused(kind: str, place: str) -> None:
    with pytest.raises(DecodeError):
        PARSERS[kind](changed(ENTRIES[kind], place, MISSING))


@pytest.mark.parametrize(("kind", "place"), MEMBERS)
def test_an_unknown_member_is_refused_wherever_it_stands(kind: str, place: str) -> None:
    beside = f"{place.rpartition('.')[0]}.unknown".removeprefix(".")
    with pytest.raises(DecodeError, match="unknown member"):
        PARSERS[kind](changed(ENTRIES[kind], beside, 1))


@pytest.mark.parametrize(("kind", "place"), PLACES)
def test_a_member_of_another_type_is_refused(kind: str, place: str) -> None:
    value: Any = json.loads(ENTRIES[kind].encode())
    for part in place.split("."):
        value = value[int(part) if part.isdigit() else part]
    others: tuple[Any, ...] = (None, True, 1, "name", [], {})
    for other in others:
        if type(other) is not type(value):
            with pytest.raises(DecodeError):
                PARSERS[kind](changed(ENTRIES[kind], place, other))


@pytest.mark.parametrize(
    ("kind", "place", "value"),
    [
        ("release", "measurements.0", "ab" * 47),
        ("release", "measurements.0", "ab" * 49),
        ("release", "measurements.0", "AB" * 48),
        ("release", "measurements.0", "ab" * 47 + "a\n"),
        ("release", "artifacts.0.digest", "ef" * 31),
        ("release", "artifacts.0.digest", "ef" * 32 + "\n"),
        ("host", "hardware_id", ""),
        ("host", "hardware_id", "01" * 7),
        ("host", "hardware_id", "01" * 9),
        ("host", "hardware_id", "01" * 63),
        ("host", "hardware_id", "01" * 65),
        ("host", "hardware_id", "0G" * 64),
        ("host", "id", ""),
        ("host", "id", "h" * 129),
        ("host", "id", "../host"),
        ("host", "id", "host 1"),
        ("host", "id", "h\u00f6st"),
        ("host", "id", "host-1\n"),
        ("directory", "revocations.releases", ["ab" * 31]),
        ("directory", "revocations.certificates", ["ab" * 33]),
        ("directory", "relays.0.url", "ftp://relay.example/"),
        ("directory", "relays.0.url", "https://relay.example/?user=1"),
        ("directory", "relays.0.url", "https://user@relay.example/"),
        ("directory", "relays.0.carrier", ""),
        ("directory", "relays.0.carrier", "stream"),
        ("directory", "relays.0.carrier", ["flight"]),
        ("directory", "relays.0.operator", ""),
        ("directory", "relays.0.operator", "x" * 81),
        ("directory", "relays.0.operator", "a\nb"),
        ("directory", "token_keys.0.key", "not base64"),
        ("directory", "ohttp_key_configs", ""),
        ("directory", "epoch", -1),
        ("directory", "log.quorum", -1),
        ("release", "security_version", -1),
    ],
)
def test_a_value_of_a_wrong_length_or_alphabet_is_refused(kind: str, place: str, value: object) -> None:
    with pytest.raises(DecodeError):
        PARSERS[kind](changed(ENTRIES[kind], place, value))


@pytest.mark.parametrize("length", [8, 64])
def test_a_hardware_id_has_the_length_of_a_processors(length: int) -> None:
    host = dataclasses.replace(HOST, hardware_id="0f" * length)
    assert Host.parse(host.encode()) == host


@pytest.mark.parametrize("role", ROLES)
def test_a_release_may_have_each_role_that_there_is(role: str) -> None:
    assert Release.parse(dataclasses.replace(RELEASE, role=role).encode()).role == role


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("role", "gateway"),
        ("role", "Orchestrator"),
        ("measurements", []),
        ("vmpl", 4),
        ("expires", RELEASE.issued),
        ("expires", RELEASE.issued - 1),
        ("expires", RELEASE.expires + 1),
        ("issued", RELEASE.issued - 1),
    ],
)
def test_a_release_that_says_too_much_is_refused(member: str, value: object) -> None:
    with pytest.raises(DecodeError):
        Release.parse(changed(RELEASE, member, value))
    made = tuple(value) if isinstance(value, list) else value
    with pytest.raises(DecodeError):
        dataclasses.replace(RELEASE, **{member: made})  # type: ignore[arg-type]


def test_a_release_lives_from_one_second_to_twenty_one_days() -> None:
    for life in (1, 21 * 86_400):
        release = dataclasses.replace(RELEASE, expires=RELEASE.issued + life)
        assert Release.parse(release.encode()) == release


@pytest.mark.parametrize("member", ["token_keys", "relays", "hosts"])
def test_a_directory_without_keys_relays_or_hosts_is_refused(member: str) -> None:
    with pytest.raises(DecodeError):
        Directory.parse(changed(DIRECTORY, member, []))


def test_a_relay_says_when_it_does_not_stream() -> None:
    directory = Directory.parse(changed(DIRECTORY, "relays.0.carrier", "flight"))
    assert [relay.streams for relay in directory.relays] == [False]
    assert b'"carrier":"flight"' in directory.encode()
    assert [relay.streams for relay in DIRECTORY.relays] == [True]
    assert b"carrier" not in DIRECTORY.encode()


def test_a_directory_lists_a_host_once() -> None:
    with pytest.raises(DecodeError, match="twice"):
        Directory.parse(changed(DIRECTORY, "hosts.1.id", "host-1"))


@pytest.mark.parametrize("hosts", [["host-9", "host-8"], ["host-8", "host-8", "host-9"]])
def test_revocations_have_one_order_and_no_doubles(hosts: list[str]) -> None:
    assert Directory.parse(changed(DIRECTORY, "revocations.hosts", sorted(set(hosts))))
    with pytest.raises(DecodeError):
        Directory.parse(changed(DIRECTORY, "revocations.hosts", hosts))


@pytest.mark.parametrize(("member", "limit"), [("relays", 100), ("token_keys", 32)])
def test_a_list_has_a_limit(member: str, limit: int) -> None:
    one = json.loads(DIRECTORY.encode())[member][0]
    assert Directory.parse(changed(DIRECTORY, member, [one] * limit))
    with pytest.raises(DecodeError):
        Directory.parse(changed(DIRECTORY, member, [one] * (limit + 1)))


def test_a_release_has_at_most_a_hundred_artifacts() -> None:
    artifact = json.loads(RELEASE.encode())["artifacts"][0]
    assert len(Release.parse(changed(RELEASE, "artifacts", [artifact] * 100)).artifacts) == 100
    with pytest.raises(DecodeError):
        Release.parse(changed(RELEASE, "artifacts", [artifact] * 101))


@pytest.mark.parametrize(("kind", "limit"), [("release", 256 * 1024), ("directory", LIMITS.directory)])
def test_an_entry_above_its_limit_is_refused_before_it_is_parsed(
    kind: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parsed(*_: object, **__: object) -> None:
        pytest.fail("it was parsed")

    monkeypatch.setattr(json, "loads", parsed)
    with pytest.raises(DecodeError, match="limit"):
        PARSERS[kind](b" " * (limit + 1))


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b'"release"', b"{}", b"\xff", b"[" * 5000, b"1e5"])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    for parse in PARSERS.values():
        with pytest.raises(DecodeError):
            parse(data)


@pytest.mark.parametrize("kind", ENTRIES)
@given(at=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_a_changed_byte_is_refused_or_is_another_value_in_its_one_form(kind: str, at: int, flip: int) -> None:
    data = bytearray(ENTRIES[kind].encode())
    data[at % len(data)] ^= flip
    try:
        entry = PARSERS[kind](bytes(data))
    except DecodeError:
        return
    assert entry != ENTRIES[kind]
    assert entry.encode() == data


@pytest.mark.parametrize("kind", ENTRIES)
def test_an_error_repeats_nothing_of_the_entry(kind: str) -> None:
    for _, place in (pair for pair in MEMBERS if pair[0] == kind):
        with pytest.raises(DecodeError) as caught:
            PARSERS[kind](changed(ENTRIES[kind], place, {"canary": ["canary"]}))
        assert "canary" not in str(caught.value) + caught.value.hint
