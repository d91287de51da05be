"""The issuer gives one device tokens that it will know again, or none at all (row 2).

It stands where the device's issuer stands, passes requests on to the genuine one, and changes what comes back. With another key, or a
mark on the genuine answer, a token would say at the gateway to whom it was issued. Type 5 is tried where libsodium is.
"""

import asyncio
import base64
import http.client
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric import rsa

from sottovoce.attacks.attack import Attack, Outcome, Result
from sottovoce.attacks.mirrors import Silent, listening
from sottovoce.core import ristretto
from sottovoce.core.errors import SottovoceError, UnavailableError
from sottovoce.core.genericbatch import GenericBatchRequest, GenericBatchResponse
from sottovoce.core.privatetokens import BatchRequest, BatchResponse, PrivateTokenKey, issue_batch
from sottovoce.core.tokens import PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey, TokenRequest
from sottovoce.device.client import Client
from sottovoce.device.wallet import Wallet
from sottovoce.edge.rsa import BlindSigner

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["ATTACK", "TRIES", "FalseAnswer", "Forger"]

_REFUSED: Final = frozenset({"token.signature"})
_PARTIAL: Final = frozenset({"peer.decode"})
_DIRECTORY: Final = "/.well-known/private-token-issuer-directory"
_TIMEOUT: Final = 20.0
_OK: Final = 200
_LENGTH: Final = 256


@dataclass(kw_only=True)
class Forger:
    """What a false issuer has: the genuine public keys by truncated id, keys of its own, and a number to mark signatures with."""

    genuine: Mapping[int, TokenKey]
    mark: int = field(default_factory=lambda: 2 + secrets.randbelow(1 << 128))

    @cached_property
    def signer(self) -> BlindSigner:
        """Its own key of type 2."""
        return BlindSigner(rsa.generate_private_key(65537, 2048))

    @cached_property
    def secret(self) -> PrivateTokenKey:
        """Its own key of type 5."""
        return PrivateTokenKey.generate()

    def another_rsa_key(self, request: bytes, _: bytes) -> bytes:
        """A signature of its own key."""
        blinded = int.from_bytes(TokenRequest.decode(request).blinded, "big") % self.signer.public.modulus
        return self.signer.blind_sign(blinded.to_bytes(_LENGTH, "big"))

    def marked(self, request: bytes, answer: bytes) -> bytes:
        """The genuine signature times the mark: once unblinded, it is the token's signature times the mark."""
        modulus = self.genuine[TokenRequest.decode(request).truncated_key_id].rsa.modulus
        return (int.from_bytes(answer, "big") * self.mark % modulus).to_bytes(_LENGTH, "big")

    def noise(self, _: bytes, answer: bytes) -> bytes:
        """Random bytes in the form of an answer of type 2."""
        return b"\0" + secrets.token_bytes(len(answer) - 1)

    def none_for_one(self, _: bytes, answer: bytes) -> bytes:
        """The genuine answers, but for the first request's: so many tokens as no other device has."""
        genuine = GenericBatchResponse.decode(answer)
        return GenericBatchResponse(responses=(None, *genuine.responses[1:])).encode()

    def public_order(self, _: bytes, answer: bytes) -> bytes:
        """The genuine answers of type 2 from last to first."""
        genuine = GenericBatchResponse.decode(answer)
        return GenericBatchResponse(responses=genuine.responses[::-1]).encode()

    def another_key(self, request: bytes, _: bytes) -> bytes:
        """A batch of its own key, with a proof that is good for that key."""
        return issue_batch(self.secret, BatchRequest.decode(request))

    def another_key_for_one(self, request: bytes, answer: bytes) -> bytes:
        """The genuine batch and its proof, but for the first element."""
        own, genuine = BatchResponse.decode(self.another_key(request, answer)), BatchResponse.decode(answer)
        evaluated = (own.evaluated[0], *genuine.evaluated[1:])
        return BatchResponse(evaluated=evaluated, proof=genuine.proof).encode()

    def another_proof(self, request: bytes, answer: bytes) -> bytes:
        """The genuine elements with the proof of its own key."""
        own, genuine = BatchResponse.decode(self.another_key(request, answer)), BatchResponse.decode(answer)
        return BatchResponse(evaluated=genuine.evaluated, proof=own.proof).encode()

    def another_order(self, _: bytes, answer: bytes) -> bytes:
        """The genuine elements and proof, the elements from last to first."""
        genuine = BatchResponse.decode(answer)
        return BatchResponse(evaluated=genuine.evaluated[::-1], proof=genuine.proof).encode()

    def batch_noise(self, _: bytes, answer: bytes) -> bytes:
        """Random elements and a random proof."""
        count = len(BatchResponse.decode(answer).evaluated)
        elements = tuple(ristretto.multiply_base(ristretto.random_scalar()) for _ in range(count))
        proof = ristretto.random_scalar() + ristretto.random_scalar()
        return BatchResponse(evaluated=elements, proof=proof).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class FalseAnswer:
    """What is made of a request's body and the genuine answer to it, and what that is to be refused for."""

    token_type: int
    tries: str
    change: Callable[[Forger, bytes, bytes], bytes]
    wanted: frozenset[str] = _REFUSED


_Change = Callable[[Forger, bytes, bytes], bytes]


def _each(change: _Change, *, only_first: bool = False) -> _Change:
    """The change made to each signature of a batch of type 2, or to the first one."""

    def changed(forger: Forger, body: bytes, answer: bytes) -> bytes:
        asked, told = GenericBatchRequest.decode(body).requests, GenericBatchResponse.decode(answer).responses
        responses = [
            (token_type, signed if only_first and number else change(forger, request, signed))
            for number, (request, (token_type, signed)) in enumerate(
                zip(asked, filter(None, told), strict=True)
            )
        ]
        return GenericBatchResponse(responses=tuple(responses)).encode()

    return changed


TRIES: Final = tuple(
    FalseAnswer(token_type=token_type, tries=f"type {token_type}: {tries}", change=change, wanted=wanted)
    for token_type, tries, change, wanted in (
        (TOKEN_TYPE, "another key", _each(Forger.another_rsa_key), _REFUSED),
        (
            TOKEN_TYPE,
            "another key for one token of a batch",
            _each(Forger.another_rsa_key, only_first=True),
            _REFUSED,
        ),
        (TOKEN_TYPE, "the genuine signatures with a mark", _each(Forger.marked), _REFUSED),
        (TOKEN_TYPE, "the genuine signatures in another order", Forger.public_order, _REFUSED),
        (TOKEN_TYPE, "noise", _each(Forger.noise), _REFUSED),
        (TOKEN_TYPE, "no answer for one token of a batch", Forger.none_for_one, _PARTIAL),
        (PRIVATE_TOKEN_TYPE, "another key, with its proof", Forger.another_key, _REFUSED),
        (
            PRIVATE_TOKEN_TYPE,
            "another key for one token, under the genuine proof",
            Forger.another_key_for_one,
            _REFUSED,
        ),
        (PRIVATE_TOKEN_TYPE, "the genuine answers, with another key's proof", Forger.another_proof, _REFUSED),
        (PRIVATE_TOKEN_TYPE, "the genuine answers in another order", Forger.another_order, _REFUSED),
        (PRIVATE_TOKEN_TYPE, "noise", Forger.batch_noise, _REFUSED),
    )
)


def _ask(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _public_keys(port: int) -> dict[int, TokenKey]:
    """The genuine issuer's keys of type 2, as everybody can fetch them."""
    _, body = _ask(port, "GET", _DIRECTORY)
    encoded = [key["token-key"] for key in json.loads(body)["token-keys"] if key["token-type"] == TOKEN_TYPE]
    keys = [TokenKey.parse(base64.urlsafe_b64decode(text)) for text in encoded]
    return {key.truncated_id: key for key in keys}


@contextmanager
def _standing_in(port: int, change: Callable[[bytes, bytes], bytes]) -> Iterator[str]:
    """An issuer that has the one at `port` answer, and changes its answers; gives its URL."""

    class Handler(Silent):
        def do_POST(self) -> None:  # noqa: N802 - http.server's name
            body = self.rfile.read(int(self.headers["Content-Length"]))
            names = ("Authorization", "Content-Type")
            status, answer = _ask(port, "POST", self.path, body, {name: self.headers[name] for name in names})
            content = change(body, answer) if status == _OK else answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with listening(Handler) as url:
        yield url


def _stock(lab: "Lab") -> int:
    with closing(Wallet(lab.home / "wallet.sqlite")) as wallet:
        return wallet.count(int(time.time()))


async def _refill(lab: "Lab") -> str:
    async with Client(lab.home) as client:
        try:
            await client.refill_wallet(only_if_due=False)
        except SottovoceError as error:
            return error.code
    return ""


def _refilled(lab: "Lab", token_type: int, change: Callable[[bytes, bytes], bytes]) -> tuple[str, int]:
    """The genuine client refills its wallet at a false issuer: what it refuses for, and how many tokens it has kept."""
    environment, before = lab.world.environment(), _stock(lab)
    try:
        with _standing_in(lab.world.port("issuer"), change) as url:
            msgspec.structs.replace(environment, issuer=url, token_type=token_type).install(lab.home)
            code = asyncio.run(_refill(lab))
    finally:
        environment.install(lab.home)
    return code, _stock(lab) - before


def _live(lab: "Lab") -> Iterator[Result]:
    forger = Forger(genuine=_public_keys(lab.world.port("issuer")))
    types = [TOKEN_TYPE, PRIVATE_TOKEN_TYPE] if ristretto.is_available() else [TOKEN_TYPE]
    for token_type in types:
        # So that what is refused below is refused for what was changed.
        code, kept = _refilled(lab, token_type, lambda _, answer: answer)
        if code or not kept:
            raise UnavailableError("a device does not take genuine answers", party="issuer")
        for one in TRIES:
            if one.token_type != token_type:
                continue
            code, kept = _refilled(lab, token_type, partial(one.change, forger))
            stopped_by = frozenset() if kept else frozenset({code})
            yield Result(tries=one.tries, wanted=one.wanted, outcome=Outcome(stopped_by=stopped_by))


ATTACK: Final = Attack(
    name="false-issuer",
    row="2",
    who="the issuer, which knows the account and would know its tokens again at the gateway",
    tries="tokens signed with another key, marked, or noise, for one device: all of a batch, or one of them; or one token fewer",
    stopped_by=("peer.decode", "token.signature"),
    live=_live,
)
