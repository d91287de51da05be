"""The parsers of a paravisor's evidence: what is not exactly in the form is an error of ours, whatever it is."""

import base64
import contextlib
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sottovoce.attest.paravisor.claims import RuntimeClaims, base64url
from sottovoce.attest.paravisor.forms import parse_evidence, parse_quote
from sottovoce.attest.paravisor.layout import HclReport, HclVersionError, is_hcl_report
from sottovoce.attest.paravisor.quote import QuoteTypeError, SignedQuote, TpmQuote, signature_bytes
from sottovoce.attest.strictjson import strict_json
from sottovoce.core.errors import DecodeError, PeerError
from sottovoce.simulator.paravisor import SimulatedParavisor, simulated_quote
from sottovoce.simulator.testing import NOW, vendor

VTPM = SimulatedParavisor(vendor().make_chip(now=NOW), bytes(48))
REPORT = VTPM.hcl_report()
CLAIMS = VTPM.claims_json()
END = 1236 + len(CLAIMS)
MESSAGE = VTPM.quote(b"nonce").message
QUOTE = {
    "message": MESSAGE.hex(),
    "signature": VTPM.sign(MESSAGE).hex(),
    "pcrs": [one.hex() for one in VTPM.pcrs],
}


def patched(at: int, form: str, *values: Any, data: bytes = REPORT) -> bytes:
    changed = bytearray(data)
    struct.pack_into(form, changed, at, *values)
    return bytes(changed)


# The paravisor's report.


@pytest.mark.parametrize("size", [END, END + 1, 2600, 4096])
def test_a_report_with_and_without_its_padding(size: int) -> None:
    parsed = HclReport.parse(REPORT[:END].ljust(size, b"\0"))
    assert (parsed.version, parsed.kind, parsed.claims) == (2, "sev-snp", CLAIMS)
    assert len(parsed.hardware) == 1184
    assert HclReport.parse(patched(4, "<I", 1)).version == 1


@pytest.mark.parametrize(
    ("at", "value"),
    [(4, 0), (4, 3), (12, 0), (12, 1), (12, 3), (0x4C4, 0), (0x4C4, 3), (0x4C8, 0), (0x4C8, 1), (0x4C8, 3), (0x4C8, 5),
     (0x4CC, 0), (0x4CC, 2), (0x4CC, 3)],
)  # fmt: skip
def test_unknown_versions_and_types(at: int, value: int) -> None:
    with pytest.raises(HclVersionError):
        HclReport.parse(patched(at, "<I", value))


def test_data_of_version_2_have_capabilities_before_the_claims() -> None:
    for capabilities in (0, 0b111, 0b1_1111):
        data = VTPM.hcl_report(capabilities=capabilities)
        assert HclReport.parse(data).claims == HclReport.parse(REPORT).claims == CLAIMS
        # Either version read as the other has sizes that do not fit.
        with pytest.raises(DecodeError, match="sizes"):
            HclReport.parse(patched(0x4C4, "<I", 1, data=data))
    with pytest.raises(DecodeError, match="sizes"):
        HclReport.parse(patched(0x4C4, "<I", 2))
    for unknown in (0b10_0000, 1 << 31):
        with pytest.raises(DecodeError, match="reserved"):
            HclReport.parse(VTPM.hcl_report(capabilities=unknown))
    short = VTPM.hcl_report(capabilities=7)[:1240]
    for cut in (1237, 1239, 1240):
        with pytest.raises(DecodeError):
            HclReport.parse(short[:cut])


@pytest.mark.parametrize("at", [8, 0x4C0, 0x4D0])
@pytest.mark.parametrize("change", [-1, 1, 1 << 20])
def test_sizes_that_do_not_fit(at: int, change: int) -> None:
    (value,) = struct.unpack_from("<I", REPORT, at)
    with pytest.raises(DecodeError, match="sizes"):
        HclReport.parse(patched(at, "<I", value + change))


@pytest.mark.parametrize("at", [0x10, 0x14, 0x1F, END, 2599])
def test_reserved_bytes_and_bytes_after_the_claims(at: int) -> None:
    with pytest.raises(DecodeError, match="reserved"):
        HclReport.parse(patched(at, "B", 1))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HCLA",
        REPORT[:1236],
        REPORT[: END - 1],
        b"HCLB" + REPORT[4:],
        REPORT.ljust(16 * 1024 + 1, b"\0"),
    ],
)
def test_what_is_no_report(data: bytes) -> None:
    with pytest.raises(DecodeError):
        HclReport.parse(data)


def test_the_shortest_and_the_longest_report() -> None:
    assert HclReport.parse(REPORT.ljust(16 * 1024, b"\0")).claims == CLAIMS
    for data in (REPORT[:1236], REPORT.ljust(16 * 1024 + 1, b"\0")):
        with pytest.raises(DecodeError, match="this is not a paravisor's report"):
            HclReport.parse(data)


def test_a_report_without_claims() -> None:
    data = (
        struct.pack("<4sIIII12s", b"HCLA", 2, 1236, 2, 0, b"")
        + bytes(1184)
        + struct.pack("<IIIII", 20, 1, 2, 1, 0)
    )
    with pytest.raises(DecodeError, match="sizes"):
        HclReport.parse(data.ljust(2600, b"\0"))


def test_a_tdreport_is_held_to_its_form() -> None:
    td = patched(0x4C8, "<I", 4, data=patched(32, "1184s", b"\x81" + b"t" * 1023))
    parsed = HclReport.parse(td)
    assert (parsed.kind, len(parsed.hardware), parsed.td_report_data) == ("tdx", 1024, b"t" * 64)
    for wrong in (patched(32, "B", 0, data=td), patched(32 + 1024, "B", 1, data=td), patched(0x4C8, "<I", 4)):
        with pytest.raises(DecodeError, match="TDREPORT"):
            HclReport.parse(wrong)


@given(st.binary(max_size=3000))
@example(REPORT)
def test_no_bytes_break_the_reports_parser(data: bytes) -> None:
    for one in (data, b"HCLA" + data, REPORT[:1216] + data):
        try:
            assert HclReport.parse(one).claims in one
            assert is_hcl_report(one)
        except PeerError:
            pass


# The claims.


def claims_with(change: Callable[[dict[str, Any]], Any]) -> bytes:
    claims = json.loads(CLAIMS)
    change(claims)
    return json.dumps(claims).encode()


def integer(value: int, *, zeros: int = 0) -> str:
    data = bytes(zeros) + value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


MODULUS = VTPM.attestation_key.public_key().public_numbers().n


def test_the_longest_claims() -> None:
    assert RuntimeClaims.parse(CLAIMS.ljust(16 * 1024)) == RuntimeClaims.parse(CLAIMS)
    with pytest.raises(DecodeError, match="longer than their limit"):
        RuntimeClaims.parse(CLAIMS.ljust(16 * 1024 + 1))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{", "the runtime claims are not JSON"),
        (b"\xff", "the runtime claims are not JSON"),
        (
            CLAIMS.replace(b'"e":"AQAB"', b'"e":"AQAB="', 1),
            "the attestation key's numbers are not base64url in its canonical form",
        ),
    ],
)
def test_the_words_for_claims_that_do_not_parse(data: bytes, words: str) -> None:
    with pytest.raises(DecodeError) as refused:
        RuntimeClaims.parse(data)
    assert str(refused.value) == words


def test_good_claims() -> None:
    claims = RuntimeClaims.parse(CLAIMS)
    assert claims.attestation_key == VTPM.attestation_key.public_key()
    assert (claims.secure_boot, claims.console, claims.user_data) == (True, False, bytes(64))
    assert RuntimeClaims.parse(claims_with(lambda c: c["vm-configuration"].update(new=[1, {}]))).secure_boot


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_the_smallest_number_of_a_size_is_of_that_size(bits: int) -> None:
    modulus = integer(1 << bits - 1 | 1)
    key = RuntimeClaims.parse(claims_with(lambda c: c["keys"][0].update(n=modulus))).attestation_key
    assert key.key_size == bits


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("keys"),
        lambda c: c.pop("user-data"),
        lambda c: c.update(more=1),
        lambda c: c.update({"keys": {}}),
        lambda c: c.update({"keys": [1]}),
        lambda c: c.update({"keys": []}),
        lambda c: c.update({"keys": c["keys"] + c["keys"][:1]}),
        lambda c: c.update({"vm-configuration": []}),
        lambda c: c["vm-configuration"].update({"secure-boot": 1}),
        lambda c: c["vm-configuration"].update({"secure-boot": None}),
        lambda c: c["vm-configuration"].update({"console-enabled": "false"}),
        lambda c: c["vm-configuration"].update({"x": 1.5}),
        lambda c: c["vm-configuration"].update({"x": float("nan")}),
        lambda c: c.update({"user-data": ""}),
        lambda c: c.update({"user-data": "00" * 63}),
        lambda c: c.update({"user-data": "zz" * 64}),
        lambda c: c.update({"user-data": " 0" * 64}),
        lambda c: c["keys"][0].update(kid="HCLEkPub"),
        lambda c: c["keys"][0].update(kid=1),
        lambda c: c["keys"][0].update(kty="EC"),
        lambda c: c["keys"][0].update(kty=["RSA"]),
        lambda c: c["keys"][0].update(key_ops=["encrypt"]),
        lambda c: c["keys"][0].update(key_ops=["sign", "encrypt"]),
        lambda c: c["keys"][0].update(alg="RS1"),
        lambda c: c["keys"][0].pop("e"),
        lambda c: c["keys"][0].update(e="Aw"),
        lambda c: c["keys"][0].update(e=integer(65537, zeros=1)),
        lambda c: c["keys"][0].update(e=65537),
        lambda c: c["keys"][0].update(e=""),
        lambda c: c["keys"][0].update(n=integer(MODULUS, zeros=1)),
        lambda c: c["keys"][0].update(n=integer(MODULUS) + "=="),
        lambda c: c["keys"][0].update(n=integer(MODULUS)[:-1] + "B"),
        lambda c: c["keys"][0].update(n=integer(MODULUS) + "\n"),
        lambda c: c["keys"][0].update(n=integer(MODULUS).replace("_", "/").replace("-", "+") + "+"),
        lambda c: c["keys"][0].update(n=integer(MODULUS >> 1 | 1)),
        lambda c: c["keys"][0].update(n=integer(MODULUS >> 1024 | 1)),
        lambda c: c["keys"][0].update(n=integer(MODULUS - 1)),
        lambda c: c["keys"][0].update(n=integer(1 << 4103 | 1)),
    ],
)
def test_claims_in_another_form(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(DecodeError):
        RuntimeClaims.parse(claims_with(change))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        CLAIMS + b"x",
        CLAIMS + b"\0",
        b"\xef\xbb\xbf" + CLAIMS,
        CLAIMS.decode().encode("utf-16"),
        CLAIMS.replace(b"SIMULATED", b"\xff"),
        CLAIMS.replace(b'"secure-boot":true', b'"secure-boot":false,"secure-boot":true'),
        CLAIMS.replace(b'{"keys"', b'{"keys":[],"keys"'),
        b"[" * 10_000,
        b"9" * 10_000,
        CLAIMS.ljust(16 * 1024 + 1),
    ],
)
def test_what_are_no_claims(data: bytes) -> None:
    with pytest.raises(DecodeError):
        RuntimeClaims.parse(data)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON, st.sampled_from(["keys", "vm-configuration", "user-data"]))
def test_no_value_breaks_the_claims_parser(value: Any, name: str) -> None:
    changes: list[Callable[[dict[str, Any]], Any]] = [
        lambda c: c.update({name: value}),
        lambda c: c["keys"][0].update(dict.fromkeys(("n", "kty"), value)),
        lambda c: c["keys"].append(value),
    ]
    for change in changes:
        with contextlib.suppress(PeerError):
            RuntimeClaims.parse(claims_with(change))


@given(st.binary(min_size=1, max_size=40))
def test_base64url_has_one_form(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    assert base64url(text, "it") == data
    for other in (text + "=", text + "A===", " " + text, text + "\n"):
        with pytest.raises(DecodeError):
            base64url(other, "it")


@given(st.text(max_size=40))
def test_what_base64url_accepts_is_what_it_writes(text: str) -> None:
    try:
        value = base64url(text, "it")
    except PeerError:
        return
    assert base64.urlsafe_b64encode(value).rstrip(b"=").decode() == text


def test_json_keeps_integers_and_nothing_looser() -> None:
    assert strict_json(b'{"a":1}', "it") == {"a": 1}
    for data in (b"1.0", b"1e3", b"NaN", b"-Infinity", b'{"a":1,"a":1}', b'[{"b":[{"a":1,"a":2}]}]'):
        with pytest.raises(DecodeError):
            strict_json(data, "it")


# The quote.


def test_a_good_quote() -> None:
    quote = TpmQuote.parse(simulated_quote(b"x" * 64, VTPM.pcrs, (0, 8, 23)))
    assert (quote.nonce, quote.selected) == (b"x" * 64, (0, 8, 23))
    assert quote.digest_of(VTPM.pcrs) == quote.pcr_digest
    assert TpmQuote.parse(simulated_quote(b"", VTPM.pcrs, (5,))).nonce == b""


def test_a_quote_whose_clock_is_not_safe_is_still_a_quote() -> None:
    assert TpmQuote.parse(patched(65, "B", 0, data=MESSAGE)).nonce == b"nonce"


def test_names_and_digests_of_another_length_are_refused_where_all_else_fits() -> None:
    for size in (0, 2, 20, 33):
        signer = struct.pack(">HH", size, 0x000B)[: 2 + size] + bytes(max(0, size - 2))
        with pytest.raises(DecodeError, match="hash"):
            TpmQuote.parse(MESSAGE[:6] + signer + MESSAGE[42:])
        with pytest.raises(DecodeError, match="digest"):
            TpmQuote.parse(MESSAGE[:84] + struct.pack(">H", size if size < 33 else 31) + bytes(min(size, 31)))


def test_a_signature_of_another_length_behind_the_right_scheme() -> None:
    head = bytes.fromhex("0014000b0100")
    assert signature_bytes(head + bytes(256), size=256) == bytes(256)
    for size in (0, 255, 257):
        with pytest.raises(DecodeError, match="RSASSA"):
            signature_bytes(head + bytes(size), size=256)


# Where things stand in MESSAGE: signer at 6, extra data at 42, clock at 49, selection at 74, digest at 84.
@pytest.mark.parametrize(
    "data",
    [
        b"",
        MESSAGE[:-1],
        MESSAGE + b"\0",
        MESSAGE * 9,
        patched(6, ">H", 0, data=MESSAGE),
        patched(6, ">H", 35, data=MESSAGE),
        patched(6, ">H", 0xFFFF, data=MESSAGE),
        patched(8, ">H", 0x0004, data=MESSAGE),
        patched(42, ">H", 65, data=MESSAGE),
        patched(65, "B", 2, data=MESSAGE),
        patched(74, ">I", 0, data=MESSAGE),
        patched(74, ">I", 2, data=MESSAGE),
        patched(78, ">H", 0x0004, data=MESSAGE),
        patched(78, ">H", 0x000C, data=MESSAGE),
        patched(80, "B", 2, data=MESSAGE),
        patched(80, "B", 4, data=MESSAGE),
        patched(84, ">H", 20, data=MESSAGE),
        patched(84, ">H", 33, data=MESSAGE),
        simulated_quote(b"", VTPM.pcrs, ()),
        simulated_quote(b"n" * 65, VTPM.pcrs, (0,)),
    ],
)
def test_what_is_no_quote(data: bytes) -> None:
    with pytest.raises(DecodeError):
        TpmQuote.parse(data)


def test_what_no_tpm_made() -> None:
    for data in (patched(0, ">I", 0, data=MESSAGE), patched(4, ">H", 0x8017, data=MESSAGE)):
        with pytest.raises(QuoteTypeError):
            TpmQuote.parse(data)


@given(st.integers(0, len(MESSAGE)), st.binary(max_size=60))
def test_no_bytes_break_the_quotes_parser(cut: int, tail: bytes) -> None:
    for one in (MESSAGE[:cut] + tail, tail, MESSAGE[:cut] + tail + MESSAGE[cut:]):
        try:
            quote = TpmQuote.parse(one)
        except PeerError:
            continue
        assert quote.selected
        assert len(quote.pcr_digest) == 32


@given(st.binary(max_size=300), st.sampled_from([256, 384, 512]))
def test_no_bytes_break_the_signatures_parser(data: bytes, size: int) -> None:
    for one in (data, bytes.fromhex("0014000b") + data):
        with contextlib.suppress(PeerError):
            assert len(signature_bytes(one, size=size)) == size


@pytest.mark.parametrize("pcrs", [(), (bytes(32),) * 23, (bytes(32),) * 25, (bytes(32),) * 23 + (bytes(20),)])
def test_registers_of_another_number_or_size(pcrs: tuple[bytes, ...]) -> None:
    with pytest.raises(DecodeError):
        SignedQuote(message=MESSAGE, signature=b"", pcrs=pcrs)


# JSON documents.


def document(**changes: Any) -> bytes:
    members = {
        "version": 1,
        "hcl_report": base64.urlsafe_b64encode(REPORT).decode(),
        "tpm_quote": QUOTE,
        **changes,
    }
    return json.dumps({name: value for name, value in members.items() if value is not ...}).encode()


def test_each_form_of_evidence() -> None:
    quote = parse_quote(json.dumps(QUOTE).encode())
    assert (quote.message, quote.pcrs) == (MESSAGE, VTPM.pcrs)
    vcek = base64.urlsafe_b64encode(b"certificate!").decode()
    found = parse_evidence(document(vcek=vcek))
    assert (found.report, found.vcek, found.quote) == (REPORT, (b"certificate!",), quote)
    lists = {
        "message": list(quote.message),
        "signature": list(quote.signature),
        "pcrs": [list(p) for p in VTPM.pcrs],
    }
    old = document(version=..., hcl_report=..., tpm_quote=..., report=list(REPORT), quote=lists)
    assert parse_evidence(old).quote == quote
    assert parse_evidence(old).vcek == ()
    assert parse_evidence(document(tpm_quote=...)).quote is None
    assert parse_quote(json.dumps({**QUOTE, "pcrs": None}).encode()).pcrs is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        document(version=0),
        document(version=3),
        document(version=True),
        document(version="1"),
        document(more=1),
        document(report=list(REPORT)),
        document(quote=QUOTE),
        document(hcl_report=...),
        document(hcl_report=1),
        document(hcl_report="===="),
        document(hcl_report=base64.b64encode(b"\xff\xff\xff").decode()),
        document(hcl_report=base64.urlsafe_b64encode(REPORT).decode() + "="),
        document(hcl_report=base64.urlsafe_b64encode(REPORT).decode() + "===="),
        document(hcl_report=[256]),
        document(hcl_report=[-1]),
        document(hcl_report=[True]),
        document(hcl_report=["1"]),
        document(vcek=1),
        document(vcek="-----BEGIN CERTIFICATE-----"),
        document(vcek="-----BEGIN é"),
        document(tpm_quote=1),
        document(tpm_quote={**QUOTE, "more": 1}),
        document(tpm_quote={"message": "00"}),
        document(tpm_quote={**QUOTE, "message": "0"}),
        document(tpm_quote={**QUOTE, "message": ""}),
        document(tpm_quote={**QUOTE, "message": "zz"}),
        document(tpm_quote={**QUOTE, "pcrs": 1}),
        document(tpm_quote={**QUOTE, "pcrs": []}),
        document(tpm_quote={**QUOTE, "pcrs": [1] * 24}),
        document(tpm_quote={**QUOTE, "pcrs": ["00" * 20] * 24}),
        document()[:-1] + b',"version":1}',
        document().ljust(256 * 1024 + 1),
    ],
)
def test_what_is_no_evidence(data: bytes) -> None:
    with pytest.raises(DecodeError):
        parse_evidence(data)


def test_what_evidence_of_another_kind_is_told() -> None:
    for data, words in (
        (document(td_quote="00"), "this is a TDX machine's evidence"),
        (document(platform="az-snp"), "the evidence has a member that is not known"),
        (document(version=3), "the evidence is of an unknown version"),
    ):
        with pytest.raises(DecodeError, match=words):
            parse_evidence(data)


@given(_JSON, st.sampled_from(["version", "hcl_report", "vcek", "tpm_quote", "report", "pcrs"]))
def test_no_value_breaks_the_evidences_parser(value: Any, name: str) -> None:
    for data in (document(**{name: value}), document(tpm_quote={**QUOTE, name: value})):
        with contextlib.suppress(PeerError):
            parse_evidence(data)


def test_the_longest_quote() -> None:
    with pytest.raises(DecodeError, match="bytes after the quote"):
        TpmQuote.parse(MESSAGE.ljust(1024, b"\0"))
    with pytest.raises(DecodeError, match="longer than its limit"):
        TpmQuote.parse(MESSAGE.ljust(1025, b"\0"))
