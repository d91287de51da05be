"""The files and values that `sottovoce verify paravisor` is given, told apart by content."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from sottovoce.attest.paravisor.appraisal import ParavisorReferences
from sottovoce.attest.paravisor.forms import ParavisorEvidence, parse_evidence, parse_quote
from sottovoce.attest.paravisor.quote import PCRS, SignedQuote
from sottovoce.attest.pem import certificates, plain
from sottovoce.cli.chains import chain_certificates

__all__ = ["Papers", "gather"]

_Read = Callable[[Path], bytes]
_NUMBERS: Final = frozenset(map(str, range(PCRS)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """What is verified, and what it is compared with."""

    report: bytes
    vcek: bytes
    intermediates: tuple[bytes, ...]
    crl: bytes
    quote: SignedQuote | None
    expected: ParavisorReferences


def gather(
    read: _Read,
    *,
    report: Path,
    vcek: Path | None,
    chain: Path | None,
    crl: Path | None,
    quote: Path | None,
    signature: Path | None,
    nonce: str | None,
    pcrs: tuple[str, ...],
    user_data: str | None,
) -> Papers:
    """Read everything.

    Raises:
        click.UsageError: a value is not what its option takes, or a thing is missing or there twice.
        DecodeError: a file is not what it should be.
    """
    expected = ParavisorReferences(
        nonce=None if nonce is None else _hex(nonce, "--nonce", range(1, 65)),
        user_data=None if user_data is None else _hex(user_data, "--user-data", range(64, 65)),
        pcrs=_registers(pcrs),
    )
    if signature is not None and quote is None:
        raise click.UsageError("--signature needs --quote")
    whole = _report(read(report))
    keys = (*whole.vcek, *(certificates(read(vcek)) if vcek else ()))
    if not keys:
        raise click.UsageError("--vcek is needed, as the report's file holds no certificate")
    if whole.vcek and vcek:
        raise click.UsageError("--vcek is given, and the report's file holds a certificate as well")
    if whole.quote and quote:
        raise click.UsageError("--quote is given, and the report's file holds a quote as well")
    return Papers(
        report=whole.report,
        vcek=keys[0],
        intermediates=(*keys[1:], *(chain_certificates(read(chain)) if chain else ())),
        crl=plain(read(crl)) if crl else b"",
        quote=_quote(read, quote, signature) if quote else whole.quote,
        expected=expected,
    )


def _report(data: bytes) -> ParavisorEvidence:
    if data.lstrip()[:1] == b"{":
        return parse_evidence(data)
    return ParavisorEvidence(report=plain(data), vcek=(), quote=None)


def _quote(read: _Read, quote: Path, signature: Path | None) -> SignedQuote:
    data = read(quote)
    if data.lstrip()[:1] == b"{":
        if signature is not None:
            raise click.UsageError("--signature is given, and the quote's file holds a signature as well")
        return parse_quote(data)
    if signature is None:
        raise click.UsageError("--signature is needed, as the quote's file holds the message alone")
    return SignedQuote(message=plain(data), signature=plain(read(signature)))


def _registers(given: tuple[str, ...]) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for one in given:
        number, _, value = one.partition("=")
        if number not in _NUMBERS or int(number) in found:
            raise click.BadParameter("a register is one of 0 to 23, each given once", param_hint="--pcr")
        found[int(number)] = _hex(value, "--pcr", range(32, 33))
    return found


def _hex(text: str, option: str, lengths: range) -> bytes:
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) not in lengths:
        size = f"{lengths[0]}" if len(lengths) == 1 else f"{lengths[0]} to {lengths[-1]}"
        raise click.BadParameter(f"{size} bytes in hexadecimal are expected", param_hint=option)
    return value
