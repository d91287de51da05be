"""The JSON list of the vendor's tools: what is not exactly that is refused, and the errors hold nothing of it."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_kit import NONCE, NOW, vendor
from sottovoce.attest.nvidia.evidence import ARCHITECTURES, MAX_DEVICES, MAX_EVIDENCE, parse_evidence
from sottovoce.attest.nvidia.layout import MAX_REPORT
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.accelerator import evidence_json

GPU = vendor().make_device(now=NOW)
WRONG: tuple[Any, ...] = (None, 1, [], {}, "", "!")
(GOOD,) = json.loads(evidence_json([GPU], NONCE))
BARE = {key: value for key, value in GOOD.items() if key != "nonce"}
PAIR = {key: GOOD[key] for key in ("evidence", "certificate")}
HEX = base64.b64decode(GOOD["evidence"]).hex()


def test_good_evidence() -> None:
    (device,) = parse_evidence(evidence_json([GPU], NONCE))
    assert device.architecture.name == "HOPPER"
    assert device.nonce == NONCE
    assert device.chain == GPU.chain
    extra = {"version": "1.0", "driver_version": "1", "uuid": "GPU-1", "index": 0, "of a later tool": [{}]}
    (same,) = parse_evidence(json.dumps([{**GOOD, **extra, "nonce": f"0x{NONCE.hex().upper()}"}]).encode())
    assert same.nonce == NONCE


ATTESTED = {**BARE, "arch": "Hopper", "uuid": "GPU-1"}


@pytest.mark.parametrize(
    ("document", "nonce"),
    [
        ([{**GOOD, "arch": "Hopper"}], NONCE),
        ([{**GOOD, "evidence": HEX}], NONCE),
        ([{**GOOD, "evidence": HEX.upper()}], NONCE),
        ({"result_code": 0, "result_message": "Ok", "evidences": [GOOD]}, NONCE),
        (
            {"arch": "HOPPER", "nonce": NONCE.hex(), "evidence_list": [PAIR], "claims_version": "3.0"},
            NONCE,
        ),
        ({"arch": "LS10", "nonce": "00" * 32, "evidence_list": [GOOD]}, NONCE),  # what stands nearer counts
        (GOOD, NONCE),
        ({**GOOD, "evidence": base64.b64encode(HEX.encode()).decode(), "more": 1}, NONCE),
        ({"device_evidence_list": [ATTESTED]}, None),
        ({"device_evidence_list": [{**ATTESTED, "evidence": HEX}]}, None),
        ({"device_evidence_list": [GOOD]}, NONCE),
    ],
)
def test_other_forms_of_the_same(document: Any, nonce: bytes | None) -> None:
    (plain,) = parse_evidence(json.dumps([GOOD]).encode())
    (device,) = parse_evidence(json.dumps(document).encode())
    assert device == replace(plain, nonce=nonce)


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "text",
        None,
        1,
        BARE,
        {"devices": GOOD},
        [[GOOD]],
        [GOOD, None],
        [GOOD] * (MAX_DEVICES + 1),
        *({key: value for key, value in GOOD.items() if key != missing} for missing in GOOD),
        *([{key: value for key, value in GOOD.items() if key != missing}] for missing in GOOD),
        *([{**GOOD, key: value}] for key in GOOD for value in WRONG),
        [{**GOOD, "arch": "AMPERE"}],
        [{**GOOD, "arch": "HOPPER "}],
        [{**GOOD, "arch": "l\u017f10"}],  # whose upper case is LS10
        {"evidences": None, "result_code": 7},
        {"evidences": []},
        {"evidences": GOOD},
        {"evidences": [BARE]},
        {"evidences": [GOOD], "device_evidence_list": [GOOD]},
        {"evidences": [{**GOOD, "nonce": None}]},
        {"evidence_list": [PAIR], "nonce": NONCE.hex()},
        {"evidence_list": [PAIR], "arch": "HOPPER"},
        {"evidence_list": [PAIR, 1], "arch": "HOPPER", "nonce": NONCE.hex()},
        {"evidence_list": PAIR, "arch": "HOPPER", "nonce": NONCE.hex()},
        {"device_evidence_list": [PAIR], "arch": "HOPPER"},
        {"device_evidence_list": [{**BARE, "nonce": None}]},
        {"device_evidence_list": [{**BARE, "nonce": ""}]},
        {"device_evidence_list": [BARE] * (MAX_DEVICES + 1)},
        [{**GOOD, "evidence": HEX[:-1]}],
        [{**GOOD, "evidence": base64.b64encode(HEX[:-1].encode()).decode()}],
        [{**GOOD, "evidence": f"0x{HEX}"}],
        [{**GOOD, "nonce": NONCE.hex()[:-2]}],
        [{**GOOD, "nonce": NONCE.hex() + "00"}],
        [{**GOOD, "evidence": GOOD["evidence"] + "\n"}],
        [{**GOOD, "evidence": base64.b64encode(b"\xff" * (MAX_REPORT + 1)).decode()}],
        [{**GOOD, "certificate": base64.b64encode(base64.b64decode(GOOD["certificate"]) * 3).decode()}],
        [{**GOOD, "certificate": base64.b64encode(b"-----BEGIN CERTIFICATE-----\nAAAA").decode()}],
    ],
)
def test_what_is_no_such_list(document: Any) -> None:
    data = json.dumps(document).encode()
    with pytest.raises(DecodeError) as caught:
        parse_evidence(data)
    assert "other" not in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b'[{"a": ' * 10_000,
        b'[{"arch": "HOPPER", "arch": "HOPPER"}]',
        b"[NaN]",
        b"[" + b"1" * 5000 + b"]",
        bytes(MAX_EVIDENCE + 1),
        json.dumps([GOOD]).encode() + b"x",
        json.dumps([GOOD]).encode("utf-16"),
    ],
)
def test_what_is_no_json(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_evidence(data)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_evidence(data)


def test_the_largest_evidence() -> None:
    pem = base64.b64decode(GOOD["certificate"])
    first = pem[: pem.index(b"-----END CERTIFICATE-----") + 26]
    assert first.count(b"BEGIN") == 1
    eight = {**GOOD, "certificate": base64.b64encode(first * 8).decode()}
    assert len(parse_evidence(json.dumps([eight]).encode())[0].chain) == 8
    nine = {**GOOD, "certificate": base64.b64encode(first * 9).decode()}
    with pytest.raises(DecodeError, match="too many certificates"):
        parse_evidence(json.dumps([nine]).encode())
    report = {**GOOD, "evidence": base64.b64encode(bytes(MAX_REPORT)).decode()}
    assert len(parse_evidence(json.dumps([report]).encode())[0].report) == MAX_REPORT
    assert len(parse_evidence(json.dumps([GOOD] * MAX_DEVICES).encode())) == MAX_DEVICES
    longest = json.dumps([GOOD]).encode().ljust(MAX_EVIDENCE)
    assert len(parse_evidence(longest)) == 1


@pytest.mark.parametrize(("length", "fits"), [(64 * 1024, True), (64 * 1024 + 4, False)])
def test_the_longest_member(length: int, fits: bool) -> None:
    long = {**GOOD, "evidence": "Z" * length}
    # It is longer than a report may be, too: what is said tells which rule spoke.
    with pytest.raises(DecodeError, match="report is longer" if fits else "wrong type or length"):
        parse_evidence(json.dumps([long]).encode())


@pytest.mark.parametrize(
    ("architecture", "name", "chip"),
    [
        ("HOPPER", "GH100 A01 GSP BROM", "GH100"),
        ("LS10", "LS_10 A01 FSP FMC LF", "LS_10"),
        *(("BLACKWELL", f"{chip} A01 GSP BROM", chip) for chip in ("GB100", "GB102", "GB110", "GB112", "GB202", "GB20B")),
        *(("BLACKWELL", f"{chip} A01 GSP BROM", None) for chip in ("GH100", "GB300", "GB1000", "GB10", "GB10 0", "XGB100", "gb100")),
        ("BLACKWELL", "NVIDIA GB100 Identity", None),
        ("HOPPER", "GH1000 A01 GSP BROM", None),
        ("HOPPER", "GH100", None),
    ],
)  # fmt: skip
def test_chips(architecture: str, name: str, chip: str | None) -> None:
    found = ARCHITECTURES[architecture].chip.fullmatch(name)
    assert (found[1] if found else None) == chip


def test_one_device_and_a_list_are_told_apart() -> None:
    for document in ({"devices": [GOOD]}, {"evidences": [GOOD], "evidence_list": [GOOD]}):
        with pytest.raises(DecodeError, match="no list of devices"):
            parse_evidence(json.dumps(document).encode())
    both = parse_evidence(json.dumps({**GOOD, "evidences": [GOOD, GOOD]}).encode())
    assert len(both) == 2


def test_a_member_of_one_letter_is_of_the_wrong_form_and_not_of_the_wrong_length() -> None:
    with pytest.raises(DecodeError, match="a nonce of the wrong form"):
        parse_evidence(json.dumps([{**GOOD, "nonce": "0"}]).encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'[{"arch": "HOPPER", "arch": "HOPPER"}]', "the GPU evidence has a member twice"),
        (b"[NaN]", "the GPU evidence is not JSON"),
        (b"[Infinity]", "the GPU evidence is not JSON"),
        (bytes(MAX_EVIDENCE + 1), "the GPU evidence is longer than its limit"),
    ],
)
def test_words_in_full(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError) as refused:
        parse_evidence(data)
    assert str(refused.value) == words
