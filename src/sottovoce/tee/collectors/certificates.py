"""The host's certificate table (`attest.snp.certtable`) put into a collector's bundle."""

from dataclasses import replace

from sottovoce.attest.evidence import Endorsements
from sottovoce.attest.snp.certtable import ASK, VCEK, Certificates, parse_table
from sottovoce.tee.collectors.base import Bundle

__all__ = ["ASK", "VCEK", "Certificates", "parse_table", "with_certificates"]


def with_certificates(bundle: Bundle, table: Certificates) -> Bundle:
    """`bundle` with the certificates of the table where it has them.

    The table goes with the report that it came with, so after a firmware update it has the new VCEK when the host's own copy
    may not. The root is not needed: every device has its own.
    """
    e = bundle.endorsements
    endorsements = Endorsements(vcek=table.vcek or e.vcek, ask=table.ask or e.ask, crl=table.crl or e.crl)
    return replace(bundle, endorsements=endorsements)
