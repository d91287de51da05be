"""A reference integrity manifest: what a device's measurements must be (TCG RIM information model 1.01; SWID tags, ISO/IEC 19770-2).

    <SoftwareIdentity name="GH100" …>
      <Entity …/>
      <Meta colloquialVersion="550.144.03" product="GH100" …/>
      <Payload>
        <Resource type="Measurement" index="0" active="True" alternatives="1" Hash0="…96 hex…" size="48" name="…"/> …
      </Payload>
      <ds:Signature>…</ds:Signature>
    </SoftwareIdentity>

Resource `index` n is about the report's measurement n + 1. Nothing but this shape is accepted.

The vendor's service for manifests answers with a JSON object around one, `{"id": …, "rim": "base64", "rim_format": "TCG", …}`.
"""

import base64
import functools
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sottovoce.attest.certificates import Certificate
from sottovoce.attest.nvidia import xml
from sottovoce.attest.nvidia.layout import DIGEST
from sottovoce.attest.nvidia.signatures import GpuSignatureError, verify_chain, verify_ecdsa
from sottovoce.attest.nvidia.xml import Element
from sottovoce.core.errors import DecodeError

__all__ = ["Golden", "Manifest", "VerifiedManifest", "unwrapped", "verify_manifest"]

_SWID: Final = "http://standards.iso.org/iso/19770/-2/2015/schema.xsd"
_HASH: Final = "http://www.w3.org/2001/04/xmlenc#sha384"
_DSIG: Final = "http://www.w3.org/2000/09/xmldsig#"
_C14N: Final = "http://www.w3.org/2006/12/xml-c14n11"
_ENVELOPED: Final = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_ECDSA: Final = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384"
_SHA384: Final = "http://www.w3.org/2001/04/xmldsig-more#sha384"
_MAX_INDEX: Final = 254
_MAX_ALTERNATIVES: Final = 16
_MAX_CERTIFICATES: Final = 8
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,2}", re.ASCII)
_DIGITS: Final = re.compile(r"[0-9a-fA-F]{96}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9A-Za-z.]{1,40}", re.ASCII)
_PRODUCT: Final = re.compile(r"[0-9A-Za-z_-]{1,40}", re.ASCII)
_TRUTH: Final = {"True": True, "False": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One reference value: the index of the report's block (from 1), whether it must match, and the digests that it may have."""

    index: int
    active: bool
    digests: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A parsed manifest; nothing is verified yet.

    Attributes:
        product: the chip, such as "GH100".
        version: of the driver or firmware that it is about.
        certificates: the signer's, and on to the root (DER each).
        body: the canonical bytes that `digest` is to be of.
        digest: SHA-384, 48 bytes.
        signed: the canonical bytes that `signature` (r and s) covers; they hold `digest`.
    """

    product: str
    version: str
    golden: Mapping[int, Golden]
    certificates: tuple[bytes, ...]
    body: bytes
    digest: bytes
    signed: bytes
    signature: tuple[int, int]

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Parse a manifest.

        Raises:
            DecodeError: not well-formed, or of another shape.
        """
        root = xml.parse(data)
        if root.name != (_SWID, "SoftwareIdentity"):
            raise DecodeError("the manifest is no software identity tag")
        _, meta, payload, signature = _children(
            root, (_SWID, "Entity"), (_SWID, "Meta"), (_SWID, "Payload"), (_DSIG, "Signature")
        )
        product = _attribute(meta, "product", _PRODUCT)
        if root.attributes.get(("", "name")) != product:
            raise DecodeError("the manifest names two products")
        info, value, keys = _children(
            signature, (_DSIG, "SignedInfo"), (_DSIG, "SignatureValue"), (_DSIG, "KeyInfo")
        )
        return cls(
            product=product,
            version=_attribute(meta, "colloquialVersion", _VERSION),
            golden=_golden(payload),
            certificates=_certificates(keys),
            body=root.canonical(without=signature),
            digest=_reference(info),
            signed=info.canonical(),
            signature=_signature(value),
        )


def _children(element: Element, *names: xml.Name) -> tuple[Element, ...]:
    found = element.elements()
    if tuple(child.name for child in found) != names:
        raise DecodeError("the manifest has a missing, misplaced or unknown part")
    return found


def _attribute(element: Element, name: str, form: re.Pattern[str]) -> str:
    value = element.attributes.get(("", name), "")
    if not form.fullmatch(value):
        raise DecodeError(f"the manifest has a missing or malformed {name}")
    return value


# W3C XML Signature 1.1. One reference, to the whole document without the signature itself, and one algorithm for each step: so
# there is nothing that could be signed instead of what is read.
def _reference(info: Element) -> bytes:
    method, algorithm, reference = _children(
        info, (_DSIG, "CanonicalizationMethod"), (_DSIG, "SignatureMethod"), (_DSIG, "Reference")
    )
    _require_algorithm(method, _C14N)
    _require_algorithm(algorithm, _ECDSA)
    if reference.attributes != {("", "URI"): ""}:
        raise DecodeError("the manifest's signature is not about the whole document")
    transforms, digest, value = _children(
        reference, (_DSIG, "Transforms"), (_DSIG, "DigestMethod"), (_DSIG, "DigestValue")
    )
    enveloped, canonical = _children(transforms, (_DSIG, "Transform"), (_DSIG, "Transform"))
    _require_algorithm(enveloped, _ENVELOPED)
    _require_algorithm(canonical, _C14N)
    _require_algorithm(digest, _SHA384)
    return _base64(value.text(), DIGEST)


def _require_algorithm(element: Element, wanted: str) -> None:
    if element.attributes != {("", "Algorithm"): wanted} or element.elements():
        raise DecodeError("the manifest is signed in another way than with ECDSA and SHA-384")


def _signature(element: Element) -> tuple[int, int]:
    # RFC 6931 section 2.3.6: r and s one after the other
    value = _base64(element.text(), 2 * DIGEST)
    return int.from_bytes(value[:DIGEST], "big"), int.from_bytes(value[DIGEST:], "big")


def _base64(text: str, length: int | None = None) -> bytes:
    try:
        value = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:
        raise DecodeError("the manifest's signature is not base64") from None
    if length is not None and len(value) != length:
        raise DecodeError("the manifest's signature has a part of the wrong length")
    return value


def _certificates(keys: Element) -> tuple[bytes, ...]:
    (data,) = _children(keys, (_DSIG, "X509Data"))
    found = data.elements()
    if not 1 <= len(found) <= _MAX_CERTIFICATES:
        raise DecodeError("the manifest has no certificates, or too many")
    if any(one.name != (_DSIG, "X509Certificate") for one in found):
        raise DecodeError("the manifest has a missing, misplaced or unknown part")
    return tuple(_base64(one.text()) for one in found)


def _golden(payload: Element) -> Mapping[int, Golden]:
    found: dict[int, Golden] = {}
    for resource in payload.elements():
        golden = _resource(resource)
        if golden.index in found:
            raise DecodeError("the manifest has two reference values for one measurement")
        found[golden.index] = golden
    if not any(golden.active for golden in found.values()):
        raise DecodeError("the manifest has no active reference value")
    return found


def _resource(resource: Element) -> Golden:
    given = resource.attributes
    plain = {"type", "index", "active", "alternatives", "name", "size"}
    index, alternatives = (int(_attribute(resource, name, _NUMBER)) for name in ("index", "alternatives"))
    names = {("", name) for name in plain} | {(_HASH, f"Hash{number}") for number in range(alternatives)}
    if resource.name != (_SWID, "Resource") or given.keys() != names or resource.elements():
        raise DecodeError("the manifest has a reference value of another form")
    if given["", "type"] != "Measurement" or given["", "size"] != str(DIGEST):
        raise DecodeError("the manifest has a reference value of another form")
    digests = [given[_HASH, f"Hash{number}"] for number in range(alternatives)]
    if not 1 <= alternatives <= _MAX_ALTERNATIVES or index > _MAX_INDEX:
        raise DecodeError("the manifest has a reference value out of range")
    if given["", "active"] not in _TRUTH or not all(map(_DIGITS.fullmatch, digests)):
        raise DecodeError("the manifest has a reference value of another form")
    return Golden(
        index=index + 1, active=_TRUTH[given["", "active"]], digests=tuple(map(bytes.fromhex, digests))
    )


def unwrapped(data: bytes) -> bytes:
    """The manifest's XML in `data`: what the vendor's service answered, as JSON, or the XML itself.

    Only `rim` is read of the JSON: nobody signed the rest.

    Raises:
        DecodeError: JSON, but not such an answer, or longer than one can be.
    """
    if data.lstrip()[:1] != b"{":
        return data
    if len(data) > 2 * xml.MAX_DOCUMENT:
        raise DecodeError("the manifest's file is longer than its limit")
    try:
        answer = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise DecodeError("the manifest's file is not JSON") from None
    text = answer.get("rim")
    if not isinstance(text, str):
        raise DecodeError("the manifest's file holds no manifest")
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise DecodeError("the manifest's file is not base64") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedManifest:
    """A manifest whose signature verifies, with the chain of its signer. Dates are the caller's to check."""

    manifest: Manifest
    chain: tuple[Certificate, ...]


# A manifest is the same for every device of its kind, and reading it costs more than verifying a report.
@functools.lru_cache(maxsize=64)
def verify_manifest(data: bytes, root: bytes) -> VerifiedManifest:
    """The manifest, if its signer leads to the pinned `root` (DER) and has signed all of it.

    Raises:
        DecodeError: malformed.
        GpuChainError: the signer does not lead to the root.
        GpuSignatureError: something was changed after it was signed.
    """
    manifest = parsed_manifest(data)
    chain = verify_chain(manifest.certificates, root)
    if hashlib.sha384(manifest.body).digest() != manifest.digest:
        raise GpuSignatureError("the manifest was changed after it was signed")
    verify_ecdsa(chain[0], manifest.signature, manifest.signed)
    return VerifiedManifest(manifest=manifest, chain=chain)


parsed_manifest: Final = functools.lru_cache(maxsize=64)(Manifest.parse)
"""`Manifest.parse`, remembered; failures are not."""
