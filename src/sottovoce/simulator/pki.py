"""A processor vendor in software: root (ARK), intermediate (ASK), chip keys (VCEK) and a revocation list.

Shaped like AMD's to the last extension, so that the verifier runs the same lines; only the root differs, and its product
is called "Simulated".
"""

import base64
import datetime as dt
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from sottovoce.attest import der
from sottovoce.attest.policy import Root
from sottovoce.attest.simulated import SIMULATED_FLOOR, SIMULATED_PRODUCT
from sottovoce.attest.snp.layout import CHIP_ID, Tcb
from sottovoce.attest.snp.vcek import VCEK_NAME, VLEK_NAME
from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.simulator.derwriter import integer, wrap

__all__ = ["GOOD_TCB", "SimulatedChip", "SimulatedVendor", "write_private"]

GOOD_TCB: Final = SIMULATED_FLOOR
_SHA384: Final = hashes.SHA384()
_PADDING: Final = padding.PSS(padding.MGF1(_SHA384), salt_length=48)
_AMD: Final = "1.3.6.1.4.1.3704.1"
_YEARS: Final = 20
_DER = serialization.Encoding.DER
_VERSION_3: Final = b"\xa0\x03\x02\x01\x02"
_ARK_NAME, _ASK_NAME = "ARK-Simulated", "SEV-Simulated"


def _name(common: str) -> x509.Name:
    # AMD's order of attributes
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sottovoce simulated hardware"),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _vcek_extensions(chip_id: bytes, tcb: Tcb, product: str) -> Mapping[str, bytes]:
    # AMD 57230, VCEK certificate extensions; 3.4 to 3.7 are reserved levels
    levels = {1: tcb.bootloader, 2: tcb.tee, 3: tcb.snp, 4: 0, 5: 0, 6: 0, 7: 0, 8: tcb.microcode}
    if tcb.fmc is not None:
        levels[9] = tcb.fmc
    return {
        f"{_AMD}.1": integer(0),
        f"{_AMD}.2": bytes([der.IA5, len(product)]) + product.encode(),
        **{f"{_AMD}.3.{number}": integer(level) for number, level in levels.items()},
        f"{_AMD}.4": chip_id,
    }


def _builder(
    subject: str,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    issuer: str,
    *,
    serial: int,
    now: int,
) -> x509.CertificateBuilder:
    start = dt.datetime.fromtimestamp(now - 86400, dt.UTC)
    return x509.CertificateBuilder(
        issuer_name=_name(issuer),
        subject_name=_name(subject),
        public_key=public_key,
        serial_number=serial,
        not_valid_before=start,
        not_valid_after=start + dt.timedelta(days=365 * _YEARS),
    )


def _authority(
    subject: str, public_key: rsa.RSAPublicKey, issuer_key: rsa.RSAPrivateKey, *, serial: int, now: int
) -> bytes:
    usage = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    builder = (
        _builder(subject, public_key, _ARK_NAME, serial=serial, now=now)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
    )
    return builder.sign(issuer_key, _SHA384, rsa_padding=_PADDING).public_bytes(_DER)


def _vcek(
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: rsa.RSAPrivateKey,
    *,
    now: int,
    extensions: Mapping[str, bytes],
    name: str = VCEK_NAME,
) -> bytes:
    builder = _builder(name, public_key, _ASK_NAME, serial=1, now=now)
    for dotted, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(dotted), value)
        builder = builder.add_extension(extension, critical=False)
    return _with_serial_zero(builder.sign(issuer_key, _SHA384, rsa_padding=_PADDING), issuer_key)


def _with_serial_zero(certificate: x509.Certificate, issuer_key: rsa.RSAPrivateKey) -> bytes:
    # AMD's VCEKs have serial number 0, which the library rightly does not write: the one byte is changed and all is signed anew.
    _, algorithm, _ = der.values(der.one(certificate.public_bytes(_DER), der.SEQUENCE).body)
    signed = bytearray(certificate.tbs_certificate_bytes)
    version_end = signed.index(_VERSION_3) + len(_VERSION_3)
    if signed[version_end : version_end + 3] != b"\x02\x01\x01":
        raise UsageError("the simulated vendor's certificate has another form")
    signed[version_end + 2] = 0
    signature = issuer_key.sign(bytes(signed), _PADDING, _SHA384)
    return wrap(der.SEQUENCE, bytes(signed) + algorithm.whole + wrap(der.BIT_STRING, b"\0" + signature))


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedChip:
    """A processor: its id (64 bytes), its endorsement key and that key's certificate (DER)."""

    chip_id: bytes
    key: ec.EllipticCurvePrivateKey
    vcek: bytes
    tcb: Tcb

    def save(self, path: Path) -> None:
        """Write the chip to a file that only its owner reads."""
        secret = self.key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        tcb = [self.tcb.bootloader, self.tcb.tee, self.tcb.snp, self.tcb.microcode]
        fields = {"chip_id": self.chip_id, "key": secret, "vcek": self.vcek}
        text = {name: base64.b64encode(value).decode() for name, value in fields.items()}
        write_private(path, json.dumps({**text, "tcb": tcb}).encode())

    @classmethod
    def load(cls, path: Path) -> "SimulatedChip":
        """Read a chip.

        Raises:
            ConfigError: there is none, or it is malformed.
        """
        try:
            fields = json.loads(path.read_bytes())
            chip_id, secret, vcek = (base64.b64decode(fields[name]) for name in ("chip_id", "key", "vcek"))
            key = serialization.load_der_private_key(secret, None)
            bootloader, tee, snp, microcode = fields["tcb"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError("the simulated chip's file is missing or malformed") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ConfigError("the simulated chip's file is missing or malformed")
        tcb = Tcb(bootloader=bootloader, tee=tee, snp=snp, microcode=microcode)
        return cls(chip_id=chip_id, key=key, vcek=vcek, tcb=tcb)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SimulatedVendor:
    """The vendor's two authorities. Certificates and the revocation list are DER."""

    ark_key: rsa.RSAPrivateKey
    ask_key: rsa.RSAPrivateKey
    ark: bytes
    ask: bytes
    crl: bytes

    @classmethod
    def create(cls, *, now: int, bits: int = 4096) -> "SimulatedVendor":
        """A new vendor; `bits` below 4,096 makes tests quicker."""
        ark_key, ask_key = (rsa.generate_private_key(65537, bits) for _ in range(2))
        ark = _authority(_ARK_NAME, ark_key.public_key(), ark_key, serial=1, now=now)
        ask = _authority(_ASK_NAME, ask_key.public_key(), ark_key, serial=2, now=now)
        return cls(
            ark_key=ark_key, ask_key=ask_key, ark=ark, ask=ask, crl=cls.revocation_list(ark_key, now=now)
        )

    @staticmethod
    def revocation_list(
        ark_key: rsa.RSAPrivateKey, *, now: int, serials: tuple[int, ...] = (), days: int = 30
    ) -> bytes:
        """A revocation list signed by the root."""
        start = dt.datetime.fromtimestamp(now - 3600, dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(_ARK_NAME))
            .last_update(start)
            .next_update(start + dt.timedelta(days=days))
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(start).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(ark_key, _SHA384, rsa_padding=_PADDING).public_bytes(_DER)

    @property
    def root(self) -> Root:
        """What a test environment's device pins."""
        return Root(product=SIMULATED_PRODUCT, ark_der=self.ark)

    def make_chip(
        self,
        *,
        now: int,
        tcb: Tcb = GOOD_TCB,
        chip_id: bytes | None = None,
        product: str = SIMULATED_PRODUCT,
    ) -> SimulatedChip:
        """A new processor with a certificate of its own; tests give it another product's name."""
        key = ec.generate_private_key(ec.SECP384R1())
        chip_id = chip_id or os.urandom(CHIP_ID)
        extensions = _vcek_extensions(chip_id, tcb, product)
        vcek = _vcek(key.public_key(), self.ask_key, now=now, extensions=extensions)
        return SimulatedChip(chip_id=chip_id, key=key, vcek=vcek, tcb=tcb)

    def make_shared_key(self, *, now: int, chip_id: bytes, operator: str) -> SimulatedChip:
        """A key that a cloud operator loads into many of its chips (VLEK): its certificate names the operator and no chip."""
        key = ec.generate_private_key(ec.SECP384R1())
        extensions = dict(_vcek_extensions(chip_id, GOOD_TCB, SIMULATED_PRODUCT))
        del extensions[f"{_AMD}.4"]
        extensions[f"{_AMD}.5"] = bytes([der.IA5, len(operator)]) + operator.encode()
        vlek = _vcek(key.public_key(), self.ask_key, now=now, extensions=extensions, name=VLEK_NAME)
        return SimulatedChip(chip_id=chip_id, key=key, vcek=vlek, tcb=GOOD_TCB)

    def save(self, folder: Path) -> None:
        """Write the vendor's keys and certificates; the keys only for their owner."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, key in (("ark", self.ark_key), ("ask", self.ask_key)):
            secret = key.private_bytes(_DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            write_private(folder / f"{name}.key", secret)
        for name, data in (("ark.der", self.ark), ("ask.der", self.ask), ("crl.der", self.crl)):
            (folder / name).write_bytes(data)

    @classmethod
    def load(cls, folder: Path) -> "SimulatedVendor":
        """Read a vendor.

        Raises:
            ConfigError: there is none, or it is malformed.
        """
        try:
            keys = [
                serialization.load_der_private_key((folder / f"{name}.key").read_bytes(), None)
                for name in ("ark", "ask")
            ]
            ark, ask, crl = ((folder / name).read_bytes() for name in ("ark.der", "ask.der", "crl.der"))
        except (OSError, ValueError):
            raise ConfigError("the simulated vendor's files are missing or malformed") from None
        ark_key, ask_key = keys
        if not isinstance(ark_key, rsa.RSAPrivateKey) or not isinstance(ask_key, rsa.RSAPrivateKey):
            raise ConfigError("the simulated vendor's files are missing or malformed")
        return cls(ark_key=ark_key, ask_key=ask_key, ark=ark, ask=ask, crl=crl)


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only its owner reads."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
