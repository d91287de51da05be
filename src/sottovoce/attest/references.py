"""Reference values: what evidence on its own is compared with."""

from collections.abc import Collection
from typing import Final

from sottovoce.attest.verdict import Checklist
from sottovoce.core.errors import UsageError

__all__ = ["NO_REFERENCE", "compare", "only", "require_sizes"]

NO_REFERENCE: Final = "no reference value was given"


def only(value: bytes | None) -> frozenset[bytes] | None:
    """The set of the one value, if there is one."""
    return None if value is None else frozenset({value})


def require_sizes(name: str, values: Collection[bytes] | None, sizes: tuple[int, ...]) -> None:
    """Check that expected values can be met at all.

    Raises:
        UsageError: there is none, or one has another size than `sizes`, in bytes.
    """
    if values is not None and (not values or any(len(one) not in sizes for one in values)):
        raise UsageError(f"an expected {name} has a wrong length, or there is none")


def compare(check: str, found: bytes, wanted: Collection[bytes] | None, checks: Checklist) -> None:
    """Record whether `found` is one of those wanted; not checked where none is given."""
    if wanted is None:
        checks.skip(check, f"{found.hex()}; {NO_REFERENCE}")
        return
    names = " or ".join(sorted(value.hex() for value in wanted))
    checks.add(check, ok=found in wanted, found=found.hex(), wanted=names)
