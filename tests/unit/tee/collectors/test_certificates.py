"""The host's certificate table in a bundle; the table itself is tested with `attest.snp.certtable`."""

from sottovoce.attest.evidence import Endorsements, Logged
from sottovoce.tee.collectors.base import Bundle
from sottovoce.tee.collectors.certificates import Certificates, with_certificates


def test_what_the_table_lacks_is_the_hosts_own() -> None:
    logged = Logged(entry=b"e", proof=b"p")
    bundle = Bundle(endorsements=Endorsements(vcek=b"1", ask=b"2", crl=b"3"), release=logged, host=logged)
    changed = with_certificates(bundle, Certificates(vcek=b"new", ark=b"root"))
    assert changed.endorsements == Endorsements(vcek=b"new", ask=b"2", crl=b"3")
    assert (changed.release, changed.host) == (logged, logged)
