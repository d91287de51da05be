"""What fuzzing starts from: valid inputs, made by the simulator or written down. Nothing is read from a file."""

import base64
import functools
import json
import struct
from dataclasses import replace
from typing import Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from jwt.algorithms import ECAlgorithm

from sottovoce.attest.evidence import Evidence
from sottovoce.attest.pem import armored
from sottovoce.attest.snp import certtable
from sottovoce.core import bhttp, hpke
from sottovoce.core.challenges import TokenChallenge
from sottovoce.core.frames import encode_message
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.link import encode_turn
from sottovoce.core.ohttp_keys import KeyConfig, encode_key_configs
from sottovoce.core.privatetokens import BatchRequest, BatchResponse, SingleRequest, SingleResponse
from sottovoce.core.tokens import Token, TokenRequest, authorization_value
from sottovoce.simulator.accelerator import SimulatedGpuVendor, evidence_json
from sottovoce.simulator.gpu_manifest import manifest_text, sign_manifest
from sottovoce.simulator.intel import QuoteFields
from sottovoce.simulator.paravisor import SimulatedParavisor
from sottovoce.simulator.testing import NOW, EvidenceWorld, TdxEvidenceWorld, intel, vendor
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.artifacts import File, Tree
from sottovoce.tlog.entries import Directory, Relay, Revocations, TokenKey
from sottovoce.tlog.history import History
from sottovoce.tlog.merkle import leaf_hash
from sottovoce.tlog.note import SigningKey
from sottovoce.tlog.proof import Proof, encode_proof
from sottovoce.tlog.publication import Publishers, combine, sign_release
from sottovoce.tlog.tiles import encode_bundle

_EXPORTER, _SPKI = b"e" * 32, b"public key"
_NONCE = b"n" * 32


@functools.cache
def _world() -> EvidenceWorld:
    return EvidenceWorld()


@functools.cache
def _shown() -> Evidence:
    return _world().evidence(_EXPORTER, _SPKI)


@functools.cache
def _quotes() -> tuple[bytes, bytes]:
    platform, fields = intel().make_platform(now=NOW), QuoteFields(report_data=bytes(64))
    newer = QuoteFields(report_data=bytes(64), version=5)
    return platform.quote(fields), platform.quote(newer)


@functools.cache
def _gpus() -> SimulatedGpuVendor:
    return SimulatedGpuVendor.create(now=NOW)


def evidence() -> list[bytes]:
    return [_shown().encode(), TdxEvidenceWorld().quoted(_EXPORTER, _SPKI).encode()]


def snp_reports() -> list[bytes]:
    report = _shown().platform.report
    return [report, *(bytes([version]) + report[1:0x188] + bytes(1184 - 0x188) for version in (2, 3))]


def snp_papers() -> list[bytes]:
    report, endorsements = _shown().platform.report, _shown().endorsements
    entries = (
        (certtable.VCEK, endorsements.vcek),
        (certtable.ASK, endorsements.ask),
        (certtable.CRL, endorsements.crl),
    )
    at, head, body = (len(entries) + 1) * certtable.ENTRY.size, b"", b""
    for guid, data in entries:
        head += certtable.ENTRY.pack(guid.bytes, at + len(body), len(data))
        body += data
    table = head + bytes(certtable.ENTRY.size) + body
    answer = struct.pack("<II", 0, len(report)) + bytes(24) + report
    azure = {
        "vcekCert": armored(endorsements.vcek).decode(),
        "certificateChain": armored(endorsements.ask).decode(),
        "tcbm": "0",
        "cacheControl": "86400",
    }
    return [
        *(report + table, table, answer.ljust(4000, b"\0"), report.hex().encode(), base64.b64encode(report)),
        json.dumps(azure).encode(),
    ]


def certificates() -> list[bytes]:
    chain = x509.load_pem_x509_certificates(intel().make_platform(now=NOW).chain)
    return [vendor().ark, vendor().ask, _shown().endorsements.vcek, chain[0].public_bytes(Encoding.DER)]


def revocation_lists() -> list[bytes]:
    return [vendor().crl, vendor().revocation_list(vendor().ark_key, now=NOW, serials=(2, 3))]


def pem_files() -> list[bytes]:
    return [intel().make_platform(now=NOW).chain, vendor().ask, vendor().ask.hex().encode(), b"0x00ff\n"]


def policy_files() -> list[bytes]:
    return [
        b'version = 1\nrelax = ["policy-smt"]\ndemand = ["platform-ecc"]\n[snp]\nproducts = ["Genoa"]\n'
        b'[snp.floors.Genoa]\nbootloader = 1\ntee = 0\nsnp = 1\nmicrocode = 1\nsource = "x"\n'
        b'[snp.expect]\nmeasurements = ["' + b"ab" * 48 + b'"]\nvmpl = 1\n',
        b'version = 1\n[tdx]\nstatuses = ["UpToDate"]\nadvisories = ["INTEL-SA-00001"]\nevaluation = 1\n'
        b'[tdx.expect]\nmrtds = ["' + b"cd" * 48 + b'"]\n[nvidia]\nmodes = ["SPT"]\n',
    ]


def tdx_quotes() -> list[bytes]:
    return list(_quotes())


def tdx_quote_files() -> list[bytes]:
    quote = b"quote" * 20
    text = base64.b64encode(quote).decode()
    documents = (
        {"quote": text, "runtime_data": ""},
        {"tdx": {"td_quote": list(quote)}},
        {"quote": quote.hex()},
    )
    return [quote, quote.hex().encode(), text.encode(), *(json.dumps(one).encode() for one in documents)]


def tdx_collateral() -> list[bytes]:
    members = json.loads(intel().collateral(now=NOW))
    answers = {
        name: f'{{"{inner}":{members[name]},"signature":"{members[name + "_signature"]}"}}'
        for name, inner in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity"))
    }
    return [json.dumps(members).encode(), json.dumps({**members, **answers}).encode()]


def event_logs() -> list[bytes]:
    header = struct.pack("<II20sI", 1, 3, bytes(20), 33) + b"Spec ID Event03\0" + bytes(17)
    event = struct.pack("<IIIH48sI", 1, 8, 1, 12, b"d" * 48, 3) + b"abc"
    return [header + event * 3, header + event + b"\xff" * 64, header + bytes(64)]


def gpu_reports() -> list[bytes]:
    return [_gpus().make_device(now=NOW, architecture=name).report(_NONCE) for name in ("HOPPER", "LS10")]


def gpu_evidence() -> list[bytes]:
    text = evidence_json([_gpus().make_device(now=NOW)], _NONCE)
    (device,) = devices = json.loads(text)
    common = {name: device.pop(name) for name in ("arch", "nonce")}
    forms = ({"evidences": json.loads(text)}, {**common, "evidence_list": devices}, {**common, **device})
    return [text, *(json.dumps(one).encode() for one in forms)]


def gpu_manifests() -> list[bytes]:
    text = manifest_text("GPU", "1.2.3", {1: [b"m" * 48], 2: [b"n" * 48]})
    return [text.encode(), sign_manifest(text, _gpus().manifest_signer)]


def gpu_manifest_files() -> list[bytes]:
    answers = (
        {"id": "X", "rim": base64.b64encode(text).decode(), "rim_format": "TCG"} for text in gpu_manifests()
    )
    return [*gpu_manifests(), *(json.dumps(answer).encode() for answer in answers)]


def _paravisor() -> SimulatedParavisor:
    return SimulatedParavisor(vendor().make_chip(now=NOW), b"m" * 48)


def hcl_reports() -> list[bytes]:
    return [_paravisor().hcl_report()]


def runtime_claims() -> list[bytes]:
    return [_paravisor().claims_json()]


def tpm_quotes() -> list[bytes]:
    return [_paravisor().quote(_NONCE).message]


def paravisor_evidence() -> list[bytes]:
    return [
        json.dumps(
            {"report": base64.urlsafe_b64encode(_paravisor().hcl_report()).decode().rstrip("=")}
        ).encode(),
        json.dumps({"hcl_report": list(_paravisor().hcl_report())}).encode(),
    ]


def notes() -> list[bytes]:
    return [_world().log.checkpoint(now=NOW).encode()]


def checkpoints() -> list[bytes]:
    return [_world().log.checkpoint(now=NOW).text.encode(), b"log.example/x\n1\n" + b"A" * 43 + b"=\nmore\n"]


def verifier_keys() -> list[bytes]:
    log = _world().log
    return [str(key.verifier).encode() for key in (log.key, log.witnesses[0])]


def proofs() -> list[bytes]:
    parsed = Proof.parse(_shown().host.proof)
    more = encode_proof(index=parsed.index, path=parsed.path, checkpoint=parsed.note, extra=b"more")
    return [_shown().release.proof, _shown().host.proof, more]


def witness_requests() -> list[bytes]:
    node = base64.b64encode(bytes(32))
    return [b"old 0\n\n" + notes()[0], b"old 5\n" + (node + b"\n") * 3 + b"\n" + notes()[0]]


def releases() -> list[bytes]:
    return [_shown().release.entry]


def hosts() -> list[bytes]:
    return [_shown().host.entry, _shown().release.entry]


def directories() -> list[bytes]:
    directory = Directory(
        epoch=20_000,
        not_before=1,
        not_after=2,
        ohttp_key_configs="AAAA",
        token_keys=(TokenKey(epoch=20_000, token_type=2, key="AAAA"),),
        issuer="issuer.example",
        relays=(Relay(operator="Relay Inc.", url="https://relay.example/ohttp"),),
        hosts=tuple(_world().hosts.values()),
        revocations=Revocations(
            releases=frozenset({"ab" * 32}), hosts=frozenset({"host-9"}), certificates=frozenset({"cd" * 32})
        ),
        log_origin="log.example/test",
        log_quorum=2,
    )
    return [directory.encode()]


def artifacts() -> list[bytes]:
    files = (File(path=path, size=1, sha256="ab" * 32) for path in ("a.json", "b/c.json"))
    tree = Tree.of(files)
    return [
        ArtifactEntry.of(tree, name="prompts", purpose="prompts", public=public).encode()
        for public in (True, False)
    ]


def histories() -> list[bytes]:
    leaves = [leaf_hash(b"entry %d" % number) for number in range(12)]
    return [History.of("log.example/fuzz", leaves, sizes).encode() for sizes in ((), (3,), range(1, 12))]


_PUBLISHER_KEYS: Final = tuple(SigningKey.generate(f"publisher.{name}") for name in ("one", "two"))
PUBLISHERS: Final = Publishers([key.verifier for key in _PUBLISHER_KEYS])


def publications() -> list[bytes]:
    (entry,) = releases()
    return [combine(entry, [sign_release(entry, key) for key in _PUBLISHER_KEYS[:count]]) for count in (1, 2)]


def bundles() -> list[bytes]:
    return [encode_bundle([b"one", b"", b"three" * 100])]


def tiles() -> list[bytes]:
    return [bytes(32), bytes(range(256)) * 32]


def bhttp_messages() -> list[bytes]:
    request = bhttp.Request(
        method=b"POST",
        scheme=b"https",
        authority=b"host.example",
        path=b"/v1",
        headers=((b"accept", b"text/plain"),),
        content=b"content",
    )
    response = bhttp.Response(status=200, headers=((b"date", b"now"),), content=b"content")
    return [bhttp.encode_request(request), bhttp.encode_response(response), b"\x02\x04POST\x05https\x00\x01/"]


def key_configs() -> list[bytes]:
    ours = KeyConfig(key_id=1, kem_id=hpke.X25519, public_key=bytes(range(32)), symmetric=((1, 1), (1, 3)))
    return [encode_key_configs([ours]), encode_key_configs([ours, ours])]


def tokens() -> list[bytes]:
    token = Token(nonce=bytes(32), challenge_digest=bytes(32), key_id=bytes(32), authenticator=bytes(256))
    private = replace(token, token_type=5, authenticator=bytes(64))
    request = TokenRequest(truncated_key_id=1, blinded=bytes(256))
    return [token.encode(), private.encode(), request.encode()]


def batches() -> list[bytes]:
    elements, proof = (bytes(range(32)), bytes(32)), bytes(64)
    return [
        BatchRequest(truncated_key_id=1, blinded=elements).encode(),
        BatchResponse(evaluated=elements, proof=proof).encode(),
        SingleRequest(truncated_key_id=1, blinded=elements[0]).encode(),
        SingleResponse(evaluated=elements[0], proof=proof).encode(),
        GenericBatchRequest(requests=(b"\0\2\7" + bytes(256), b"\0\5\7" + elements[0])).encode(),
        GenericBatchResponse(responses=((2, bytes(256)), None, (5, bytes(96)))).encode(),
    ]


def challenges() -> list[bytes]:
    return [TokenChallenge(issuer_name=b"issuer.example", origin_info=b"a.example,b.example").encode()]


def fields() -> list[bytes]:
    token = Token(nonce=bytes(32), challenge_digest=bytes(32), key_id=bytes(32), authenticator=bytes(256))
    return [
        authorization_value(token),
        b'PrivateToken challenge="AAIADmlzc3Vlci5leGFtcGxlAAAAAA==", token-key="AAAA"',
        b'PrivateToken token="AAAA"',
        b'Basic realm="x", PrivateToken challenge=abc',
        b"Sun, 06 Nov 1994 08:49:37 GMT",
    ]


def frames() -> list[bytes]:
    return [encode_message(b"message" * 200), encode_turn(b"turn"), encode_turn(b"x" * 1000)]


def answers() -> list[bytes]:
    return [
        b'{"event":"Suggestion","text":"x"}\n{"event":"Done"}\n',
        b'{"event":"Line","text":"x","ids":[1]}\n',
        b'{"event":"Failed"}\n',
    ]


def exports() -> list[bytes]:
    return [b'{"format":"sottovoce-reports","version":1,"reports":[]}', b"[]"]


def chats() -> list[bytes]:
    return [
        b"[01/02/2026, 10:11:12] Anna: hello\n[01/02/2026, 10:12:12] Ben: hi\nthere\n",
        b"1/2/26, 10:11 AM - Anna: hello\n1/2/26, 10:12 AM - Ben: <Media omitted>\n",
        b"01.02.26, 10:11 - Anna: hallo\n01.02.26, 10:12 - Ben hat die Gruppe verlassen\n",
    ]


@functools.cache
def _provider() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def provider_keys() -> list[bytes]:
    entry = ECAlgorithm.to_jwk(_provider().public_key(), as_dict=True)
    return [json.dumps({"keys": [entry | {"kid": "1", "use": "sig", "alg": "ES256"}]}).encode()]


def id_tokens() -> list[bytes]:
    claims = {"iss": "https://login.example", "aud": "devices", "sub": "1", "iat": NOW, "exp": NOW + 300}
    return [jwt.encode(claims, _provider(), algorithm="ES256", headers={"kid": "1"}).encode()]
