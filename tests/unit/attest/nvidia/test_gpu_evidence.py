"""The JSON list of the vendor's tools: what is not exactly that is refused, and the errors hold nothing of it."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvidia_kit import NONCE, NOW, vendor
from sottovoce.attest.nvidia.evidence import MAX_DEVICES, MAX_EVIDENCE, parse_evidence
from sottovoce.attest.nvidia.layout import MAX_REPORT
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.accelerator import evidence_json

GPU = vendor().make_device(now=NOW)
WRONG: tuple[Any, ...] = (None, 1, [], {}, "", "!")
(GOOD,) = json.loads(evidence_json([GPU], NONCE))


def test_good_evidence() -> None:
    (device,) = parse_evidence(evidence_json([GPU], NONCE))
    assert device.architecture.name == "HOPPER"
    assert device.nonce == NONCE
    assert device.chain == GPU.chain
    extra = {"version": "1.0", "driver_version": "1", "vbios_version": "2", "uuid": "GPU-1"}
    (same,) = parse_evidence(json.dumps([{**GOOD, **extra, "nonce": f"0x{NONCE.hex().upper()}"}]).encode())
    assert same.nonce == NONCE


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "text",
        None,
        1,
        GOOD,
        [[GOOD]],
        [GOOD, None],
        [GOOD] * (MAX_DEVICES + 1),
        [{**GOOD, "other": "x"}],
        *({key: value for key, value in GOOD.items() if key != missing} for missing in GOOD),
        *([{key: value for key, value in GOOD.items() if key != missing}] for missing in GOOD),
        *([{**GOOD, key: value}] for key in GOOD for value in WRONG),
        [{**GOOD, "version": 1}],
        [{**GOOD, "arch": "hopper"}],
        [{**GOOD, "arch": "AMPERE"}],
        [{**GOOD, "nonce": NONCE.hex()[:-2]}],
        [{**GOOD, "nonce": NONCE.hex() + "00"}],
        [{**GOOD, "evidence": GOOD["evidence"] + "\n"}],
        [{**GOOD, "evidence": base64.b64encode(bytes(MAX_REPORT + 1)).decode()}],
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
    long = {**GOOD, "evidence": "A" * length}
    # It is longer than a report may be, too: what is said tells which rule spoke.
    with pytest.raises(DecodeError, match="report is longer" if fits else "wrong type or length"):
        parse_evidence(json.dumps([long]).encode())
