"""What a GPU's certificates say beyond their chain: what the key may do, and the firmware that it was derived with."""

import functools
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from nvidia_kit import NOW, vendor
from sottovoce.attest.certificates import BASIC_CONSTRAINTS, KEY_USAGE, Certificate, oid
from sottovoce.attest.nvidia import signatures
from sottovoce.attest.nvidia.signatures import (
    FirmwareIdError,
    GpuChainError,
    firmware_id,
    operational_flags,
    require_valid,
    verify_chain,
)
from sottovoce.core.errors import DecodeError
from sottovoce.simulator.derwriter import sequence, wrap
from sottovoce.simulator.gpu_pki import Signer

COMPOSITE, TCB_INFO = oid("2.23.133.5.4.1"), oid("2.23.133.5.4.1.1")
SHA384, SHA256 = oid("2.16.840.1.101.3.4.2.2"), oid("2.16.840.1.101.3.4.2.1")
DIGEST = b"d" * 48


@functools.cache
def leaf() -> Certificate:
    return Certificate.parse(vendor().make_device(now=NOW).chain[0])


def with_extensions(**values: bytes) -> Certificate:
    names = {"composite": COMPOSITE, "info": TCB_INFO, "usage": KEY_USAGE}
    return replace(leaf(), extensions={names[name]: value for name, value in values.items()})


def fwid(digest: bytes = DIGEST, algorithm: bytes = SHA384, *more: bytes) -> bytes:
    return sequence(wrap(0x06, algorithm), wrap(0x04, digest), *more)


NUMBER = wrap(0x02, b"\1")


@pytest.mark.parametrize(
    ("bits", "may_sign"),
    [
        (b"\x07\x80", True),
        (b"\x05\xa0", True),
        (b"\x00\x80\x80", True),
        (b"\x06\x40", False),
        (b"\x00\x00", False),
        (b"\x00\x7f\x80", False),
        (b"\x00", False),
        (b"", False),
    ],
)
def test_what_a_devices_key_may_do(bits: bytes, may_sign: bool) -> None:
    shown = with_extensions(usage=wrap(0x03, bits))
    if may_sign:
        signatures._require_signer(shown)
        return
    with pytest.raises(GpuChainError, match="may not sign"):
        signatures._require_signer(shown)


def test_a_key_of_which_nothing_is_said() -> None:
    with pytest.raises(GpuChainError, match="may not sign"):
        signatures._require_signer(with_extensions())


@pytest.mark.parametrize(
    "extensions",
    [
        {"composite": sequence(NUMBER, fwid())},
        {"composite": sequence(fwid())},
        {"info": sequence(NUMBER, wrap(0xA6, fwid()), wrap(0x87, b"\0\0"))},
        {"info": sequence(wrap(0xA6, fwid() + fwid(b"e" * 48)))},
    ],
)
def test_firmware_ids(extensions: dict[str, bytes]) -> None:
    assert firmware_id(with_extensions(**extensions)) == DIGEST


@pytest.mark.parametrize(
    ("extensions", "words"),
    [
        ({}, "no firmware id, or two"),
        ({"composite": sequence(fwid()), "info": sequence(wrap(0xA6, fwid()))}, "no firmware id, or two"),
        ({"composite": sequence()}, "has no firmware id"),
        ({"composite": sequence(fwid(), NUMBER)}, "has no firmware id"),
        ({"info": sequence()}, "has no firmware id"),
        ({"info": sequence(wrap(0xA6, b""))}, "has no firmware id"),
        ({"info": sequence(wrap(0xA6, NUMBER))}, "has no firmware id"),
        ({"info": sequence(wrap(0xA6, fwid()), wrap(0xA6, fwid()))}, "has no firmware id"),
        ({"composite": sequence(fwid(DIGEST, SHA256))}, "of another kind"),
        ({"composite": sequence(fwid(b"d" * 32))}, "of another kind"),
        ({"composite": sequence(fwid(b"d" * 32, SHA256))}, "of another kind"),
    ],
)
def test_no_firmware_id(extensions: dict[str, bytes], words: str) -> None:
    with pytest.raises(FirmwareIdError, match=words):
        firmware_id(with_extensions(**extensions))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (fwid(DIGEST, SHA384, NUMBER), "the firmware id"),
        (sequence(NUMBER), "the firmware id has a missing or misplaced field"),
        (sequence(wrap(0x06, SHA384)), "the firmware id has a missing or misplaced field"),
    ],
)
def test_a_malformed_firmware_id(value: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        firmware_id(with_extensions(composite=sequence(value)))


@pytest.mark.parametrize(
    ("flags", "unsafe"),
    [
        ([], None),
        ([b"\0\x80"], False),
        ([b"\0\x40"], True),
        ([b"\0\x20"], True),
        ([b"\0\x10"], True),
        ([b"\0\x08"], False),
        ([b"\0\0\xff"], False),
    ],
)
def test_operational_flags(flags: list[bytes], unsafe: bool | None) -> None:
    info = sequence(NUMBER, *(wrap(0x87, one) for one in flags))
    assert operational_flags(with_extensions(info=info)) is unsafe


@pytest.mark.parametrize("flags", [[b""], [b"\0"], [b"\1\0"], [b"\0\0", b"\0\0"]])
def test_malformed_flags(flags: list[bytes]) -> None:
    info = sequence(*(wrap(0x87, one) for one in flags))
    with pytest.raises(DecodeError, match="malformed flags"):
        operational_flags(with_extensions(info=info))


def test_a_certificate_without_the_extension_has_no_flags() -> None:
    assert operational_flags(with_extensions()) is None


def test_the_first_and_the_last_second_of_a_chain() -> None:
    chain = verify_chain(vendor().make_device(now=NOW).chain, vendor().roots.devices)
    first, last = max(one.not_before for one in chain), min(one.not_after for one in chain)
    for now in (first, last):
        require_valid(chain, now=now)
    for now in (first - 1, last + 1):
        with pytest.raises(GpuChainError, match="not valid at this time"):
            require_valid(chain, now=now)


def chain() -> tuple[Certificate, Certificate]:
    first, second, *_ = map(Certificate.parse, vendor().make_device(now=NOW).chain)
    return first, second


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"issuer": b"somebody"}, "names another issuer"),
        ({"signature_algorithm": b"\x30\x00"}, "is not signed with ECDSA and SHA-384"),
        ({"critical": frozenset({b"unheard of"})}, "has a critical extension that is not understood"),
        ({"signature": bytes(8)}, "a signature in the GPU chain does not verify"),
    ],
)
def test_a_certificate_that_was_not_issued_so(changes: dict[str, Any], words: str) -> None:
    first, second = chain()
    signatures._require_issued(first, second)
    with pytest.raises(GpuChainError, match=words):
        signatures._require_issued(replace(first, **changes), second)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048).public_key(),
        ec.generate_private_key(ec.SECP256R1()).public_key(),
    ],
)
def test_an_authority_with_another_kind_of_key(
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
) -> None:
    first, second = chain()
    with pytest.raises(GpuChainError, match="has no P-384 key"):
        signatures._require_issued(first, replace(second, public_key=key))


def test_an_issuer_that_is_no_authority() -> None:
    first, second = chain()
    signatures._require_authority(second, 0)
    with pytest.raises(GpuChainError, match="is no authority"):
        signatures._require_authority(first, 0)
    limited = sequence(wrap(0x01, b"\xff"), wrap(0x02, b"\x01"))
    shown = replace(second, extensions={**second.extensions, BASIC_CONSTRAINTS: limited})
    signatures._require_authority(shown, 1)
    with pytest.raises(GpuChainError, match="longer than an authority in it allows"):
        signatures._require_authority(shown, 2)


def test_how_long_a_chain_may_be() -> None:
    signer = root = Signer.root("root", now=NOW)
    for _ in range(6):
        signer = signer.issue("authority", now=NOW, authority=True)
    longest = signer.issue("device", now=NOW, authority=False).chain
    shortest = root.issue("device", now=NOW, authority=False).chain
    for chain, length in ((longest, 8), (shortest, 2), (shortest[:1], 2)):
        assert len(verify_chain(chain, root.chain[0])) == length
    longer = signer.issue("authority", now=NOW, authority=True).issue("device", now=NOW, authority=False)
    for wrong in (longer.chain, root.chain, ()):
        with pytest.raises(GpuChainError, match="too few or too many certificates"):
            verify_chain(wrong, root.chain[0])
