"""Intel in software: root, platform authority, signers of patch levels, and platforms with a quoting enclave.

Shaped like Intel's to the last extension, so that the verifier runs the same lines; only the root differs, and every name says
"Simulated". Public test support: each part of the collateral and each field of the quote can be changed before it is signed.

    intel = SimulatedIntel.create(now=now)
    platform = intel.make_platform(now=now)
    quote = platform.quote(QuoteFields(report_data=bytes(64)))
    verify_quote(quote, intel.collateral(now=now), policy=intel.policy, now=now)
"""

import datetime as dt
import hashlib
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.x509.oid import NameOID

from sottovoce.attest.policy import TDX_PRODUCT, Root, TdxPolicy
from sottovoce.simulator.derwriter import integer, oid, sequence, wrap

__all__ = ["QuoteFields", "SimulatedIntel", "SimulatedPlatform"]

_SHA256: Final = hashes.SHA256()
_PEM, _DER = serialization.Encoding.PEM, serialization.Encoding.DER
_OCTETS, _ENUMERATED = 0x04, 0x0A
_YEARS: Final = 20
# Intel SGX PCK certificate and certificate revocation list profile specification, section 1.3.5
_SGX: Final = "1.2.840.113741.1.13.1"
_FMSPC: Final = bytes.fromhex("50806f000000")
_PCE_ID: Final = b"\0\0"
_CPU_SVN: Final = bytes([3, 3, 2, 2, 4, 1, 0, 5]) + bytes(8)
_PCE_SVN: Final = 11
_TEE_TCB_SVN: Final = bytes([5, 1, 2]) + bytes(13)
_QE_SIGNER: Final = hashlib.sha256(b"simulated quoting enclave").digest()
_QE_PRODUCT, _QE_SVN = 2, 4
_VENDOR: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
_AUTH: Final = bytes(range(32))
_ZERO: Final = bytes(48)
_SEPT_VE_DISABLE: Final = 1 << 28
_TD_REPORT_15: Final = 3

Change = Callable[[dict[str, Any]], dict[str, Any]]


def _same(document: dict[str, Any]) -> dict[str, Any]:
    return document


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteFields:
    """What a quote says; lengths are those of `attest.tdx.layout`. Version 5 has a TD report 1.5."""

    report_data: bytes
    version: int = 4
    tee_tcb_svn: bytes = _TEE_TCB_SVN
    mr_seam: bytes = b"\x11" * 48
    mr_signer_seam: bytes = _ZERO
    seam_attributes: int = 0
    td_attributes: int = _SEPT_VE_DISABLE
    xfam: int = 0xE7
    mr_td: bytes = b"\x22" * 48
    mr_config_id: bytes = _ZERO
    mr_owner: bytes = _ZERO
    mr_owner_config: bytes = _ZERO
    rtmrs: tuple[bytes, ...] = (b"\x30" * 48, b"\x31" * 48, b"\x32" * 48, _ZERO)
    tee_tcb_svn_2: bytes = _TEE_TCB_SVN
    mr_service_td: bytes = _ZERO

    def encode(self) -> bytes:
        """Header and body, which the quoting enclave signs."""
        header = struct.pack("<HHI4s16s20s", self.version, 2, 0x81, bytes(4), _VENDOR, bytes(20))
        body = struct.pack(
            "<16s48s48sQQQ48s48s48s48s48s48s48s48s64s",
            self.tee_tcb_svn,
            self.mr_seam,
            self.mr_signer_seam,
            self.seam_attributes,
            self.td_attributes,
            self.xfam,
            self.mr_td,
            self.mr_config_id,
            self.mr_owner,
            self.mr_owner_config,
            *self.rtmrs,
            self.report_data,
        )
        if self.version == 4:  # noqa: PLR2004 - the version without a type of its body
            return header + body
        body += self.tee_tcb_svn_2 + self.mr_service_td
        return header + struct.pack("<HI", _TD_REPORT_15, len(body)) + body


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedPlatform:
    """A machine: its id (16 bytes), the key of its certificate, and the certificates above it (PEM)."""

    ppid: bytes
    key: ec.EllipticCurvePrivateKey
    chain: bytes
    attestation_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def quote(self, fields: QuoteFields) -> bytes:
        """A signed quote."""
        return self.sign(fields.encode())

    def sign(self, signed: bytes) -> bytes:
        """The quote whose header and body are `signed`, whatever these say."""
        key = self.attestation_key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )[1:]
        report = _enclave_report(hashlib.sha256(key + _AUTH).digest())
        nested = struct.pack("<HI", 5, len(self.chain)) + self.chain
        inner = report + _raw(self.key, report) + struct.pack("<H", len(_AUTH)) + _AUTH + nested
        outer = _raw(self.attestation_key, signed) + key + struct.pack("<HI", 6, len(inner)) + inner
        return signed + struct.pack("<I", len(outer)) + outer


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedIntel:
    """The vendor: three keys with certificates (DER)."""

    root_key: ec.EllipticCurvePrivateKey
    authority_key: ec.EllipticCurvePrivateKey
    signer_key: ec.EllipticCurvePrivateKey
    root: bytes
    authority: bytes
    signer: bytes

    @classmethod
    def create(cls, *, now: int) -> "SimulatedIntel":
        """A new vendor."""
        root, authority, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
        return cls(
            root_key=root,
            authority_key=authority,
            signer_key=signer,
            root=_certificate(_ROOT, root.public_key(), _ROOT, root, now=now, path=1),
            authority=_certificate(_AUTHORITY, authority.public_key(), _ROOT, root, now=now, path=0),
            signer=_certificate(_SIGNER, signer.public_key(), _ROOT, root, now=now, path=None),
        )

    @property
    def policy(self) -> TdxPolicy:
        """The strict policy with this vendor's root."""
        return TdxPolicy(root=self.root, simulated=True)

    @property
    def pin(self) -> Root:
        """This vendor's root, as a policy pins it."""
        return Root(product=TDX_PRODUCT, ark_der=self.root)

    def make_platform(self, *, now: int, ppid: bytes | None = None) -> SimulatedPlatform:
        """A new machine with a certificate of its own."""
        key = ec.generate_private_key(ec.SECP256R1())
        ppid = os.urandom(16) if ppid is None else ppid
        leaf = _certificate(
            _LEAF, key.public_key(), _AUTHORITY, self.authority_key, now=now, path=None, sgx=_sgx(ppid)
        )
        return SimulatedPlatform(ppid=ppid, key=key, chain=_pem(leaf, self.authority, self.root))

    def collateral(
        self,
        *,
        now: int,
        life: int = 30 * 86400,
        status: str = "UpToDate",
        advisories: tuple[str, ...] = (),
        change_tcb: Change = _same,
        change_enclave: Change = _same,
        revoked: tuple[int, ...] = (),
    ) -> bytes:
        """Collateral issued an hour before `now`, for `life` seconds; the changes are made before it is signed. `revoked`: serials of platforms."""
        start = dt.datetime.fromtimestamp(now - 3600, dt.UTC)
        end = start + dt.timedelta(seconds=life)
        dates = {"issueDate": _moment(start), "nextUpdate": _moment(end), "tcbEvaluationDataNumber": 17}
        tcb = json.dumps(change_tcb(_tcb_info(dates, status, advisories)))
        enclave = json.dumps(change_enclave(_enclave_identity(dates)))
        signers, authorities = _pem(self.signer, self.root).decode(), _pem(self.authority, self.root).decode()
        return json.dumps(
            {
                "pck_crl_issuer_chain": authorities,
                "root_ca_crl": _crl(_ROOT, self.root_key, start, end).hex(),
                "pck_crl": _crl(_AUTHORITY, self.authority_key, start, end, revoked).hex(),
                "tcb_info_issuer_chain": signers,
                "tcb_info": tcb,
                "tcb_info_signature": _raw(self.signer_key, tcb.encode()).hex(),
                "qe_identity_issuer_chain": signers,
                "qe_identity": enclave,
                "qe_identity_signature": _raw(self.signer_key, enclave.encode()).hex(),
            }
        ).encode()


_ROOT, _AUTHORITY = "Simulated SGX Root CA", "Simulated SGX PCK Platform CA"
_SIGNER, _LEAF = "Simulated SGX TCB Signing", "Simulated SGX PCK Certificate"


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sottovoce simulated hardware"),
        ]
    )


def _certificate(
    subject: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    now: int,
    path: int | None,
    sgx: bytes | None = None,
) -> bytes:
    """A certificate; `path` is the length of the paths below an authority, None for a leaf."""
    start = dt.datetime.fromtimestamp(now - 86400, dt.UTC)
    authority = path is not None
    usage = dict.fromkeys(
        (
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = (
        x509.CertificateBuilder(
            issuer_name=_name(issuer),
            subject_name=_name(subject),
            public_key=key,
            serial_number=x509.random_serial_number(),
            not_valid_before=start,
            not_valid_after=start + dt.timedelta(days=365 * _YEARS),
        )
        .add_extension(signer, critical=False)
        .add_extension(_POINT, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.KeyUsage(
                **usage, digital_signature=not authority, key_cert_sign=authority, crl_sign=authority
            ),
            critical=True,
        )
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path), critical=True)
    )
    if sgx is not None:
        builder = builder.add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(_SGX), sgx), critical=False
        )
    return builder.sign(issuer_key, _SHA256).public_bytes(_DER)


_POINT: Final = x509.CRLDistributionPoints(
    [
        x509.DistributionPoint(
            full_name=[x509.UniformResourceIdentifier("https://simulated.invalid/crl")],
            relative_name=None,
            reasons=None,
            crl_issuer=None,
        )
    ]
)


def _crl(
    issuer: str,
    key: ec.EllipticCurvePrivateKey,
    start: dt.datetime,
    end: dt.datetime,
    serials: tuple[int, ...] = (),
) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(_name(issuer))
        .last_update(start)
        .next_update(end)
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial in serials:
        revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
        builder = builder.add_revoked_certificate(revoked)
    return builder.sign(key, _SHA256).public_bytes(_DER)


def _sgx(ppid: bytes) -> bytes:
    levels = [
        sequence(oid(f"{_SGX}.2.{number}"), integer(level)) for number, level in enumerate(_CPU_SVN, start=1)
    ]
    levels.append(sequence(oid(f"{_SGX}.2.17"), integer(_PCE_SVN)))
    levels.append(sequence(oid(f"{_SGX}.2.18"), wrap(_OCTETS, _CPU_SVN)))
    return sequence(
        sequence(oid(f"{_SGX}.1"), wrap(_OCTETS, ppid)),
        sequence(oid(f"{_SGX}.2"), sequence(*levels)),
        sequence(oid(f"{_SGX}.3"), wrap(_OCTETS, _PCE_ID)),
        sequence(oid(f"{_SGX}.4"), wrap(_OCTETS, _FMSPC)),
        sequence(oid(f"{_SGX}.5"), integer(1, tag=_ENUMERATED)),
    )


def _tcb_info(dates: dict[str, Any], status: str, advisories: tuple[str, ...]) -> dict[str, Any]:
    signer = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    date = {"tcbDate": "2024-03-13T00:00:00Z"}
    level = {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in _CPU_SVN],
            "pcesvn": _PCE_SVN,
            "tdxtcbcomponents": [{"svn": svn} for svn in _TEE_TCB_SVN],
        },
        **date,
        "tcbStatus": status,
        "advisoryIDs": list(advisories),
    }
    module = {"tcb": {"isvsvn": _TEE_TCB_SVN[0]}, **date, "tcbStatus": "UpToDate"}
    return {
        "id": "TDX",
        "version": 3,
        **dates,
        "fmspc": _FMSPC.hex().upper(),
        "pceId": _PCE_ID.hex(),
        "tcbType": 0,
        "tdxModule": signer,
        "tdxModuleIdentities": [{"id": "TDX_01", **signer, "tcbLevels": [module]}],
        "tcbLevels": [level],
    }


def _enclave_identity(dates: dict[str, Any]) -> dict[str, Any]:
    level = {"tcb": {"isvsvn": _QE_SVN}, "tcbDate": "2024-03-13T00:00:00Z", "tcbStatus": "UpToDate"}
    return {
        "id": "TD_QE",
        "version": 2,
        **dates,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": _QE_SIGNER.hex().upper(),
        "isvprodid": _QE_PRODUCT,
        "tcbLevels": [level],
    }


def _enclave_report(bound: bytes) -> bytes:
    """The quoting enclave's report (Intel SDM, REPORT body), 384 bytes; it holds the digest of the key that signs quotes."""
    attributes = bytes([0x11]) + bytes(15)
    return struct.pack(
        "<16sI28s16s32s32s32s96sHH60s64s",
        _CPU_SVN,
        0,
        bytes(28),
        attributes,
        bytes(32),
        bytes(32),
        _QE_SIGNER,
        bytes(96),
        _QE_PRODUCT,
        _QE_SVN,
        bytes(60),
        bound,
    )


def _raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """An ECDSA P-256 signature as Intel writes it: r and s, 32 bytes each."""
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(_SHA256)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _pem(*certificates: bytes) -> bytes:
    return b"".join(x509.load_der_x509_certificate(der).public_bytes(_PEM) for der in certificates)


def _moment(time: dt.datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")
