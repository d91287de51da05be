"""What a device pins of a world of evidence in memory."""

import base64

from sottovoce.device.environment import Environment, VendorRoot
from sottovoce.simulator.testing import EvidenceWorld


def pins(world: EvidenceWorld) -> Environment:
    """No party of it can be reached."""
    log, root = world.log.policy(), world.vendor.root
    return Environment(
        name="test",
        simulated=True,
        log_origin=log.origin,
        log_key=str(log.log_key),
        witnesses=[str(key) for key in log.witnesses],
        quorum=log.quorum,
        directory_key=str(log.log_key),
        vendor_roots=[VendorRoot(product=root.product, ark=base64.b64encode(root.ark_der).decode())],
        mirrors=[],
        relays=[],
        issuer="",
        issuer_name="issuer",
        service="service",
        minimum_security_version=1,
    )
