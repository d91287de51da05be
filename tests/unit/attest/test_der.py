"""DER has one form (X.690 section 10), and the reader takes no other."""

import datetime as dt
import time

import pytest

from sottovoce.attest import der
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.derwriter import wrap


@pytest.mark.parametrize(
    ("dotted", "body"),
    [
        ("2.5.29.15", "551d0f"),
        ("2.5.29.19", "551d13"),
        ("1.2.840.113549", "2a864886f70d"),  # RFC 8017 section A.1
        ("1.3.6.1.4.1.3704.1.3.8", "2b060104019c78010308"),
        ("2.999.3", "883703"),  # X.690 section 8.19.5, example
        ("0.9.2342.127.128.16383.16384", "099226" + "7f" + "8100" + "ff7f" + "818000"),
    ],
)
def test_object_identifiers(dotted: str, body: str) -> None:
    assert der.oid(dotted).hex() == body


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("00", 0),
        ("7f", 127),
        ("80", -128),
        ("0080", 128),
        ("ff7f", -129),
        ("0100", 256),
        ("8000", -32768),
        ("008000", 32768),
    ],
)
def test_integers(body: str, number: int) -> None:
    assert der.integer(der.one(wrap(der.INTEGER, bytes.fromhex(body)), der.INTEGER)) == number


@pytest.mark.parametrize("body", ["", "0000", "007f", "ff80", "ffff", "00007f", "ffff80", "000000"])
def test_integers_that_are_not_minimal(body: str) -> None:
    with pytest.raises(DecodeError, match=r"malformed integer|not minimal"):
        der.integer(der.one(wrap(der.INTEGER, bytes.fromhex(body)), der.INTEGER))


def test_an_integer_has_its_tag() -> None:
    with pytest.raises(DecodeError, match="malformed integer"):
        der.integer(der.one(wrap(der.OCTETS, b"\1"), der.OCTETS))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_lengths(length: int) -> None:
    body = b"x" * length
    value = der.one(wrap(der.OCTETS, body), der.OCTETS)
    assert (value.body, value.whole) == (body, wrap(der.OCTETS, body))
    with pytest.raises(DecodeError, match="ends too early"):
        list(der.values(wrap(der.OCTETS, body + b"x")[:-1]))


@pytest.mark.parametrize(
    ("head", "words"),
    [
        ("04", "ends too early"),
        ("0480", "malformed length"),
        ("0481", "malformed length"),
        ("048201", "malformed length"),
        ("048400000001", "malformed length"),
        ("048101", "not minimal"),
        ("04817f", "not minimal"),
        ("04820080", "not minimal"),
        ("0483000100", "not minimal"),
        ("1f01", "tag of several bytes"),
        ("3f8101", "tag of several bytes"),
        ("ff01", "tag of several bytes"),
    ],
)
def test_what_is_not_der(head: str, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        list(der.values(bytes.fromhex(head) + bytes(300 if words == "not minimal" else 0)))


def test_the_longest_length() -> None:
    body = bytes(1 << 16)
    assert der.one(b"\x04\x83\x01\x00\x00" + body, der.OCTETS).body == body
    with pytest.raises(DecodeError, match="malformed length"):
        der.one(b"\x04\x84\x00\x01\x00\x00" + body, der.OCTETS)


def test_several_values_one_after_the_other() -> None:
    data = wrap(der.INTEGER, b"\1") + wrap(der.OCTETS, b"two")
    assert [(value.tag, value.body) for value in der.values(data)] == [(2, b"\1"), (4, b"two")]
    for wrong in (b"", data, wrap(der.OCTETS, b"")):
        with pytest.raises(DecodeError, match="not the one value"):
            der.one(wrong, der.INTEGER)


def fields(*values: bytes) -> der.Fields:
    return der.sequence(wrap(der.SEQUENCE, b"".join(values)), "the paper")


def test_fields_are_taken_in_order() -> None:
    taken = fields(wrap(der.INTEGER, b"\1"), wrap(der.OCTETS, b"x"))
    assert taken.next_is(der.INTEGER)
    assert not taken.next_is(der.OCTETS)
    with pytest.raises(DecodeError, match="the paper has a missing or misplaced field"):
        taken.take(der.OCTETS)
    assert taken.take(der.INTEGER).body == b"\1"
    with pytest.raises(DecodeError, match="the paper has an unknown field"):
        taken.end()
    assert taken.take(der.OCTETS).body == b"x"
    taken.end()
    assert not taken.next_is(der.OCTETS)
    with pytest.raises(DecodeError, match="the paper has a missing or misplaced field"):
        taken.take(der.OCTETS)


def test_truth() -> None:
    assert fields(wrap(der.BOOLEAN, b"\xff")).truth()
    assert not fields().truth()
    other = fields(wrap(der.INTEGER, b"\1"))
    assert not other.truth()
    assert other.next_is(der.INTEGER)
    for body in (b"\0", b"\1", b"", b"\xff\xff"):
        with pytest.raises(DecodeError, match="the paper has a malformed truth value"):
            fields(wrap(der.BOOLEAN, body)).truth()


def moment(*parts: int) -> int:
    return int(dt.datetime(*parts, tzinfo=dt.UTC).timestamp())  # type: ignore[arg-type, misc] # year, month, …


@pytest.mark.parametrize(
    ("tag", "text", "wanted"),
    [
        (der.UTC_TIME, "491231235959Z", moment(2049, 12, 31, 23, 59, 59)),
        (der.UTC_TIME, "500101000000Z", moment(1950, 1, 1)),
        (der.UTC_TIME, "991231235959Z", moment(1999, 12, 31, 23, 59, 59)),
        (der.UTC_TIME, "000229120000Z", moment(2000, 2, 29, 12)),
        (der.GENERALIZED, "20500101000000Z", moment(2050, 1, 1)),
        (der.GENERALIZED, "99991231235959Z", moment(9999, 12, 31, 23, 59, 59)),
    ],
)
def test_times(tag: int, text: str, wanted: int) -> None:
    assert fields(wrap(tag, text.encode())).time() == wanted


@pytest.mark.parametrize(
    ("tag", "text"),
    [
        (der.UTC_TIME, "20500101000000Z"),
        (der.GENERALIZED, "500101000000Z"),
        (der.UTC_TIME, "5001010000Z"),
        (der.UTC_TIME, "500101000000"),
        (der.UTC_TIME, "500101000000+0000"),
        (der.UTC_TIME, "501301000000Z"),
        (der.UTC_TIME, "010229000000Z"),
        (der.UTC_TIME, "50010100000\u0663Z"),
        (der.GENERALIZED, "00000101000000Z"),
        (der.GENERALIZED, "20500101000000.5Z"),
    ],
)
def test_malformed_times(tag: int, text: str) -> None:
    with pytest.raises(DecodeError, match="the paper has a malformed time"):
        fields(wrap(tag, text.encode())).time()


def test_times_do_not_depend_on_where_the_verifier_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    found = fields(wrap(der.UTC_TIME, b"700101000000Z")).time()
    monkeypatch.undo()
    time.tzset()
    assert found == 0


def test_other_tags_are_no_times() -> None:
    with pytest.raises(DecodeError, match="missing or misplaced field"):
        fields(wrap(der.OCTETS, b"500101000000Z")).time()
