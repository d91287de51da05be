"""What a VCEK certificate says about its chip, in AMD's own extensions (AMD 57230, VCEK certificate definition).

1.3.6.1.4.1.3704.1.1   structure version   INTEGER        .3.1 bootloader   .3.2 TEE   .3.3 SNP   INTEGER each
1.3.6.1.4.1.3704.1.2   product name        IA5String      .3.4 to .3.7 reserved        .3.8 microcode
1.3.6.1.4.1.3704.1.4   hardware id         64 bytes; 8 on Turin       .3.9 FMC (Turin)
"""

import functools
from typing import Final

from sottovoce.attest.certificates import Certificate, oid
from sottovoce.attest.snp.layout import CHIP_ID, TURIN_CHIP_ID, Tcb
from sottovoce.core.errors import DecodeError

__all__ = ["VCEK_NAME", "VLEK_NAME", "certified_tcb", "hardware_id", "product_name"]

_MAX_LEVEL: Final = 255
VCEK_NAME, VLEK_NAME = "SEV-VCEK", "SEV-VLEK"
"""The subject's common name: a key of one chip, or one that a cloud operator shares among its chips."""
_AMD: Final = "1.3.6.1.4.1.3704.1"
_PRODUCT: Final = oid(f"{_AMD}.2")
_LEVELS: Final = tuple(oid(f"{_AMD}.3.{number}") for number in (1, 2, 3, 8))
_RESERVED: Final = tuple(oid(f"{_AMD}.3.{number}") for number in (4, 5, 6, 7))
_FMC: Final = oid(f"{_AMD}.3.9")
_HARDWARE_ID: Final = oid(f"{_AMD}.4")


def product_name(vcek: Certificate) -> str:
    """The product line, such as "Genoa", without the stepping that may follow a hyphen.

    Raises:
        DecodeError: the extension is missing or malformed.
    """
    return vcek.text(_PRODUCT).partition("-")[0]


def hardware_id(vcek: Certificate, *, turin: bool) -> bytes:
    """The chip's id: 64 bytes, 8 on Turin.

    Raises:
        DecodeError: the extension is missing or has another length.
    """
    return vcek.octets(_HARDWARE_ID, TURIN_CHIP_ID if turin else CHIP_ID)


# A device meets the same few chips again and again; failures are not kept.
@functools.lru_cache(maxsize=64)
def certified_tcb(vcek: Certificate, *, turin: bool) -> Tcb:
    """The patch levels for which the vendor has issued this certificate.

    Raises:
        DecodeError: an extension is missing or malformed, or a reserved level is not zero.
    """
    if any(vcek.integer(name) for name in _RESERVED if name in vcek.extensions):
        raise DecodeError("the certificate has a reserved patch level that is not zero")
    if not turin and _FMC in vcek.extensions and vcek.integer(_FMC):
        raise DecodeError("the certificate has a patch level that its product does not have")
    levels = [vcek.integer(name) for name in (*_LEVELS, *([_FMC] if turin else []))]
    if any(not 0 <= level <= _MAX_LEVEL for level in levels):
        raise DecodeError("the certificate has a patch level of more than a byte")
    bootloader, tee, snp, microcode, *fmc = levels
    return Tcb(bootloader=bootloader, tee=tee, snp=snp, microcode=microcode, fmc=fmc[0] if fmc else None)
