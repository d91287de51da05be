"""Whether secrets can be told from times: Welch's t of two classes of inputs, drawn in random order (the method of dudect).

Below 4.5 nothing is found with so many samples; the control, an operation that is not constant time, must come out far above it. Times
are of CPU; those above the 75th percentile of all are left out, as they tell of other programs. What is found here is evidence, not proof.
"""

import argparse
import json
import random
import secrets
import time
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from statistics import fmean, variance

from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.core import ristretto
from sottovoce.edge.rsa import BlindSigner

SAMPLES, BOUND, KEPT = 4000, 4.5, 0.75
Draw = Callable[[], tuple[object, ...]]


def welch(classes: tuple[Draw, Draw], operation: Callable[..., object], samples: int) -> float:
    """|t| of the two classes' times; inputs are made before the clock starts."""
    order = [number % 2 for number in range(samples)]
    random.shuffle(order)
    inputs = [(which, classes[which]()) for which in order]
    times: list[tuple[int, int]] = []
    for which, values in inputs:
        start = time.thread_time_ns()
        operation(*values)
        times.append((which, time.thread_time_ns() - start))
    limit = sorted(taken for _, taken in times)[int(KEPT * len(times))]
    first, second = ([taken for which, taken in times if which == one and taken <= limit] for one in (0, 1))
    spread = sqrt(variance(first) / len(first) + variance(second) / len(second))
    return abs(fmean(first) - fmean(second)) / spread


def rsa_cases() -> dict[str, tuple[tuple[Draw, Draw], Callable[..., object]]]:
    """The issuer's private operation, by message; the control is Python's own power, by exponent."""
    key = rsa.generate_private_key(65537, 2048)
    signer, prime = BlindSigner(key), key.private_numbers().p
    modulus, length, bits = signer.public.modulus, signer.public.length, prime.bit_length()

    def number() -> int:
        return 2 + secrets.randbelow(prime - 2)

    sparse: Draw = lambda: (number(), (1 << bits - 1) + 1, prime)  # noqa: E731
    dense: Draw = lambda: (number(), (1 << bits) - 1, prime)  # noqa: E731
    fixed = (2).to_bytes(length, "big")
    return {
        "type 2: signature, by message": (
            (lambda: (fixed,), lambda: (secrets.randbelow(modulus).to_bytes(length, "big"),)),
            signer.blind_sign,
        ),
        "control: plain exponentiation, by exponent": ((sparse, dense), pow),
    }


def ristretto_cases() -> dict[str, tuple[tuple[Draw, Draw], Callable[..., object]]]:
    """What libsodium does with secret scalars: small ones and random ones."""
    element = ristretto.multiply_base(ristretto.random_scalar())
    small: Callable[[], bytes] = lambda: (2 + secrets.randbelow(14)).to_bytes(32, "little")  # noqa: E731
    return {
        "type 5: multiplication, by scalar": (
            (lambda: (small(), element), lambda: (ristretto.random_scalar(), element)),
            ristretto.multiply,
        ),
        "type 5: multiple of the generator, by scalar": (
            (lambda: (small(),), lambda: (ristretto.random_scalar(),)),
            ristretto.multiply_base,
        ),
        "type 5: inversion, by scalar": (
            (lambda: (small(),), lambda: (ristretto.random_scalar(),)),
            ristretto.invert_scalar,
        ),
        "type 5: proof's answer, by key": (
            (
                lambda: (ristretto.random_scalar(), ristretto.random_scalar(), small()),
                lambda: (ristretto.random_scalar(), ristretto.random_scalar(), ristretto.random_scalar()),
            ),
            ristretto.multiply_subtract,
        ),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    arguments = parser.parse_args()
    cases = rsa_cases() | (ristretto_cases() if ristretto.is_available() else {})
    result = {
        title: welch(classes, operation, arguments.samples) for title, (classes, operation) in cases.items()
    }
    for title, found in result.items():
        verdict = "differs" if found > BOUND else "no difference found"
        print(f"{title:48}|t| = {found:8.1f}   {verdict}")
    if arguments.json:
        arguments.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
