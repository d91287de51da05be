"""The vendors' root certificates that ship with the package."""

import importlib.resources
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from sottovoce.attest.policy import Root
from sottovoce.core.errors import UsageError

__all__ = ["AMD_PRODUCTS", "amd_root"]

AMD_PRODUCTS: Final = ("Milan", "Genoa", "Turin")
"""Product lines with a root of their own; Siena uses Genoa's."""


def amd_root(product: str) -> Root:
    """AMD's root for one product line.

    Raises:
        UsageError: there is no such product.
    """
    if product not in AMD_PRODUCTS:
        raise UsageError("there is no pinned root for this product")
    pem = importlib.resources.files("sottovoce.attest").joinpath("roots", f"ark_{product.lower()}.pem")
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    return Root(product=product, ark_der=certificate.public_bytes(Encoding.DER))
