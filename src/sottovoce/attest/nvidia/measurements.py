"""A report's measurements against the reference manifests of its driver and its firmware."""

from collections.abc import Mapping, Sequence
from typing import Final

from sottovoce.attest.nvidia.demands import Demands, Lines
from sottovoce.attest.nvidia.layout import Report
from sottovoce.attest.nvidia.manifest import (
    Golden,
    Manifest,
    VerifiedManifest,
    parsed_manifest,
    verify_manifest,
)
from sottovoce.attest.nvidia.opaque import DISABLED, Fields
from sottovoce.attest.nvidia.signatures import require_not_revoked, require_valid, verify_chain
from sottovoce.attest.verdict import quietly

__all__ = ["compare"]

_NVDEC_INDEX: Final = 36
"""The video decoder's measurement; its manifest's index is one less. It is empty where the decoder is off."""
_NO_MANIFEST: Final = "no reference manifest was given"
_NO_CLOCK: Final = "there is no trusted clock here"


def compare(
    report: Report,
    fields: Fields,
    chip: str,
    demands: Demands,
    lines: Lines,
    *,
    switch: bool,
) -> None:
    """Record the lines of the manifests and of the measurements.

    `chip` is the certificate's, empty where that is not trusted; a switch has no driver.
    """
    versions = {"vbios": fields.vbios} if switch else {"driver": fields.driver, "vbios": fields.vbios}
    if not demands.references.manifests and not demands.references_needed:
        for part in versions:
            lines.skip(f"nvidia-{part}-rim", _NO_MANIFEST)
            lines.skip(f"nvidia-{part}-rim-dates", _NO_MANIFEST)
        if not switch:
            lines.skip("nvidia-rim-conflict", _NO_MANIFEST)
        lines.skip("nvidia-measurements", _NO_MANIFEST)
        return
    products = {chip, fields.chip or chip} - {""}
    if not products:
        return  # the lines stand as ones that could not be checked
    found = [_manifest(part, version, products, demands, lines) for part, version in versions.items()]
    active = [_active(one.manifest) for one in found if one is not None]
    complete = len(active) == len(versions)
    twice = sorted(set.intersection(*map(set, active))) if complete and not switch else []
    if complete and not switch:
        text = f"indexes {_indexes(twice)}" if twice else "none"
        lines.add("nvidia-rim-conflict", ok=not twice, found=text, wanted="none")
    if active and not twice:
        merged = {index: golden for one in active for index, golden in one.items()}
        _measurements(report, merged, fields, lines, complete=complete)


def _active(manifest: Manifest) -> Mapping[int, Golden]:
    return {index: golden for index, golden in manifest.golden.items() if golden.active}


def _manifest(
    part: str,
    version: str | None,
    products: set[str],
    demands: Demands,
    lines: Lines,
) -> VerifiedManifest | None:
    check, references, now = f"nvidia-{part}-rim", demands.references, demands.now
    wanted = f"one manifest for {' or '.join(sorted(products))}, {part} {version or '?'}"
    candidates = references.find(products, version) if version else []
    if len(candidates) != 1:
        text = f"{len(candidates)} of the {len(references.manifests)} that were given are for it"
        lines.add(check, ok=False, found=text, wanted=wanted)
        return None
    (data,) = candidates
    verified = lines.attempt(check, lambda: _verified(data, demands), wanted=wanted)
    # Whether the signer has expired can be said of a manifest that was changed as well.
    chain = quietly(lambda: verify_chain(parsed_manifest(data).certificates, references.root))
    if chain is not None and now is None:
        lines.skip(f"{check}-dates", _NO_CLOCK)
    elif chain is not None and now is not None:
        lines.attempt(f"{check}-dates", lambda: require_valid(chain, now=now), wanted="all valid")
    return verified


def _verified(data: bytes, demands: Demands) -> VerifiedManifest:
    verified = verify_manifest(data, demands.references.root)
    require_not_revoked(verified.chain, demands.policy.revoked or frozenset())
    return verified


def _measurements(
    report: Report, active: Mapping[int, Golden], fields: Fields, lines: Lines, *, complete: bool
) -> None:
    passed_over = {_NVDEC_INDEX} & active.keys() if fields.nvdec0 == DISABLED else set()
    wrong = sorted(
        index
        for index, golden in active.items()
        if index not in passed_over and report.measurements.get(index) not in golden.digests
    )
    if not complete and not wrong:
        return  # half of the reference values: they can refuse, but nothing passes by them
    count = len(active) - len(passed_over)
    equal = f"{count - len(wrong)} of {count} equal"
    found = f"{equal}; indexes {_indexes(wrong)} are not" if wrong else equal
    if passed_over:
        found += f"; not compared: index {_indexes(passed_over)}, as the video decoder is off"
    without = len(report.measurements.keys() - active.keys())
    lines.add(
        "nvidia-measurements",
        ok=not wrong and count > 0,
        found=f"{found}; {without} have no reference value",
        wanted="all that the manifests demand",
    )


def _indexes(indexes: Sequence[int] | set[int]) -> str:
    # As the manifests and the vendor's tools count, from 0.
    return ", ".join(str(index - 1) for index in sorted(indexes))
