"""What an orchestrator's application asks its back ends: the predictor for text, the guard for a verdict on it."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import msgspec

from sottovoce.core.errors import LimitError, UnavailableError
from sottovoce.tee.roles import Session, Told

__all__ = ["NO_MODEL", "Backends", "Ended", "Verdict"]

_T = TypeVar("_T")
_OK, _NO_CONTENT, _TOO_LARGE = 200, 204, 413
_LINE: Final = 16 * 1024
_ENCODER: Final = msgspec.json.Encoder()
NO_MODEL: Final = "none"
"""The model's name in an answer that none took part in."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The guard's verdict on a part of an answer: `text` is what may leave of it."""

    verdict: Literal["pass", "drop"]
    reason: str = ""
    text: str = ""
    messages: tuple[str, ...] = ()
    closed: bool = False


class _Said(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the predictor's answer."""

    text: str = ""
    waiting: int = 0
    end: str = ""
    model: str = ""
    error: str = ""
    asked: int = 0
    said: int = 0


class _Models(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How the predictor's last answer ended, "stop" or "length", and how many tokens question and answer had."""

    reason: str
    asked: int
    said: int


async def _nobody(_place: int) -> None:
    pass


class Backends:
    """The two connections of this session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.told: Told = _nobody
        """Hears at which place a question waits for its turn."""
        self.model = NO_MODEL
        self.ended = Ended(reason="stop", asked=0, said=0)

    async def show_guard(self, sources: Mapping[str, Any]) -> None:
        """Show the guard what the device has sent.

        Raises:
            UnavailableError: the guard refuses.
        """
        await self._call("guard", "POST", "/v1/sources", _ENCODER.encode(sources), wanted=_NO_CONTENT)

    async def judge(self, part: Mapping[str, Any]) -> Verdict:
        """The guard's verdict on `part`; nothing leaves without one.

        Raises:
            UnavailableError: there is none.
        """
        body = await self._call("guard", "POST", "/v1/judgements", _ENCODER.encode(part))
        return _trusted(body, Verdict, "guard")

    async def ask(self, question: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        """The predictor's answer, piece by piece; then `ended` tells how it ended.

        Raises:
            LimitError: the question is longer than the model takes.
            UnavailableError: the predictor refuses it, or fails on the way.
        """
        async with self._session.backend("predictor").request(
            "POST", "/v1/infer", _ENCODER.encode(question)
        ) as response:
            if response.status != _OK:
                await response.read()
                if response.status == _TOO_LARGE:
                    raise LimitError("the text is longer than the model takes")
                raise UnavailableError("the predictor refuses the question", party="predictor")
            async for said in _lines(response.body):
                if said.error:
                    raise UnavailableError("the predictor failed", party="predictor")
                self.model = said.model or self.model
                if said.waiting:
                    await self.told(said.waiting)
                if said.end:
                    self.ended = Ended(reason=said.end, asked=said.asked, said=said.said)
                if said.text:
                    yield said.text

    async def models(self) -> tuple[str, ...]:
        """The names of the predictor's models.

        Raises:
            UnavailableError: it does not say.
        """
        return _trusted(await self._call("predictor", "GET", "/v1/models"), _Models, "predictor").models

    async def _call(
        self, party: str, method: str, target: str, body: bytes = b"", *, wanted: int = _OK
    ) -> bytes:
        async with self._session.backend(party).request(method, target, body) as response:
            answer = await response.read()
        if response.status != wanted:
            raise UnavailableError(f"the {party} refuses what it is asked", party=party)
        return answer


def _trusted(data: bytes, kind: type[_T], party: str) -> _T:
    # A back end is attested, so what it says is well-formed or it is broken.
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise UnavailableError("a back end broke the protocol", party=party) from None


async def _lines(body: AsyncIterator[bytes]) -> AsyncIterator[_Said]:
    rest = b""
    async for data in body:
        *lines, rest = (rest + data).split(b"\n")
        if len(rest) > _LINE:
            break
        for line in lines:
            yield (said := _trusted(line, _Said, "predictor"))
            if said.end:
                return
    raise UnavailableError("the predictor stopped in the middle", party="predictor")
