"""The vendors' certificates that ship with the package: roots, which are trusted, and intermediates, which their roots vouch for."""

import functools
import importlib.resources
from typing import TYPE_CHECKING, Final

from sottovoce.attest.pem import certificates
from sottovoce.attest.policy import Root
from sottovoce.core.errors import UsageError

if TYPE_CHECKING:
    from sottovoce.attest.nvidia.policy import NvidiaRoots

__all__ = ["AMD_PRODUCTS", "amd_intermediates", "amd_root", "amd_roots", "intel_root", "nvidia_roots"]

AMD_PRODUCTS: Final = ("Milan", "Genoa", "Turin")
"""Product lines with a root of their own; Siena uses Genoa's."""


def amd_root(product: str) -> Root:
    """AMD's root for one product line.

    Raises:
        UsageError: there is no such product.
    """
    return Root(product=product, ark_der=_file("ark", product))


def amd_roots() -> tuple[Root, ...]:
    """AMD's roots for every product line."""
    return tuple(map(amd_root, AMD_PRODUCTS))


@functools.cache
def amd_intermediates() -> tuple[bytes, ...]:
    """The certificates (DER) that sign chip keys and those that sign shared keys, for every product line."""
    return tuple(_file(name, product) for product in AMD_PRODUCTS for name in ("ask", "asvk"))


@functools.cache
def intel_root() -> bytes:
    """Intel's root for quotes of SGX and TDX (DER)."""
    return _read("intel_sgx_root.pem")


@functools.cache
def nvidia_roots() -> "NvidiaRoots":
    """NVIDIA's roots for devices and for reference manifests."""
    from sottovoce.attest.nvidia.policy import NvidiaRoots  # noqa: PLC0415 - only who verifies GPUs needs it

    return NvidiaRoots(devices=_read("nvidia_device_identity.pem"), manifests=_read("nvidia_rim.pem"))


def _file(name: str, product: str) -> bytes:
    if product not in AMD_PRODUCTS:
        raise UsageError("there is no pinned root for this product")
    return _read(f"{name}_{product.lower()}.pem")


def _read(name: str) -> bytes:
    (certificate,) = certificates(
        importlib.resources.files("sottovoce.attest").joinpath("roots", name).read_bytes()
    )
    return certificate
