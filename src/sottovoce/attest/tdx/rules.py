"""The checks of a TDX quote and its collateral."""

from collections.abc import Mapping
from typing import Final

from sottovoce.attest.verdict import Rule

__all__ = ["TDX_OPTIONAL_RULES", "TDX_REFERENCE_RULES", "TDX_RULES"]

_QUOTE: Final = "Intel DCAP quoting library API, appendix A.3"
_ATTRIBUTES: Final = "Intel TDX module ABI 348551, TD ATTRIBUTES"
_PCS: Final = "Intel PCS API v4"
_FORGE: Final = "sign quotes with a key of its own, and run what it likes without any protection"
_STALE: Final = "hide that Intel has revoked the platform, or knows a hole in it"
_PATCHED: Final = "use a hole in processor, firmware or TDX module that a later patch level has closed"
_PUBLISHED: Final = "start other software than what was published"

TDX_RULES: Final[Mapping[str, Rule]] = {
    "tdx-collateral": Rule("6.2", "collateral is present and signed by Intel", _PCS, _STALE),
    "tdx-collateral-dates": Rule("6.2", "every part of the collateral is current", _PCS, _STALE),
    "tdx-version": Rule("6.3", "quote version", _QUOTE, "have fields read that the quote does not have"),
    "tdx-signature": Rule(
        "6.3",
        "quote is signed by a quoting enclave that Intel's root vouches for",
        f"{_QUOTE}; {_PCS}",
        _FORGE,
    ),
    "tdx-trailing": Rule(
        "6.3",
        "nothing follows the signature",
        _QUOTE,
        "carry bytes to a second reader that nobody has signed",
    ),
    "tdx-tcb-status": Rule("6.4", "patch levels are up to date", f"{_PCS}, tcbStatus", _PATCHED),
    "tdx-advisories": Rule("6.4", "no security advisory applies", f"{_PCS}, advisoryIDs", _PATCHED),
    "tdx-hardware-id": Rule(
        "6.5",
        "the certificate names the platform",
        "Intel SGX PCK certificate specification, PPID",
        "stay unknown: a platform without an id cannot be looked up or revoked",
    ),
    "tdx-debug": Rule(
        "6.6",
        "TD can be neither debugged nor profiled",
        f"{_ATTRIBUTES}, bits 0 to 7",
        "read all memory of the CVM",
    ),
    "tdx-migratable": Rule(
        "6.6",
        "TD cannot be migrated",
        f"{_ATTRIBUTES}, bit 29",
        "move the CVM with its memory to a machine of its choice",
    ),
    "tdx-sept-ve-disable": Rule(
        "6.6",
        "TD is not interrupted when its pages are taken",
        f"{_ATTRIBUTES}, bit 28",
        "make the CVM run a handler of faults at any instruction, and so misuse it",
    ),
    "tdx-perfmon": Rule(
        "6.6",
        "TD has no performance counters",
        f"{_ATTRIBUTES}, bit 63",
        "share performance counters with the CVM and learn from them",
    ),
    "tdx-attributes-reserved": Rule(
        "6.6", "no other TD attribute is set", _ATTRIBUTES, "allow itself something that we do not know"
    ),
    "tdx-xfam": Rule(
        "6.6",
        "extended features are known ones",
        "Intel TDX module ABI 348551, XFAM",
        "run the CVM with processor state that we do not know",
    ),
    "tdx-seam": Rule(
        "6.6",
        "TDX module is Intel's, not for debugging",
        "Intel TDX module ABI 348551, MRSIGNERSEAM and SEAMATTRIBUTES",
        "put a module of its own between the processor and the CVM",
    ),
    "tdx-service-td": Rule(
        "6.6",
        "no service TD is bound",
        "Intel TDX module ABI 348551, SERVTD_HASH",
        "have another TD read or move this one",
    ),
    "tdx-partition": Rule(
        "6.6",
        "the TD itself asked for the quote, no machine inside it",
        "Intel TDX module ABI 348551, VM index",
        "speak for the CVM from a less trusted part of it",
    ),
    "tdx-devices": Rule(
        "6.6",
        "no device is inside the TD",
        "Intel TDX module ABI 348551, DEVINFO",
        "give a device that nobody has examined access to the CVM's memory",
    ),
    "tdx-config": Rule(
        "6.8",
        "nothing was configured outside the measurement",
        f"{_QUOTE}, MRCONFIGID, MROWNER, MROWNERCONFIG",
        "start the CVM with settings of its own",
    ),
}

TDX_OPTIONAL_RULES: Final[Mapping[str, Rule]] = {
    "tdx-evaluation": Rule(
        "6.4",
        "Intel's evaluation of patch levels is recent enough",
        f"{_PCS}, tcbEvaluationDataNumber",
        "choose an evaluation from before a hole was known",
    ),
}
"""Checks that no platform must pass unless a policy demands it."""

TDX_REFERENCE_RULES: Final[Mapping[str, Rule]] = {
    "tdx-platform": Rule(
        "6.5",
        "the platform is one of those expected",
        "reference values",
        "use a machine whose keys it has taken out",
    ),
    "report-data": Rule(
        "6.7",
        "quote holds the data expected",
        f"{_QUOTE}, REPORTDATA",
        "show a quote that was made for something else",
    ),
    "tdx-module": Rule(
        "6.8", "TDX module is one of those expected", f"{_QUOTE}, MRSEAM", "use a module with a known hole"
    ),
    "tdx-mrtd": Rule("6.8", "initial contents of the TD are those expected", f"{_QUOTE}, MRTD", _PUBLISHED),
    **{
        f"tdx-rtmr-{number}": Rule(
            "6.8", f"run-time measurement {number} is the one expected", f"{_QUOTE}, RTMR{number}", _PUBLISHED
        )
        for number in range(4)
    },
    "tdx-event-log": Rule(
        "6.8",
        "the event log leads to the run-time measurements",
        "TCG PC Client Firmware Profile §10; UEFI §38.4",
        "show a list of started software that was not what started",
    ),
}
"""What a quote is compared with where there is no release to compare it with."""
