"""The checks of an SNP report and its certificates."""

from collections.abc import Mapping
from typing import Final

from sottovoce.attest.verdict import Rule

__all__ = ["SNP_OPTIONAL_RULES", "SNP_REFERENCE_RULES", "SNP_RULES"]

_FORGE: Final = "sign reports with a key of its own, and run what it likes without any protection"
_STOLEN: Final = "sign with a key that the vendor knows to be stolen"
_PATCHED: Final = "use a hole in the firmware that a later patch level has closed"
_MEMORY: Final = "learn from the encrypted memory what it holds"
_CORE: Final = "watch the CVM from a thread on the same core"
_POWER: Final = "learn secrets from the power that the processor reports"
_HIDING: Final = "compare ciphertexts of the memory over time and learn what changes"
_PLATFORM_INFO: Final = "AMD 56860 table 24"
_POLICY: Final = "AMD 56860 table 10"

SNP_RULES: Final[Mapping[str, Rule]] = {
    "chain": Rule("6.2", "platform key leads to the vendor root", "AMD 57230", _FORGE),
    "chain-dates": Rule("6.2", "certificates are valid now", "RFC 5280 §4.1.2.5", _STOLEN),
    "revocation-list": Rule("6.2", "vendor's revocation list is signed by the root", "RFC 5280 §5", _STOLEN),
    "revocation-list-dates": Rule("6.2", "vendor's revocation list is current", "RFC 5280 §5.1.2.5", _STOLEN),
    "revoked": Rule("6.2", "no certificate is revoked", "RFC 5280 §5; protocol §3", _STOLEN),
    "product-match": Rule(
        "6.2",
        "root, certificate, report and platform name one product",
        "AMD 57230",
        "have a report read in another processor's layout, with other patch levels",
    ),
    "product": Rule(
        "6.2", "processor product is accepted", "protocol 6.2", "use a processor that lacks a protection"
    ),
    "version": Rule(
        "6.3", "report version", "AMD 56860 table 23", "have fields read that the report does not have"
    ),
    "signature": Rule("6.3", "report is signed by the platform key", "AMD 56860 §7.3", _FORGE),
    "signing-key": Rule(
        "6.3",
        "signing key is a VCEK",
        "AMD 56860 table 23",
        "hide which chip it is behind a key that a cloud operator shares among chips",
    ),
    "tcb-certificate": Rule(
        "6.4",
        "patch levels of certificate and report are equal",
        "AMD 57230",
        "claim patches that the chip does not have",
    ),
    "tcb-floor": Rule("6.4", "patch levels are at or above the floor", "AMD security bulletins", _PATCHED),
    "tcb-committed": Rule(
        "6.4",
        "committed patch levels are not below the reported",
        "AMD 56860 §3.3",
        "go back to older firmware after the report",
    ),
    "hardware-id": Rule(
        "6.5",
        "certificate and report name one chip",
        "AMD 57230, hwID",
        "stay unknown: a masked or borrowed id cannot be looked up or revoked",
    ),
    "policy-reserved": Rule(
        "6.6", "no unknown guest policy bit is set", _POLICY, "allow itself something that we do not know"
    ),
    "policy-debug": Rule(
        "6.6", "guest cannot be debugged", f"{_POLICY}, bit 19", "read all memory of the CVM"
    ),
    "policy-migrate": Rule(
        "6.6",
        "guest cannot be migrated",
        f"{_POLICY}, bit 18",
        "move the CVM with its memory to a machine of its choice",
    ),
    "policy-smt": Rule("6.6", "guest refuses hyper-threading", f"{_POLICY}, bit 16", _CORE),
    "policy-cxl": Rule(
        "6.6", "guest refuses CXL memory", f"{_POLICY}, bit 21", "place the CVM's memory outside the socket"
    ),
    "policy-single-socket": Rule(
        "6.6", "guest stays on one socket", f"{_POLICY}, bit 20", "tap the link between two sockets"
    ),
    "policy-aes-256-xts": Rule("6.6", "guest demands AES-256-XTS memory", f"{_POLICY}, bit 22", _MEMORY),
    "policy-rapl": Rule("6.6", "guest demands RAPL off", f"{_POLICY}, bit 23", _POWER),
    "policy-ciphertext-hiding": Rule("6.6", "guest demands ciphertext hiding", f"{_POLICY}, bit 24", _HIDING),
    "platform-reserved": Rule(
        "6.6",
        "no unknown platform bit is set",
        _PLATFORM_INFO,
        "run on a platform in a state that we do not know",
    ),
    "platform-smt": Rule("6.6", "hyper-threading is off", f"{_PLATFORM_INFO}, bit 0", _CORE),
    "platform-rapl": Rule("6.6", "RAPL is off", f"{_PLATFORM_INFO}, bit 3", _POWER),
    "platform-ciphertext-hiding": Rule("6.6", "ciphertext hiding is on", f"{_PLATFORM_INFO}, bit 4", _HIDING),
    "platform-alias-check": Rule(
        "6.6",
        "memory alias check is complete",
        "AMD-SB-3015; table 24, bit 5",
        "show one piece of memory under two addresses and so read or roll it back (BadRAM)",
    ),
    "vmpl": Rule(
        "6.6",
        "report was asked for at the release's VMPL",
        "AMD 56860 table 23",
        "speak for the CVM from a less trusted part of it",
    ),
}

SNP_OPTIONAL_RULES: Final[Mapping[str, Rule]] = {
    "policy-page-swap": Rule(
        "6.6",
        "guest refuses that its pages are swapped",
        f"{_POLICY}, bit 25; AMD-SB-3021",
        "move pages and learn from their ciphertext what they hold (Heracles)",
    ),
    "platform-tsme": Rule("6.6", "all memory is encrypted", f"{_PLATFORM_INFO}, bit 1", _MEMORY),
    "platform-ecc": Rule(
        "6.6", "memory corrects errors", f"{_PLATFORM_INFO}, bit 2", "flip bits of the memory (Rowhammer)"
    ),
    "platform-iommu-write-safe": Rule(
        "6.6",
        "device writes are kept out of protected memory",
        f"AMD-SB-3016; {_PLATFORM_INFO}, bit 6",
        "have a device write into the CVM's memory",
    ),
    "mitigation-vectors": Rule(
        "6.6",
        "every mitigation that was there at launch is still there",
        "AMD 56860 table 23, LAUNCH_MIT_VECTOR",
        "take a mitigation away while the CVM runs",
    ),
}
"""Checks that no platform must pass unless a policy demands it."""

SNP_REFERENCE_RULES: Final[Mapping[str, Rule]] = {
    "chip": Rule(
        "6.5",
        "the chip is one of those expected",
        "reference values",
        "use a chip whose keys it has taken out",
    ),
    "report-data": Rule(
        "6.7",
        "report holds the data expected",
        "AMD 56860 table 23",
        "show a report that was made for something else",
    ),
    "measurement": Rule(
        "6.8",
        "launch measurement is one of those expected",
        "AMD 56860 §8.17",
        "start other software than what was published",
    ),
    "host-data": Rule(
        "6.8", "host data are those expected", "AMD 56860 table 23", "start the CVM with settings of its own"
    ),
    "id-key": Rule(
        "6.8",
        "the identity key is one of those expected",
        "AMD 56860 §8.20, ID_KEY_DIGEST",
        "start a CVM that somebody else has signed",
    ),
    "guest-svn": Rule(
        "6.8",
        "guest's security version is recent enough",
        "AMD 56860 table 23, GUEST_SVN",
        "go back to a release with a known hole",
    ),
}
"""What a report is compared with where there is no release to compare it with."""
