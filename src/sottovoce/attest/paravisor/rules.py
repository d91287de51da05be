"""The checks of what a paravisor adds to a hardware report."""

from collections.abc import Mapping
from typing import Final

from sottovoce.attest.verdict import Rule

__all__ = ["PARAVISOR_RULES"]

_CLAIMS: Final = "OpenHCL, IGVM attestation request"
_QUOTE: Final = "TPM 2.0 part 2 §10.12"
_OTHER_BOOT: Final = "boot another operating system than you expect"

PARAVISOR_RULES: Final[Mapping[str, Rule]] = {
    "paravisor-claims": Rule(
        "6.7",
        "report vouches for the runtime claims",
        f"{_CLAIMS}; AMD 56860 table 23",
        "put a TPM key of its own into the claims of a genuine CVM",
    ),
    "paravisor-key": Rule(
        "6.7",
        "claims name one attestation key of the TPM",
        "RFC 7518 §6.3.1",
        "choose which of two keys is believed, or break a weak one",
    ),
    "paravisor-quote": Rule(
        "6.7",
        "the quote was made by a TPM",
        _QUOTE,
        "have something else that the TPM's key signed taken for a quote",
    ),
    "paravisor-quote-signature": Rule(
        "6.7",
        "the quote is signed by the key in the claims",
        "RFC 8017 §8.2",
        "quote registers of another machine, or of none",
    ),
    "paravisor-nonce": Rule(
        "6.7",
        "the quote holds the nonce expected",
        f"{_QUOTE}, extraData",
        "show a quote from before it took the CVM over",
    ),
    "paravisor-user-data": Rule(
        "6.7",
        "claims hold the user data expected",
        _CLAIMS,
        "show a report that was made for something else, or long ago",
    ),
    "paravisor-pcr-digest": Rule(
        "6.8",
        "the registers shown are those in the quote",
        f"{_QUOTE}.1; §10.6",
        "show other registers than the TPM has",
    ),
    "paravisor-pcrs": Rule("6.8", "the registers have the values expected", "reference values", _OTHER_BOOT),
    "paravisor-secure-boot": Rule("6.8", "claims say that secure boot is on", _CLAIMS, _OTHER_BOOT),
    "paravisor-console": Rule(
        "6.8", "claims say that the console is off", _CLAIMS, "give commands to the CVM at its serial console"
    ),
    "paravisor-trust": Rule(
        "6.8",
        "the paravisor itself is honest",
        "LIMITATIONS.md; decision record 15",
        "as the one who makes paravisors, read all memory of the CVM, sign any quote and claim any setting",
    ),
}
