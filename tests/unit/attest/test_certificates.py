"""Certificates and revocation lists are read by one grammar, and a chain is believed for exact reasons only."""

import contextlib
import datetime as dt
import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sottovoce.attest import der
from sottovoce.attest.certificates import BASIC_CONSTRAINTS, Certificate, RevocationList
from sottovoce.attest.snp.layout import REPORT_SIZE, Report
from sottovoce.attest.snp.signatures import ChainError, verify_chain, verify_report, verify_revocation_list
from sottovoce.attest.snp.vcek import certified_tcb, hardware_id, product_name
from sottovoce.core.errors import DecodeError, PeerError
from sottovoce.simulator import pki
from sottovoce.simulator.derwriter import wrap
from sottovoce.simulator.testing import NOW, EvidenceWorld, vendor

VENDOR = vendor()
CHIP = VENDOR.make_chip(now=NOW)
ARK = Certificate.parse(VENDOR.ark)
REPORT = EvidenceWorld().evidence(b"e" * 32, b"key").platform.report
PSS = "06092a864886f70d01010a"
UNKNOWN = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")


def chain(*, ask: bytes = VENDOR.ask, vcek: bytes = CHIP.vcek) -> tuple[Certificate, ...]:
    return verify_chain(ark_der=VENDOR.ark, ask_der=ask, vcek_der=vcek)


def parts(data: bytes) -> tuple[der.Value, der.Value, der.Value]:
    body, algorithm, signature = der.values(der.one(data, der.SEQUENCE).body)
    return body, algorithm, signature


def signed_as(
    data: bytes, algorithm: bytes, key: rsa.RSAPrivateKey, pad: Any, digest: hashes.HashAlgorithm
) -> bytes:
    """`data` anew, with another signature algorithm in both places, rightly signed with it."""
    body, old, _ = parts(data)
    inner = body.body.replace(old.whole, algorithm)
    signed = wrap(der.SEQUENCE, inner)
    signature = wrap(der.BIT_STRING, b"\0" + key.sign(signed, pad, digest))
    return wrap(der.SEQUENCE, signed + algorithm + signature)


def pss(digest: hashes.HashAlgorithm, salt: int) -> padding.PSS:
    return padding.PSS(padding.MGF1(digest), salt_length=salt)


SHA256, SHA384, SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
GOOD_PARAMETERS = parts(VENDOR.ask)[1].whole
ALGORITHMS: list[tuple[str, bytes, Any, hashes.HashAlgorithm]] = [
    ("a salt of 32", GOOD_PARAMETERS.replace(b"\x02\x01\x30", b"\x02\x01\x20"), pss(SHA384, 32), SHA384),
    ("says 32, is 48", GOOD_PARAMETERS.replace(b"\x02\x01\x30", b"\x02\x01\x20"), pss(SHA384, 48), SHA384),
    ("SHA-256", GOOD_PARAMETERS.replace(bytes.fromhex("0609608648016503040202"), bytes.fromhex("0609608648016503040201")),
     pss(SHA256, 48), SHA256),
    ("SHA-512", GOOD_PARAMETERS.replace(bytes.fromhex("0609608648016503040202"), bytes.fromhex("0609608648016503040203")),
     pss(SHA512, 48), SHA512),
    ("PSS without parameters", bytes.fromhex("300b" + PSS), pss(SHA384, 48), SHA384),
    ("PSS with empty parameters", bytes.fromhex("300d" + PSS + "3000"), pss(SHA384, 48), SHA384),
    ("PKCS #1 v1.5 with SHA-384", bytes.fromhex("300d06092a864886f70d01010c0500"), padding.PKCS1v15(), SHA384),
    ("says PKCS #1, is PSS", bytes.fromhex("300d06092a864886f70d01010c0500"), pss(SHA384, 48), SHA384),
    ("says ECDSA", bytes.fromhex("300a06082a8648ce3d040303"), pss(SHA384, 48), SHA384),
]  # fmt: skip


@pytest.mark.parametrize(("name", "algorithm", "pad", "digest"), ALGORITHMS, ids=[a[0] for a in ALGORITHMS])
def test_one_signature_algorithm_and_its_one_set_of_parameters(
    name: str, algorithm: bytes, pad: Any, digest: hashes.HashAlgorithm
) -> None:
    with pytest.raises(ChainError, match="RSASSA-PSS and SHA-384"):
        chain(vcek=signed_as(CHIP.vcek, algorithm, VENDOR.ask_key, pad, digest))
    with pytest.raises(ChainError, match="RSASSA-PSS and SHA-384"):
        chain(ask=signed_as(VENDOR.ask, algorithm, VENDOR.ark_key, pad, digest))
    with pytest.raises(ChainError, match="RSASSA-PSS and SHA-384"):
        verify_revocation_list(signed_as(VENDOR.crl, algorithm, VENDOR.ark_key, pad, digest), ark=ARK)


def test_the_trailer_field_may_be_written_or_left_out() -> None:
    """AMD does both; it is the default of RFC 4055."""
    pss_name, parameters = der.values(der.one(GOOD_PARAMETERS, der.SEQUENCE).body)
    longer = wrap(der.SEQUENCE, parameters.body + bytes.fromhex("a303020101"))
    for form in (parameters.whole, longer):
        algorithm = wrap(der.SEQUENCE, pss_name.whole + form)
        assert chain(vcek=signed_as(CHIP.vcek, algorithm, VENDOR.ask_key, pss(SHA384, 48), SHA384))
    twice = wrap(der.SEQUENCE, pss_name.whole + longer + bytes.fromhex("a303020101"))
    with pytest.raises(ChainError, match="RSASSA-PSS and SHA-384"):
        chain(vcek=signed_as(CHIP.vcek, twice, VENDOR.ask_key, pss(SHA384, 48), SHA384))


def test_the_two_places_of_the_algorithm_must_agree() -> None:
    body, _, signature = parts(CHIP.vcek)
    other = bytes.fromhex("300d06092a864886f70d01010c0500")
    data = wrap(der.SEQUENCE, body.whole + other + signature.whole)
    with pytest.raises(DecodeError, match="two signature algorithms"):
        Certificate.parse(data)


def ask_with(*extensions: tuple[Any, bool]) -> bytes:
    builder = pki._builder(pki._ASK_NAME, VENDOR.ask_key.public_key(), pki._ARK_NAME, serial=2, now=NOW)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(VENDOR.ark_key, SHA384, rsa_padding=pss(SHA384, 48)).public_bytes(
        serialization.Encoding.DER
    )


def vcek_with(*more: tuple[Any, bool], subject: str = "SEV-VCEK", key: Any = None) -> bytes:
    public = key or CHIP.key.public_key()
    builder = pki._builder(subject, public, pki._ASK_NAME, serial=1, now=NOW)
    for dotted, value in pki._vcek_extensions(CHIP.chip_id, CHIP.tcb, "Simulated").items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        builder = builder.add_extension(extension, critical=False)
    for extension, critical in more:
        builder = builder.add_extension(extension, critical=critical)
    made = builder.sign(VENDOR.ask_key, SHA384, rsa_padding=pss(SHA384, 48))
    return pki._with_serial_zero(made, VENDOR.ask_key)


def usage(*, sign: bool, data: bool = False) -> x509.KeyUsage:
    flags = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False
    )  # fmt: skip
    return x509.KeyUsage(**flags, key_cert_sign=sign, digital_signature=data)


AUTHORITY = (x509.BasicConstraints(ca=True, path_length=None), True)
SIGNS = (usage(sign=True), True)


def test_a_critical_extension_that_nobody_understands_is_refused() -> None:
    assert chain(ask=ask_with(AUTHORITY, SIGNS), vcek=vcek_with())
    assert chain(ask=ask_with(AUTHORITY, SIGNS, (UNKNOWN, False)), vcek=vcek_with((UNKNOWN, False)))
    with pytest.raises(ChainError, match="critical extension"):
        chain(vcek=vcek_with((UNKNOWN, True)))
    with pytest.raises(ChainError, match="critical extension"):
        chain(ask=ask_with(AUTHORITY, SIGNS, (UNKNOWN, True)))
    # An extension that is known elsewhere is not known here.
    constraint = x509.NameConstraints(permitted_subtrees=[x509.DNSName("example")], excluded_subtrees=None)
    with pytest.raises(ChainError, match="critical extension"):
        chain(ask=ask_with(AUTHORITY, SIGNS, (constraint, True)))


@pytest.mark.parametrize(
    "extensions",
    [
        (),
        (AUTHORITY,),
        (SIGNS,),
        (AUTHORITY, (usage(sign=False), True)),
        (AUTHORITY, (usage(sign=False, data=True), True)),
        ((x509.BasicConstraints(ca=False, path_length=None), True), SIGNS),
    ],
)
def test_who_is_no_authority_certifies_no_chip(extensions: tuple[tuple[Any, bool], ...]) -> None:
    with pytest.raises(PeerError, match="authority" if extensions else "field"):
        chain(ask=ask_with(*extensions))


def test_malformed_basic_constraints() -> None:
    extensions = {**ARK.extensions, BASIC_CONSTRAINTS: bytes.fromhex("3003010105")}
    with pytest.raises(DecodeError, match=r"^basicConstraints has a malformed truth value"):
        _ = replace(ARK, extensions=extensions).is_authority


def test_a_key_of_an_unknown_kind_and_one_that_is_none() -> None:
    with pytest.raises(DecodeError, match="a key of an unknown kind"):
        Certificate.parse(vcek_with(key=ed25519.Ed25519PrivateKey.generate().public_key()))
    point = CHIP.key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    with pytest.raises(DecodeError, match="a malformed key"):
        Certificate.parse(CHIP.vcek.replace(point, point[:-1] + bytes([point[-1] ^ 1])))


def test_an_authority_or_another_key_in_the_place_of_the_chips() -> None:
    with pytest.raises(ChainError, match="authority"):
        chain(vcek=vcek_with((x509.BasicConstraints(ca=False, path_length=None), False)))
    with pytest.raises(ChainError, match="neither a VCEK nor a VLEK"):
        chain(vcek=vcek_with(subject="SEV-ASVK"))
    assert chain(vcek=vcek_with(subject="SEV-VLEK"))[2].common_name == "SEV-VLEK"
    with pytest.raises(PeerError):
        chain(vcek=VENDOR.ask)
    with pytest.raises(PeerError):
        chain(ask=CHIP.vcek)
    report = Report.parse(REPORT)
    for key in (ec.generate_private_key(ec.SECP256R1()), VENDOR.ask_key):
        _, _, vcek = chain(vcek=vcek_with(key=key.public_key()))
        with pytest.raises(PeerError, match="not a P-384 key"):
            verify_report(report, vcek)


def test_a_revocation_list_with_a_critical_extension_is_not_all_of_it() -> None:
    start = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(pki._name(pki._ARK_NAME))
        .last_update(start)
        .next_update(start + dt.timedelta(days=1))
    )
    make = functools.partial(builder.sign, VENDOR.ark_key, SHA384, rsa_padding=pss(SHA384, 48))
    assert verify_revocation_list(make().public_bytes(serialization.Encoding.DER), ark=ARK)
    for extension in (x509.DeltaCRLIndicator(1), UNKNOWN):
        builder = builder.add_extension(extension, critical=True)
        data = builder.sign(VENDOR.ark_key, SHA384, rsa_padding=pss(SHA384, 48)).public_bytes(
            serialization.Encoding.DER
        )
        with pytest.raises(DecodeError, match="critical"):
            verify_revocation_list(data, ark=ARK)


@st.composite
def spoiled(draw: st.DrawFn, genuine: bytes) -> bytes:
    """Genuine bytes with a few pieces changed, cut out, doubled or put in."""
    data = bytearray(genuine)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("flip", "cut", "double", "insert", "end"))):
            case "flip" if at < len(data):
                data[at] ^= draw(st.integers(1, 255))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "double":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=20))
            case _:
                del data[at:]
    assume(bytes(data) != genuine)
    return bytes(data)


def read_everything(data: bytes) -> None:
    certificate = Certificate.parse(data)
    accessors: list[Any] = [
        lambda: certificate.common_name,
        lambda: certificate.is_authority,
        lambda: product_name(certificate),
    ]
    for turin in (False, True):
        accessors += [
            functools.partial(hardware_id, certificate, turin=turin),
            functools.partial(certified_tcb, certificate, turin=turin),
        ]
    for accessor in accessors:
        with contextlib.suppress(DecodeError):
            accessor()


@pytest.mark.exhaustive
@settings(max_examples=400, deadline=None)
@given(st.one_of(st.binary(max_size=200), *(spoiled(data) for data in (CHIP.vcek, VENDOR.ask, VENDOR.ark))))
def test_any_bytes_give_a_certificate_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        read_everything(data)
    for place in ("ask", "vcek"):
        with pytest.raises(PeerError):
            chain(**{place: data})


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), spoiled(VENDOR.crl)))
def test_any_bytes_give_a_revocation_list_or_a_typed_error(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        RevocationList.parse(data)
    with pytest.raises(PeerError):
        verify_revocation_list(data, ark=ARK)


@pytest.mark.exhaustive
@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.binary(max_size=50), spoiled(REPORT), st.binary(min_size=REPORT_SIZE, max_size=REPORT_SIZE))
)
def test_any_bytes_give_a_report_or_a_typed_error(data: bytes) -> None:
    try:
        report = Report.parse(data)
        for value in (report.current_tcb, report.reported_tcb, report.committed_tcb, report.launch_tcb):
            report.tcb(value)
    except DecodeError:
        return
    with pytest.raises(PeerError):
        verify_report(report, Certificate.parse(CHIP.vcek))


def test_inner_values_of_a_signed_certificate_are_read_as_strictly() -> None:
    """The vendor's key signs what it should not: still no error but a typed one."""
    for name, value in (
        ("1.3.6.1.4.1.3704.1.3.1", b"\x02\x00"),
        ("1.3.6.1.4.1.3704.1.3.1", b"\x02\x02\x01\x00"),
        ("1.3.6.1.4.1.3704.1.3.1", b"\x02\x01\xff"),
        ("1.3.6.1.4.1.3704.1.3.1", b"\x02\x02\x00\x01"),
        ("1.3.6.1.4.1.3704.1.3.8", b""),
        ("1.3.6.1.4.1.3704.1.3.4", b"\x02\x01\x01"),
        ("1.3.6.1.4.1.3704.1.3.9", b"\x02\x01\x01"),
    ):
        extensions = dict(pki._vcek_extensions(CHIP.chip_id, CHIP.tcb, "Simulated")) | {name: value}
        data = pki._vcek(CHIP.key.public_key(), VENDOR.ask_key, now=NOW, extensions=extensions)
        _, _, vcek = chain(vcek=data)
        with pytest.raises(DecodeError):
            certified_tcb(vcek, turin=False)


SERIALS = {1, 2**64, 300}


def issued_list(*reasons: x509.ReasonFlags | None) -> bytes:
    """A revocation list by the vendor's root: these serial numbers, each with a reason or none."""
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=x509.load_der_x509_certificate(VENDOR.ark).subject,
        last_update=moment,
        next_update=moment + dt.timedelta(days=1),
    )
    for serial, reason in zip(sorted(SERIALS), reasons, strict=False):
        entry = x509.RevokedCertificateBuilder(serial_number=serial, revocation_date=moment)
        if reason is not None:
            entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(VENDOR.ark_key, SHA384, rsa_padding=pss(SHA384, 48)).public_bytes(
        serialization.Encoding.DER
    )


def test_who_is_revoked_with_and_without_a_reason() -> None:
    stolen = x509.ReasonFlags.key_compromise
    assert RevocationList.parse(issued_list(stolen, None, stolen)).serials == SERIALS
    assert RevocationList.parse(issued_list()).serials == frozenset()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"\x02\x01\x01\x17", b"\x04\x01\x01\x17", "the revocation list has a missing or misplaced field"),
        (b"\x02\x01\x01\x17", b"\x02\x01\x01\x16", "the revocation list has a missing or misplaced field"),
        (b"\x30\x12\x02\x01\x01", b"\x31\x12\x02\x01\x01", "the revocation list has a malformed entry"),
    ],
)
def test_malformed_entries(old: bytes, new: bytes, words: str) -> None:
    data = issued_list(None)
    assert data.count(old) == 1
    with pytest.raises(DecodeError, match=words):
        RevocationList.parse(data.replace(old, new))


def test_an_entry_with_more_in_it() -> None:
    data = issued_list(x509.ReasonFlags.key_compromise)
    reason = bytes.fromhex("300c300a0603551d1504030a0101")
    assert data.count(reason) == 1
    with pytest.raises(DecodeError, match="the revocation list has an unknown field"):
        RevocationList.parse(data.replace(reason, b"\x31" + reason[1:]))


def test_bytes_of_an_extension_stand_alone_or_as_an_octet_string() -> None:
    certificate = Certificate.parse(CHIP.vcek)

    def octets(value: bytes, length: int) -> bytes:
        return replace(certificate, extensions={b"name": value}).octets(b"name", length)

    assert octets(b"12345678", 8) == octets(b"\x04\x0812345678", 8) == b"12345678"
    # What looks like a wrapped value of six bytes is a plain one of eight.
    assert octets(b"\x04\x06123456", 8) == b"\x04\x06123456"
    for value in (
        b"",
        b"1234567",
        b"123456789",
        b"\x04\x071234567",
        b"\x05\x0812345678",
        b"\x04\x08123456789",
        b"\x04\x091234567890",
    ):
        with pytest.raises(DecodeError, match="wrong length"):
            octets(value, 8)


def test_text_of_an_extension_is_ascii() -> None:
    certificate = replace(Certificate.parse(CHIP.vcek), extensions={b"name": b"\x16\x02\xc3\xa4"})
    with pytest.raises(DecodeError, match="the certificate has text outside ASCII"):
        certificate.text(b"name")


def with_fields(data: bytes, change: Callable[[list[bytes]], None]) -> bytes:
    """`data` with other fields inside what is signed; the signature is left as it is."""
    body, algorithm, signature = parts(data)
    fields = [value.whole for value in der.values(body.body)]
    change(fields)
    return wrap(der.SEQUENCE, wrap(der.SEQUENCE, b"".join(fields)) + algorithm.whole + signature.whole)


def replaced(place: int, value: bytes) -> Callable[[list[bytes]], None]:
    def change(fields: list[bytes]) -> None:
        fields[place] = value

    return change


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(16 * 1024 + 1), "the certificate is longer than its limit"),
        (bytes(16 * 1024), "the DER is not the one value that it should be"),
        (with_fields(CHIP.vcek, replaced(0, wrap(0xA0, b"\x02\x01\x01"))), "the certificate is of an unknown version"),
        (with_fields(CHIP.vcek, replaced(2, b"\x30\x00")), "the certificate names two signature algorithms"),
        (with_fields(CHIP.vcek, lambda fields: fields.append(b"\x05\x00")), "the certificate has an unknown field"),
        (with_fields(CHIP.vcek, replaced(4, b"\x30\x00")), "the certificate has a missing or misplaced field"),
    ],
)  # fmt: skip
def test_words_for_what_is_no_certificate(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$"):
        Certificate.parse(data)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (bytes(48 * 1024 + 1), "the revocation list is longer than its limit"),
        (with_fields(VENDOR.crl, replaced(0, b"\x02\x01\x00")), "the revocation list is of an unknown version"),
        (with_fields(VENDOR.crl, replaced(1, b"\x30\x00")), "the revocation list names two signature algorithms"),
        (with_fields(VENDOR.crl, replaced(3, b"\x30\x00")), "the revocation list has a missing or misplaced field"),
        (with_fields(VENDOR.crl, lambda fields: fields.append(b"\x05\x00")), "the revocation list has an unknown field"),
    ],
)  # fmt: skip
def test_words_for_what_is_no_revocation_list(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$"):
        RevocationList.parse(data)


COMMON = wrap(0x06, bytes.fromhex("550403"))


@pytest.mark.parametrize("tag", [0x0C, 0x13, 0x16])
def test_the_three_kinds_of_text_in_a_name(tag: int) -> None:
    name = wrap(0x30, wrap(0x31, wrap(0x30, COMMON + wrap(tag, b"SEV-VCEK"))))
    assert replace(ARK, subject=name).common_name == "SEV-VCEK"


@pytest.mark.parametrize(
    ("relative", "words"),
    [
        (wrap(0x30, wrap(0x30, COMMON + wrap(0x0C, b"x"))), "the certificate has a malformed name"),
        (wrap(0x31, wrap(0x30, COMMON + wrap(0x17, b"x"))), "the certificate has a malformed name"),
        (wrap(0x31, wrap(0x30, COMMON)), "the certificate has a malformed name"),
        (
            wrap(0x31, wrap(0x30, wrap(0x0C, b"x"))),
            "the certificate's name has a missing or misplaced field",
        ),
        (wrap(0x31, wrap(0x30, COMMON + wrap(0x0C, b"\xff"))), "the certificate has a common name outside ASCII"),
        (b"", "the certificate has not exactly one common name"),
    ],
)  # fmt: skip
def test_words_for_a_malformed_name(relative: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=f"^{words}$"):
        _ = replace(ARK, subject=wrap(0x30, relative)).common_name
