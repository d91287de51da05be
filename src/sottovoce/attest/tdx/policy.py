"""The attributes of a TD and what was bound to it (protocol section 6.6), one line each."""

from typing import Final

from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.verdict import Checklist

__all__ = ["check_fields"]

# Intel TDX module ABI 348551-008US, table 3.23. Bits 1 to 3 and 7 are reserved, and part of the group "under debug".
_UNDER_DEBUG: Final = 0xFF
# Check, bit, and the value wanted.
_BITS: Final = (("tdx-migratable", 29, 0), ("tdx-sept-ve-disable", 28, 1), ("tdx-perfmon", 63, 0))
# What may be set or not: 16 a defence against single-stepping, 27 LASS, 30 protection keys, 31 Key Locker. A TPA (62) is no CVM.
_ALLOWED: Final = _UNDER_DEBUG | sum(1 << bit for bit in (16, 27, 30, 31, *(bit for _, bit, _ in _BITS)))
# The same, XFAM: x87 and SSE are always there; AVX, AVX-512, PT, PKRU, CET, user interrupts, LBR and AMX may be.
_XFAM_FIXED: Final = 0x3
_XFAM_KNOWN: Final = 0x6DBE7
_ZERO: Final = bytes(48)


def check_fields(quote: Quote, checks: Checklist) -> None:
    """Record one line for each attribute, and one for the unknown ones."""
    attributes = quote.td_attributes
    debug = attributes & _UNDER_DEBUG
    checks.add("tdx-debug", ok=not debug, found=f"{debug:#x}", wanted="0x0")
    for check, bit, wanted in _BITS:
        value = attributes >> bit & 1
        checks.add(check, ok=value == wanted, found=str(value), wanted=str(wanted))
    unknown = attributes & ~_ALLOWED
    checks.add("tdx-attributes-reserved", ok=not unknown, found=f"{unknown:#x}", wanted="0x0")
    known = quote.xfam & _XFAM_FIXED == _XFAM_FIXED and not quote.xfam & ~_XFAM_KNOWN
    checks.add(
        "tdx-xfam", ok=known, found=f"{quote.xfam:#x}", wanted=f"0x3, and nothing beyond {_XFAM_KNOWN:#x}"
    )
    genuine = quote.mr_signer_seam == _ZERO and not quote.seam_attributes
    found = (
        "Intel's"
        if genuine
        else f"signer {quote.mr_signer_seam.hex()[:16]}…, attributes {quote.seam_attributes:#x}"
    )
    checks.add("tdx-seam", ok=genuine, found=found, wanted="Intel's: signer and attributes zero")
    bound = any(quote.service_td)
    checks.add("tdx-service-td", ok=not bound, found="one is bound" if bound else "none", wanted="none")
    checks.add("tdx-partition", ok=quote.vm == 0, found=f"machine {quote.vm}", wanted="machine 0")
    devices = any(quote.devices)
    checks.add("tdx-devices", ok=not devices, found="there are some" if devices else "none", wanted="none")
