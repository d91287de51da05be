"""What devices are held against, and where the lines of one device go."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sottovoce.attest.nvidia.manifest import Manifest, parsed_manifest
from sottovoce.attest.nvidia.policy import NvidiaPolicy
from sottovoce.attest.verdict import Checklist

__all__ = ["Demands", "Lines", "References"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class References:
    """Reference manifests, and the root (DER) that their signers must lead to."""

    manifests: tuple[tuple[bytes, Manifest], ...]
    root: bytes

    @classmethod
    def of(cls, files: Sequence[bytes], root: bytes) -> "References":
        """The manifests in these files; the same file twice is one.

        Raises:
            DecodeError: one is no manifest.
        """
        return cls(manifests=tuple((data, parsed_manifest(data)) for data in dict.fromkeys(files)), root=root)

    def find(self, products: set[str], version: str) -> list[bytes]:
        """The manifests for a product and version, which nobody has verified yet."""
        return [
            data
            for data, manifest in self.manifests
            if manifest.product in products and manifest.version.upper() == version.upper()
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Demands:
    """What devices are held against.

    Attributes:
        nonce: 32 bytes; None if none was demanded.
        references: reference manifests; empty if none were given.
        now: unix seconds; None where there is no trusted clock.
        references_needed: a device without a reference manifest is refused, and not just compared with nothing.
    """

    policy: NvidiaPolicy
    nonce: bytes | None
    references: References
    now: int | None
    references_needed: bool = False


class Lines:
    """The lines of one device in a checklist."""

    def __init__(self, checks: Checklist, name: str) -> None:
        self._checks, self.name = checks, name

    def add(self, check: str, *, ok: bool, found: str, wanted: str) -> bool:
        """As `Checklist.add`."""
        return self._checks.add(f"{self.name}/{check}", ok=ok, found=found, wanted=wanted)

    def attempt(self, check: str, step: Callable[[], _T], *, wanted: str) -> _T | None:
        """As `Checklist.attempt`."""
        return self._checks.attempt(f"{self.name}/{check}", step, wanted=wanted)

    def skip(self, check: str, why: str) -> None:
        """As `Checklist.skip`."""
        self._checks.skip(f"{self.name}/{check}", why)
