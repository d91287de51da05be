"""The targets: each a parser, the errors that it may raise, and what must hold of what it accepts.

The invariant of all: parsing returns a value, or raises one of the errors that the parser documents; and nothing else. Where a form is
canonical, encoding the value again gives the input.
"""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from fuzz import seeds
from sottovoce.attest import pem
from sottovoce.attest.certificates import Certificate, RevocationList
from sottovoce.attest.evidence import Evidence
from sottovoce.attest.nvidia import xml
from sottovoce.attest.nvidia.evidence import parse_evidence as parse_gpu_evidence
from sottovoce.attest.nvidia.layout import Report as GpuReport
from sottovoce.attest.nvidia.manifest import Manifest, unwrapped
from sottovoce.attest.paravisor.claims import RuntimeClaims
from sottovoce.attest.paravisor.forms import parse_evidence as parse_paravisor_evidence
from sottovoce.attest.paravisor.layout import HclReport
from sottovoce.attest.paravisor.quote import TpmQuote
from sottovoce.attest.policyfile import parse_policy
from sottovoce.attest.snp.forms import parse_certificates, parse_papers
from sottovoce.attest.snp.layout import Report
from sottovoce.attest.tdx.collateral import Collateral
from sottovoce.attest.tdx.eventlog import EventLog
from sottovoce.attest.tdx.forms import read_quote
from sottovoce.attest.tdx.layout import Quote
from sottovoce.core import bhttp, canonical, cbor
from sottovoce.core.authscheme import parse_fields
from sottovoce.core.challenges import TokenChallenge, parse_challenges
from sottovoce.core.errors import ConfigError, DecodeError, PeerError, SottovoceError
from sottovoce.core.frames import FrameReader
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.httpdate import parse_http_date
from sottovoce.core.limits import LIMITS
from sottovoce.core.link import LinkReader
from sottovoce.core.ohttp_keys import decode_key_configs
from sottovoce.core.privatetokens import BatchRequest, BatchResponse, SingleRequest, SingleResponse
from sottovoce.core.tokenkeys import TokenKey
from sottovoce.core.tokens import Token, TokenRequest, parse_authorization
from sottovoce.device.answers import AnswerDecoder
from sottovoce.device.chats.importer import import_chat
from sottovoce.device.reports import decode_export
from sottovoce.edge.attesters import OidcConfig
from sottovoce.edge.oidc import IdTokenError, ProviderError, parse_keys, read_header, verify_id_token
from sottovoce.simulator.testing import NOW
from sottovoce.tee.settings import parse_settings
from sottovoce.thirdparty.witness import parse_request
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.entries import Directory, Host, Release
from sottovoce.tlog.history import History
from sottovoce.tlog.note import Note, VerifierKey
from sottovoce.tlog.proof import Proof, encode_proof
from sottovoce.tlog.tiles import decode_bundle, encode_bundle, read_tile

__all__ = ["TARGETS", "Target"]


@dataclass(frozen=True, kw_only=True)
class Target:
    """A parser under test. `encode` is there where the form is canonical; `errors` are those that the parser documents."""

    parse: Callable[[bytes], Any]
    seeds: Callable[[], list[bytes]]
    encode: Callable[[Any], bytes] | None = None
    errors: tuple[type[SottovoceError], ...] = (PeerError,)

    def __call__(self, data: bytes) -> None:
        """Try one input.

        Raises:
            AssertionError: what was accepted is not what was read.
        """
        try:
            value = self.parse(data)
        except self.errors:
            return
        if self.encode is not None and self.encode(value) != data:
            raise AssertionError("accepted bytes are not the ones that the value encodes to")


def _in_pieces(make: Callable[[], Any], data: bytes) -> list[Any]:
    """Feed a reader one byte at a time, and then all at once: both must come to the same."""

    def run(pieces: list[bytes]) -> tuple[list[Any], bool]:
        reader, found = make(), []
        for piece in pieces:
            try:
                found.append(reader.feed(piece))
            except SottovoceError:
                return _joined(found), False
        return _joined(found), True

    if not data:
        return []
    (slow, slow_ok), (fast, fast_ok) = run([data[at : at + 1] for at in range(len(data))]), run([data])
    if slow_ok != fast_ok or (fast_ok and slow != fast):
        raise AssertionError("what comes out depends on how the bytes were cut")
    return fast


def _joined(found: list[Any]) -> list[Any]:
    if all(isinstance(one, bytes) for one in found):
        return [b"".join(found)]
    return [item for one in found for item in one]


def _checkpoint(data: bytes) -> Checkpoint:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DecodeError("this is not a checkpoint") from None
    return Checkpoint.parse(text)


def _verifier_key(data: bytes) -> VerifierKey:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise DecodeError("this is not a key") from None
    return VerifierKey.parse(text)


def _plain(data: bytes) -> object:
    pem.certificates(data)
    return pem.plain(data)


def _snp_papers(data: bytes) -> object:
    with contextlib.suppress(PeerError):
        parse_certificates(data)
    return parse_papers(data)


def _id_token(data: bytes) -> object:
    bearer = data.decode("latin-1")
    read_header(bearer)
    (key, *_) = parse_keys(seeds.provider_keys()[0])
    config = OidcConfig(issuer="https://login.example", audience="devices", jwks="-")
    return verify_id_token(bearer, key, config, NOW)


TARGETS: Final[Mapping[str, Target]] = {
    # attest
    "evidence": Target(parse=Evidence.decode, seeds=seeds.evidence, encode=Evidence.encode),
    "snp-report": Target(parse=Report.parse, seeds=seeds.snp_reports),
    "snp-papers": Target(parse=_snp_papers, seeds=seeds.snp_papers),
    "certificate": Target(parse=Certificate.parse, seeds=seeds.certificates),
    "revocation-list": Target(parse=RevocationList.parse, seeds=seeds.revocation_lists),
    "pem": Target(parse=_plain, seeds=seeds.pem_files),
    "policy-file": Target(
        parse=partial(parse_policy, name="fuzz"), seeds=seeds.policy_files, errors=(ConfigError,)
    ),
    "tdx-quote": Target(parse=Quote.parse, seeds=seeds.tdx_quotes),
    "tdx-quote-file": Target(parse=read_quote, seeds=seeds.tdx_quote_files),
    "tdx-collateral": Target(parse=Collateral.parse, seeds=seeds.tdx_collateral),
    "tdx-event-log": Target(parse=EventLog.parse, seeds=seeds.event_logs),
    "gpu-report": Target(parse=GpuReport.parse, seeds=seeds.gpu_reports),
    "gpu-evidence": Target(parse=parse_gpu_evidence, seeds=seeds.gpu_evidence),
    "gpu-manifest": Target(parse=Manifest.parse, seeds=seeds.gpu_manifests),
    "gpu-manifest-file": Target(parse=unwrapped, seeds=seeds.gpu_manifest_files),
    "xml": Target(parse=xml.parse, seeds=seeds.gpu_manifests),
    "hcl-report": Target(parse=HclReport.parse, seeds=seeds.hcl_reports),
    "runtime-claims": Target(parse=RuntimeClaims.parse, seeds=seeds.runtime_claims),
    "tpm-quote": Target(parse=TpmQuote.parse, seeds=seeds.tpm_quotes),
    "paravisor-evidence": Target(parse=parse_paravisor_evidence, seeds=seeds.paravisor_evidence),
    # tlog
    "note": Target(parse=Note.parse, seeds=seeds.notes, encode=Note.encode),
    "checkpoint": Target(
        parse=_checkpoint, seeds=seeds.checkpoints, encode=lambda value: value.encode().encode()
    ),
    "verifier-key": Target(
        parse=_verifier_key, seeds=seeds.verifier_keys, encode=lambda value: str(value).encode()
    ),
    "log-proof": Target(
        parse=Proof.parse,
        seeds=seeds.proofs,
        encode=lambda value: encode_proof(
            index=value.index, path=value.path, checkpoint=value.note, extra=value.extra
        ),
    ),
    "witness-request": Target(parse=parse_request, seeds=seeds.witness_requests),
    "release": Target(parse=Release.parse, seeds=seeds.releases, encode=Release.encode),
    "host": Target(parse=Host.parse, seeds=seeds.hosts, encode=Host.encode),
    "directory": Target(parse=Directory.parse, seeds=seeds.directories, encode=Directory.encode),
    "artifact": Target(parse=ArtifactEntry.parse, seeds=seeds.artifacts, encode=ArtifactEntry.encode),
    "consistency-file": Target(parse=History.parse, seeds=seeds.histories, encode=History.encode),
    "publication": Target(parse=seeds.PUBLISHERS.release, seeds=seeds.publications),
    "bundle": Target(parse=decode_bundle, seeds=seeds.bundles, encode=encode_bundle),
    "tile": Target(parse=read_tile, seeds=seeds.tiles),
    # core
    "cbor": Target(
        parse=partial(cbor.decode, limit=LIMITS.evidence), seeds=seeds.evidence, encode=cbor.encode
    ),
    "canonical-json": Target(
        parse=partial(canonical.decode, limit=LIMITS.evidence), seeds=seeds.hosts, encode=canonical.encode
    ),
    "bhttp-request": Target(parse=bhttp.decode_request, seeds=seeds.bhttp_messages),
    "bhttp-response": Target(parse=bhttp.decode_response, seeds=seeds.bhttp_messages),
    # Not canonical: a configuration that we cannot use is left out (RFC 9458 section 3.2).
    "key-configs": Target(parse=decode_key_configs, seeds=seeds.key_configs),
    "token": Target(parse=Token.decode, seeds=seeds.tokens, encode=Token.encode),
    "token-request": Target(parse=TokenRequest.decode, seeds=seeds.tokens, encode=TokenRequest.encode),
    "batch-request": Target(parse=BatchRequest.decode, seeds=seeds.batches, encode=BatchRequest.encode),
    "batch-response": Target(parse=BatchResponse.decode, seeds=seeds.batches, encode=BatchResponse.encode),
    "generic-request": Target(
        parse=GenericBatchRequest.decode, seeds=seeds.batches, encode=GenericBatchRequest.encode
    ),
    "generic-response": Target(
        parse=GenericBatchResponse.decode, seeds=seeds.batches, encode=GenericBatchResponse.encode
    ),
    "single-request": Target(parse=SingleRequest.decode, seeds=seeds.batches, encode=SingleRequest.encode),
    "single-response": Target(parse=SingleResponse.decode, seeds=seeds.batches, encode=SingleResponse.encode),
    "token-challenge": Target(
        parse=TokenChallenge.decode, seeds=seeds.challenges, encode=TokenChallenge.encode
    ),
    "token-key": Target(parse=TokenKey.parse, seeds=seeds.certificates),
    "authorization": Target(parse=parse_authorization, seeds=seeds.fields),
    "challenges": Target(parse=parse_challenges, seeds=seeds.fields),
    "auth-fields": Target(parse=parse_fields, seeds=seeds.fields),
    "http-date": Target(parse=parse_http_date, seeds=seeds.fields),
    "link": Target(parse=partial(_in_pieces, LinkReader), seeds=seeds.frames),
    "frames": Target(parse=partial(_in_pieces, FrameReader), seeds=seeds.frames),
    # edge
    "provider-keys": Target(parse=parse_keys, seeds=seeds.provider_keys, errors=(ProviderError,)),
    "id-token": Target(parse=_id_token, seeds=seeds.id_tokens, errors=(IdTokenError,)),
    # device and tee
    "answer": Target(parse=partial(_in_pieces, AnswerDecoder), seeds=seeds.answers, errors=(SottovoceError,)),
    "exported-reports": Target(parse=decode_export, seeds=seeds.exports),
    "chat": Target(parse=partial(import_chat, name="chat.txt"), seeds=seeds.chats, errors=(SottovoceError,)),
    "cvm-settings": Target(parse=parse_settings, seeds=seeds.hosts, errors=(ConfigError,)),
}
"""By name; the runner and the documents list them in this order."""
