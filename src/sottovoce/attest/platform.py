"""What the steps for one platform hand on to those that are the same for all."""

from dataclasses import dataclass

__all__ = ["AppraisedPlatform"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppraisedPlatform:
    """What a report says. Whether it may be believed is in the checklist.

    Attributes:
        product: the processor's product line; empty where the chain does not verify.
        hardware_id: the chip's id: 64 bytes, 8 on Turin; on TDX the platform's, 16 bytes.
        report_data: 64 bytes.
        measurement: what was launched, 48 bytes; on TDX `tdx.appraisal.launch_measurement`.
        vmpl: the privilege level that asked for the report; None where the platform has none.
    """

    product: str
    hardware_id: bytes
    report_data: bytes
    measurement: bytes
    vmpl: int | None
