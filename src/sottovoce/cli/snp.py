"""The files that `sottovoce verify snp` is given, told apart by content."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from sottovoce.attest.paravisor.layout import is_hcl_report
from sottovoce.attest.pem import plain
from sottovoce.attest.snp.forms import SnpPapers, key_first, parse_certificates, parse_papers
from sottovoce.core.errors import DecodeError

__all__ = ["Papers", "gather"]

_Read = Callable[[Path], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """What is verified."""

    report: bytes
    vcek: bytes
    intermediates: tuple[bytes, ...]
    crl: bytes


def gather(read: _Read, *, report: Path, vcek: Path | None, chain: Path | None, crl: Path | None) -> Papers:
    """Read everything. What a file of its own holds goes before what stands behind the report.

    Raises:
        click.UsageError: no file holds a certificate of the key.
        DecodeError: a file is not what it should be.
    """
    data = read(report)
    if is_hcl_report(plain(data)):
        raise DecodeError(
            "this is a paravisor's report with a hardware report inside",
            hint="sottovoce verify paravisor takes it",
        )
    whole = parse_papers(data)
    key, above = (parse_certificates(read(file)) if file else SnpPapers() for file in (vcek, chain))
    keys = key_first(key.certificates, whole.report) or key_first(whole.certificates, whole.report)
    if not keys:
        raise click.UsageError("--vcek is needed, as the report's file holds no certificate")
    return Papers(
        report=whole.report,
        vcek=keys[0],
        intermediates=(*keys[1:], *above.certificates, *whole.certificates),
        crl=plain(read(crl)) if crl else key.crl or above.crl or whole.crl,
    )
