"""A kept directory may be out of date: one extra fetch and one more try, and only while nothing of the content was sent (ADR 12)."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sottovoce.attest.verdict import Check, Rule, Status, Verdict, VerificationRefused
from sottovoce.core.errors import ProtocolError, SottovoceError
from sottovoce.device.client import Client, _told
from sottovoce.device.ohttp_client import CandidatesRefusedError, RemoteTokenError, SessionGoneError
from sottovoce.device.transport import GatewayKeyError

KEY = GatewayKeyError("the gateway has another key")


class Device(Client):
    """Opens and answers as it is told; `fetches` are the calls of the directory's source, `opened` the attempts."""

    def __init__(
        self, home: Path, *, kept: bool, opening: list[SottovoceError | None], answer: SottovoceError | None
    ) -> None:
        super().__init__(home)
        self.kept, self.opening, self.answer = kept, opening, answer
        self.fetches: list[bool] = []
        self.opened = 0

    async def get(self, _: int, *, fresh: bool = False) -> tuple[Any, bool]:
        self.fetches.append(fresh)
        return SimpleNamespace(directory=SimpleNamespace(epoch=1), index=0), fresh or not self.kept

    def _directory(self, environment: Any) -> Any:
        return self

    async def _open(self, *_: Any) -> Any:
        self.opened += 1
        error = self.opening.pop(0)
        if error is not None:
            raise error
        yield "opened"

    async def _answer(self, *_: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        yield "sent"
        if self.answer is not None:
            raise self.answer


def play(device: Device) -> SottovoceError | None:
    """What comes of one request."""

    async def run() -> None:
        async for _ in device._attempts(SimpleNamespace(), SimpleNamespace(), _told):  # type: ignore[arg-type]
            pass

    try:
        asyncio.run(run())
    except SottovoceError as error:
        return error
    return None


@pytest.mark.parametrize("error", [KEY, CandidatesRefusedError("none is served")])
def test_one_extra_fetch_mends_it(tmp_path: Path, error: SottovoceError) -> None:
    device = Device(tmp_path, kept=True, opening=[error, None], answer=None)
    assert play(device) is None
    assert (device.fetches, device.opened) == ([False, True], 2)


def refused(*checks: str) -> VerificationRefused:
    rule = Rule("6.9", "it holds", "a source", "gain")
    lines = [Check(id=check, rule=rule, status=Status.FAIL, found="no", wanted="yes") for check in checks]
    return VerificationRefused(Verdict(checks=tuple(lines)))


@pytest.mark.parametrize("check", ["host", "release-log-seen", "host-log-seen", "log-fork"])
def test_what_an_old_directory_may_fail_is_tried_once_more(tmp_path: Path, check: str) -> None:
    device = Device(tmp_path, kept=True, opening=[refused(check), None], answer=None)
    assert play(device) is None
    assert (device.fetches, device.opened) == ([False, True], 2)
    error = refused(check)
    device = Device(tmp_path, kept=True, opening=[error, error, None], answer=None)
    assert play(device) is error


@pytest.mark.parametrize("checks", [("binding",), ("log-fork", "measurement"), ("release-log",)])
def test_what_no_directory_mends_is_refused_at_once(tmp_path: Path, checks: tuple[str, ...]) -> None:
    error = refused(*checks)
    device = Device(tmp_path, kept=True, opening=[error, None], answer=None)
    assert play(device) is error
    assert (device.fetches, device.opened) == ([False], 1)


def test_there_is_no_second_extra_fetch(tmp_path: Path) -> None:
    device = Device(tmp_path, kept=True, opening=[KEY, KEY, None], answer=None)
    assert play(device) is KEY
    assert (device.fetches, device.opened) == ([False, True], 2)


def test_a_directory_that_was_fetched_just_now_is_not_fetched_again(tmp_path: Path) -> None:
    device = Device(tmp_path, kept=False, opening=[KEY, None], answer=None)
    assert play(device) is KEY
    assert (device.fetches, device.opened) == ([False], 1)


@pytest.mark.parametrize(
    "error", [RemoteTokenError("refused"), SessionGoneError("over"), ProtocolError("the gateway refuses")]
)
def test_another_failure_is_not_mended_so(tmp_path: Path, error: SottovoceError) -> None:
    device = Device(tmp_path, kept=True, opening=[error, None], answer=None)
    assert play(device) is error
    assert (device.fetches, device.opened) == ([False], 1)


def test_once_content_was_sent_nothing_is_tried_again(tmp_path: Path) -> None:
    device = Device(tmp_path, kept=True, opening=[None, None], answer=KEY)
    assert play(device) is KEY
    assert (device.fetches, device.opened) == ([False], 1)
