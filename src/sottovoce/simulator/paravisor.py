"""A simulated paravisor: under a CVM of a simulated chip, with a software TPM of one key and 24 registers.

Public test support. Its claims have OpenHCL's form, its quotes the TPM's; only the processor's root is another, so that the same
lines verify them.
"""

import base64
import functools
import hashlib
import json
import struct
from collections.abc import Callable, Iterable
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from sottovoce.attest.paravisor.quote import PCRS, SignedQuote
from sottovoce.attest.paravisor.signatures import claims_report_data
from sottovoce.core.errors import UsageError
from sottovoce.simulator.pki import SimulatedChip
from sottovoce.simulator.processor import ReportFields, SimulatedProcessor

__all__ = ["NV_INDEX_SIZE", "SimulatedParavisor", "simulated_quote"]

NV_INDEX_SIZE: Final = 2600
_HEADER_SIZE, _DATA_SIZE = 32, 20
_USER_DATA: Final = 64
_RSA: Final = 2048
_FIRMWARE: Final = 0x2020031200120003


@functools.lru_cache(maxsize=4)
def _key(number: int) -> rsa.RSAPrivateKey:  # noqa: ARG001 - the cache reads it
    # Making a key takes longest, so one process makes each once; `number` tells them apart.
    return rsa.generate_private_key(65537, _RSA)


def _integer(value: int) -> str:
    data = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _jwk(kid: str, use: str, key: rsa.RSAPrivateKey) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kid": kid, "key_ops": [use], "kty": "RSA", "e": _integer(numbers.e), "n": _integer(numbers.n)}


class SimulatedParavisor:
    """Simulated: it keeps its TPM's key in this process and has its report signed by a simulated processor.

    Attributes:
        attestation_key: signs quotes.
        pcrs: the 24 registers, 32 bytes each.
        claims: what the next report will vouch for; a test may change them.
    """

    def __init__(
        self,
        chip: SimulatedChip,
        measurement: bytes,
        *,
        change: Callable[[ReportFields], ReportFields] = lambda fields: fields,
        user_data: bytes = bytes(_USER_DATA),
    ) -> None:
        if len(user_data) != _USER_DATA:
            raise UsageError("user data has 64 bytes")
        self._processor = SimulatedProcessor(chip, measurement, change=change)
        self.attestation_key = _key(0)
        self.pcrs = tuple(
            hashlib.sha256(b"simulated register %d" % number).digest() for number in range(PCRS)
        )
        self.claims: dict[str, Any] = {
            "keys": [_jwk("HCLAkPub", "sign", self.attestation_key), _jwk("HCLEkPub", "encrypt", _key(1))],
            "vm-configuration": {
                "console-enabled": False,
                "secure-boot": True,
                "tpm-enabled": True,
                "vmUniqueId": "SIMULATED",
            },
            "user-data": user_data.hex().upper(),
        }

    def claims_json(self) -> bytes:
        """The claims as they are hashed."""
        return json.dumps(self.claims, separators=(",", ":")).encode()

    def hcl_report(
        self,
        claims: bytes | None = None,
        *,
        report_data: bytes | None = None,
        capabilities: int | None = None,
    ) -> bytes:
        """The report as the NV index holds it, with zeros after the claims; a test may give other claims or other report data.

        With `capabilities` its data are of version 2, else of version 1.
        """
        claims = self.claims_json() if claims is None else claims
        report = self._processor.report(claims_report_data(claims) if report_data is None else report_data)
        extension = b"" if capabilities is None else struct.pack("<I", capabilities)
        size = _DATA_SIZE + len(extension) + len(claims)
        header = struct.pack("<4sIIII12s", b"HCLA", 2, _HEADER_SIZE + len(report) + size, 2, 0, b"")
        data = struct.pack("<IIIII", size, 2 if extension else 1, 2, 1, len(claims)) + extension
        return (header + report + data + claims).ljust(NV_INDEX_SIZE, b"\0")

    def quote(self, nonce: bytes, selected: Iterable[int] = range(PCRS)) -> SignedQuote:
        """The TPM's quote over the selected registers, with `nonce` (up to 64 bytes) as its extra data."""
        message = simulated_quote(nonce, self.pcrs, selected)
        return SignedQuote(message=message, signature=self.sign(message), pcrs=self.pcrs)

    def sign(self, message: bytes) -> bytes:
        """An RSASSA-PKCS1-v1_5 signature with SHA-256 by the TPM's key, 256 bytes."""
        return self.attestation_key.sign(message, padding.PKCS1v15(), hashes.SHA256())


def simulated_quote(nonce: bytes, pcrs: tuple[bytes, ...], selected: Iterable[int]) -> bytes:
    """TPMS_ATTEST over registers of the SHA-256 bank, by nobody yet signed."""
    numbers = sorted(set(selected))
    bits = sum(1 << number for number in numbers).to_bytes(3, "little")
    digest = hashlib.sha256(b"".join(pcrs[number] for number in numbers)).digest()
    signer = struct.pack(">H", 0x000B) + hashlib.sha256(b"simulated key").digest()
    return b"".join(
        (
            struct.pack(">IH", 0xFF544347, 0x8018),
            struct.pack(">H", len(signer)) + signer,
            struct.pack(">H", len(nonce)) + nonce,
            struct.pack(">QIIBQ", 1000, 1, 0, 1, _FIRMWARE),
            struct.pack(">IHB3s", 1, 0x000B, 3, bits),
            struct.pack(">H", len(digest)) + digest,
        )
    )
