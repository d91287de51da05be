"""The attributes of a TD and what was bound to it (protocol section 6.6), one line each."""

from dataclasses import dataclass
from typing import Final

from sottovoce.attest.references import NO_REFERENCE
from sottovoce.attest.tdx.layout import Quote
from sottovoce.attest.verdict import Checklist

__all__ = ["HostConfig", "check_fields"]

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


@dataclass(frozen=True, slots=True, kw_only=True)
class HostConfig:
    """What the host binds to a TD when it makes it, 48 bytes each; zero where it binds nothing."""

    mr_config_id: bytes = _ZERO
    mr_owner: bytes = _ZERO
    mr_owner_config: bytes = _ZERO


def check_fields(quote: Quote, checks: Checklist, config: HostConfig | None) -> None:
    """Record one line for each attribute, one for the unknown ones, and those for what is bound to the TD.

    `config` is what the host must have bound; None where nothing is known of that.
    """
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
    _check_config(quote, checks, config)


def _check_config(quote: Quote, checks: Checklist, config: HostConfig | None) -> None:
    found = {name: getattr(quote, name) for name in HostConfig.__slots__}
    if config is None and any(map(any, found.values())):
        values = ", ".join(f"{name} {value.hex()}" for name, value in found.items() if any(value))
        checks.skip("tdx-config", f"{values}; {NO_REFERENCE}")
        return
    wanted = config or HostConfig()
    differs = [name for name, value in found.items() if value != getattr(wanted, name)]
    checks.add(
        "tdx-config",
        ok=not differs,
        found=f"other values: {', '.join(differs)}" if differs else "as wanted",
        wanted="zero" if wanted == HostConfig() else "as given, else zero",
    )
