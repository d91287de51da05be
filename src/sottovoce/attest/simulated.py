"""What differs on simulated hardware (protocol section 11): the platform's name, the product's name, the floor. Nothing else.

A simulated processor signs the reports of `attest.snp` with keys under a root of its own, and the same code verifies them. A
production policy cannot hold that root.
"""

from typing import Final

from sottovoce.attest.snp.layout import Tcb

__all__ = ["SIMULATED_FLOOR", "SIMULATED_KIND", "SIMULATED_PRODUCT"]

SIMULATED_KIND: Final = "simulated-snp"
"""The platform's kind in evidence, releases and host entries."""
SIMULATED_PRODUCT: Final = "Simulated"
"""The product name in certificates, roots and host entries."""
SIMULATED_FLOOR: Final = Tcb(bootloader=10, tee=0, snp=23, microcode=84)
