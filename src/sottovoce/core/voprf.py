"""VOPRF(ristretto255, SHA-512), mode 0x01 of RFC 9497, with one proof for a whole batch.

    client: blind(input) → blinded element, blind                        section 3.3.2
    server: SecretKey.evaluate_batch(blinded elements) → elements, proof
    client: PublicKey.verify_batch, then finalize(…) → output, 64 bytes
    server: SecretKey.evaluate(input) → the same 64 bytes

The server sees uniform elements whatever the inputs are. The proof says that all of them were multiplied by the key whose public half
the client has; without it a server could mark each client with a key of its own.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from sottovoce.core import ristretto
from sottovoce.core.errors import CryptoError, UsageError

__all__ = [
    "MAX_BATCH",
    "OUTPUT_LENGTH",
    "PROOF_LENGTH",
    "PublicKey",
    "SecretKey",
    "blind",
    "finalize",
]

OUTPUT_LENGTH: Final = 64
"""Nh of section 4.1, in bytes."""
PROOF_LENGTH: Final = 2 * ristretto.SCALAR_LENGTH
MAX_BATCH: Final = 256
"""Inputs in one batch. The composite's index has 16 bits (section 2.2.1); nobody needs a batch near that."""

_CONTEXT: Final = b"OPRFV1-\x01-ristretto255-SHA512"
_TO_GROUP: Final = b"HashToGroup-" + _CONTEXT
_TO_SCALAR: Final = b"HashToScalar-" + _CONTEXT
_SEED: Final = b"Seed-" + _CONTEXT
_DERIVE: Final = b"DeriveKeyPair" + _CONTEXT
_SHA512_BLOCK: Final = 128
_ATTEMPTS: Final = 256
_INPUT_LIMIT: Final = 1 << 16


class PublicKey:
    """The server's public key: an element, 32 bytes."""

    __slots__ = ("element",)

    def __init__(self, element: bytes) -> None:
        """Take a key.

        Raises:
            DecodeError: not an element, or the identity.
            LibsodiumMissingError: libsodium is not here.
        """
        self.element: Final = ristretto.require_element(element)

    def verify_batch(self, blinded: Sequence[bytes], evaluated: Sequence[bytes], proof: bytes) -> None:
        """Check that `evaluated` is `blinded`, each times the secret key (VerifyProof, section 2.2.2).

        Raises:
            CryptoError: it is not, or one of them is no element.
            DecodeError: the proof is not two scalars.
            UsageError: none, too many, or another number of the one than of the other.
        """
        _check_batch(blinded, evaluated)
        challenge = ristretto.require_scalar(proof[: ristretto.SCALAR_LENGTH])
        answer = ristretto.require_scalar(proof[ristretto.SCALAR_LENGTH :])
        weights = _weights(self.element, blinded, evaluated)
        first, second = _weighted_sum(weights, blinded), _weighted_sum(weights, evaluated)
        commitments = (
            ristretto.add(ristretto.multiply_base(answer), ristretto.multiply(challenge, self.element)),
            ristretto.add(ristretto.multiply(answer, first), ristretto.multiply(challenge, second)),
        )
        if _challenge(self.element, first, second, *commitments) != challenge:
            raise CryptoError("proof does not verify")


class SecretKey:
    """The server's secret key. Any thread may use it."""

    __slots__ = ("_scalar", "public")

    def __init__(self, scalar: bytes) -> None:
        """Take a key, 32 bytes.

        Raises:
            DecodeError: not a scalar below the order, or zero.
            LibsodiumMissingError: libsodium is not here.
        """
        self._scalar: Final = ristretto.require_scalar(scalar)
        self.public: Final = PublicKey(ristretto.multiply_base(scalar))

    def __repr__(self) -> str:
        return "SecretKey(...)"

    @classmethod
    def generate(cls) -> "SecretKey":
        """A fresh key."""
        return cls(ristretto.random_scalar())

    @classmethod
    def derive(cls, seed: bytes, info: bytes) -> "SecretKey":
        """The key that `seed`, 32 bytes, and `info` stand for (DeriveKeyPair, section 3.2.1).

        Raises:
            CryptoError: none, which has a probability below 2^-252.
        """
        data = seed + _prefixed(info)
        for counter in range(_ATTEMPTS):
            scalar = _hash_to_scalar(data + bytes([counter]), _DERIVE)
            if any(scalar):
                return cls(scalar)
        raise CryptoError("no key can be derived")

    def secret_bytes(self) -> bytes:
        """The key, 32 bytes, to be kept."""
        return self._scalar

    def evaluate_batch(
        self, blinded: Sequence[bytes], *, nonce: bytes | None = None
    ) -> tuple[tuple[bytes, ...], bytes]:
        """Each element times the key, and one proof of 64 bytes for all of them (BlindEvaluate, section 3.3.2).

        `nonce`, a scalar, is for test vectors: used twice it gives the key away.

        Raises:
            CryptoError: one of them is no element.
            UsageError: none, or more than `MAX_BATCH`.
        """
        evaluated = tuple(ristretto.multiply(self._scalar, element) for element in blinded)
        _check_batch(blinded, evaluated)
        return evaluated, self._prove(blinded, evaluated, nonce or ristretto.random_scalar())

    def _prove(self, blinded: Sequence[bytes], evaluated: Sequence[bytes], nonce: bytes) -> bytes:
        """GenerateProof, section 2.2.1, with the fast composites of who has the key."""
        first = _weighted_sum(_weights(self.public.element, blinded, evaluated), blinded)
        second = ristretto.multiply(self._scalar, first)
        commitments = ristretto.multiply_base(nonce), ristretto.multiply(nonce, first)
        challenge = _challenge(self.public.element, first, second, *commitments)
        return challenge + ristretto.multiply_subtract(nonce, challenge, self._scalar)

    def evaluate(self, data: bytes) -> bytes:
        """The output for `data`, 64 bytes (Evaluate, section 3.3.1).

        Raises:
            UsageError: `data` is too long.
        """
        return _output(data, ristretto.multiply(self._scalar, _hash_to_group(data)))


def blind(data: bytes, *, factor: bytes | None = None) -> tuple[bytes, bytes]:
    """The blinded element for `data` and the blind, a secret scalar (Blind, section 3.3.1); 32 bytes each.

    `factor` is the blind of a test vector.

    Raises:
        UsageError: `data` is too long.
        CryptoError: it stands for the identity, which has a probability below 2^-252.
    """
    factor = factor or ristretto.random_scalar()
    return ristretto.multiply(factor, _hash_to_group(data)), factor


def finalize(data: bytes, factor: bytes, evaluated: bytes) -> bytes:
    """The output for `data`, 64 bytes. Verify the proof first: this function cannot (Finalize, section 3.3.2).

    Raises:
        CryptoError: `evaluated` is no element.
    """
    return _output(data, ristretto.multiply(ristretto.invert_scalar(factor), evaluated))


def _check_batch(blinded: Sequence[bytes], evaluated: Sequence[bytes]) -> None:
    if not 1 <= len(blinded) <= MAX_BATCH or len(blinded) != len(evaluated):
        raise UsageError("a batch has 1 to 256 elements, and as many answers")


def _weights(public: bytes, blinded: Sequence[bytes], evaluated: Sequence[bytes]) -> list[bytes]:
    """The weight of each pair in the composites (ComputeComposites, section 2.2.1). Public."""
    seed = hashlib.sha512(_prefixed(public) + _prefixed(_SEED)).digest()
    return [
        _hash_to_scalar(
            _prefixed(seed) + index.to_bytes(2, "big") + _prefixed(one) + _prefixed(other) + b"Composite"
        )
        for index, (one, other) in enumerate(zip(blinded, evaluated, strict=True))
    ]


def _weighted_sum(weights: Iterable[bytes], elements: Iterable[bytes]) -> bytes:
    products = (
        ristretto.multiply(weight, element) for weight, element in zip(weights, elements, strict=True)
    )
    total = next(products)
    for product in products:
        total = ristretto.add(total, product)
    return total


def _challenge(*elements: bytes) -> bytes:
    """Of public key, both composites and both commitments (section 2.2.1)."""
    return _hash_to_scalar(b"".join(map(_prefixed, elements)) + b"Challenge")


def _output(data: bytes, element: bytes) -> bytes:
    return hashlib.sha512(_prefixed(data) + _prefixed(element) + b"Finalize").digest()


def _hash_to_group(data: bytes) -> bytes:
    return ristretto.from_uniform(_expand(data, _TO_GROUP))


def _hash_to_scalar(data: bytes, tag: bytes = _TO_SCALAR) -> bytes:
    return ristretto.reduce_scalar(_expand(data, tag))


def _expand(data: bytes, tag: bytes) -> bytes:
    """64 bytes by expand_message_xmd with SHA-512 (RFC 9380 section 5.3.1); one block is all that it takes."""
    suffix = tag + bytes([len(tag)])
    head = bytes(_SHA512_BLOCK) + data + ristretto.UNIFORM_LENGTH.to_bytes(2, "big") + b"\0" + suffix
    return hashlib.sha512(hashlib.sha512(head).digest() + b"\x01" + suffix).digest()


def _prefixed(data: bytes) -> bytes:
    if len(data) >= _INPUT_LIMIT:
        raise UsageError("input longer than 65,535 bytes")
    return len(data).to_bytes(2, "big") + data
