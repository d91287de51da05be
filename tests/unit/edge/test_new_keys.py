"""Issuer and gateway take new keys while they run: nothing that is under way is dropped, and a wrong file changes nothing."""

import asyncio
import base64
import json
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asgi
import edge_kit
import token_kit
from directory_kit import TODAY, issuer_keys
from ohttp_world import gateway_config
from sottovoce.core import bhttp, ohttp, ohttp_chunked
from sottovoce.core.bhttp_requests import RequestEncoder
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.httpdate import format_http_date
from sottovoce.core.ohttp import KeyConfig, decode_key_configs, select_config
from sottovoce.core.tokens import EPOCH_SECONDS, TokenRequest, authorization_value, begin
from sottovoce.edge import gateway, issuer, keyfolder, router
from sottovoce.edge.gatewaykeys import OHTTP_KEPT, lay_token_keys, make_gateway_keys
from sottovoce.edge.issuerkeys import make_issuer_keys
from sottovoce.edge.rsa import load_token_key

BEGINS = (TODAY + 1) * EPOCH_SECONDS
PLAIN = {"content-type": "message/ohttp-req"}


class Gateway:
    """A gateway with a key folder, and a clock."""

    known: dict[int, KeyConfig]

    def __init__(self, folder: Path, *, router_url: str = "http://127.0.0.1:1") -> None:
        self.keys = folder / "keys"
        self.keys.mkdir()
        self.known = {}
        self.day(TODAY)
        self.now = float(BEGINS - 600)
        self.lines: list[str] = []
        config = gateway_config(
            folder,
            keys=str(self.keys),
            ohttp_keys=[],
            token_keys=[],
            router=router_url,
        )
        self.app: Any = gateway.create_app(config, log=EventLog(self.lines.append), clock=lambda: self.now)

    def day(self, epoch: int) -> None:
        """Lay the keys of a day into the folder."""
        public = make_gateway_keys(self.keys, epoch)
        self.known[epoch] = select_config(decode_key_configs(base64.b64decode(public.ohttp_key_configs)))
        lay_token_keys(self.keys, issuer_keys(epoch))

    def key(self, epoch: int) -> KeyConfig:
        """What a device has from the day's directory."""
        return self.known[epoch]

    def sealed(self, epoch: int, token: bytes | None = None) -> tuple[bytes, ohttp.ResponseOpener]:
        headers = [(b"date", format_http_date(int(self.now))), (b"candidates", b"host-1")]
        if token is not None:
            headers.append((b"authorization", token))
        request = bhttp.Request(
            method=b"POST", scheme=b"https", authority=b"gateway", path=b"/v1/sessions",
            headers=tuple(headers), content=b"flight",
        )  # fmt: skip
        return ohttp.seal_request(self.key(epoch), bhttp.encode_request(request))

    async def ask(self, epoch: int, token: bytes | None = None) -> tuple[int, str]:
        """The inner status and code; of a request that cannot be opened, the outer status."""
        data, opener = self.sealed(epoch, token)
        answer = await asgi.fetch(self.app, "POST", "/ohttp", headers=PLAIN, body=data)
        if answer.status != 200:
            return answer.status, json.loads(answer.body)["code"]
        inner = bhttp.decode_response(opener.open(answer.body))
        return inner.status, json.loads(inner.content)["code"]

    def events(self) -> list[dict[str, Any]]:
        return [one for one in map(json.loads, self.lines) if one["event"] == "KeysRead"]


def play(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(30):
            await work()

    asyncio.run(limited())


MISSING = (401, "token.missing")
"""The request was opened."""
UNKNOWN = (400, "peer.protocol.ohttp-key")


def test_a_new_days_keys_are_taken_and_the_old_ones_as_long_as_they_are_needed(tmp_path: Path) -> None:
    here = Gateway(tmp_path)

    async def work() -> None:
        here.day(TODAY + 1)
        assert await here.ask(TODAY) == MISSING
        assert await here.ask(TODAY + 1) == UNKNOWN
        here.app.reload()
        for now in (BEGINS - 1, BEGINS, BEGINS + 3600, BEGINS + OHTTP_KEPT - 1):
            here.now = now
            assert await here.ask(TODAY) == MISSING
            assert await here.ask(TODAY + 1) == MISSING
        # By the clock alone, without another look.
        here.now = BEGINS + OHTTP_KEPT
        assert await here.ask(TODAY) == UNKNOWN
        assert await here.ask(TODAY + 1) == MISSING

    play(work)
    assert here.events() == [
        {"event": "KeysRead", "refused": False, "fault": "none", "ohttp": 4, "tokens": 2, "batch": 0}
    ]


def test_tokens_of_the_new_day_are_taken_from_the_look_on(tmp_path: Path) -> None:
    here = Gateway(tmp_path)
    here.now = float(BEGINS)

    async def work() -> None:
        def token() -> bytes:
            return authorization_value(token_kit.token(TODAY + 1))

        assert await here.ask(TODAY, token()) == (401, "token.binding")
        here.day(TODAY + 1)
        here.app.reload()
        # It is spent, and passed on: there is no router.
        assert await here.ask(TODAY, token()) == (502, "unavailable")

    play(work)


def test_an_unchanged_folder_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = Gateway(tmp_path)
    monkeypatch.setattr(gateway, "load_keys", lambda *_: pytest.fail("it was read"))
    here.app.reload()
    assert here.events() == []


def test_a_link_that_leads_nowhere_does_not_hide_new_keys(tmp_path: Path) -> None:
    here = Gateway(tmp_path)
    (here.keys / ".#draft").symlink_to("nowhere")

    async def work() -> None:
        here.app.reload()
        here.day(TODAY + 1)
        here.app.reload()
        assert await here.ask(TODAY + 1) == MISSING

    play(work)


def test_a_wrong_file_changes_nothing_and_is_told(tmp_path: Path) -> None:
    here = Gateway(tmp_path)
    wrong = here.keys / f"token-{TODAY + 1}.spki"

    async def work() -> None:
        wrong.write_bytes(b"half a k")
        here.day(TODAY + 2)
        here.app.reload()
        assert await here.ask(TODAY) == MISSING
        assert await here.ask(TODAY + 2) == UNKNOWN
        wrong.unlink()
        here.app.reload()
        assert await here.ask(TODAY) == MISSING
        assert await here.ask(TODAY + 2) == MISSING

    play(work)
    assert [(one["refused"], one["fault"]) for one in here.events()] == [(True, "file"), (False, "none")]
    assert "half" not in "".join(here.lines)


@pytest.mark.parametrize(
    ("failure", "fault"),
    [(OSError("a disk"), "file"), (ValueError("half a k"), "unexpected"), (RecursionError(), "unexpected")],
)
def test_nothing_that_a_file_can_do_ends_the_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception, fault: str
) -> None:
    here = Gateway(tmp_path)
    (tmp_path / "issuer" / "keys").mkdir(parents=True)
    make_issuer_keys(tmp_path / "issuer" / "keys", TODAY, type_5=False)
    office = issuing(tmp_path / "issuer")
    looks: list[int] = []

    def fail(*_: object) -> None:
        looks.append(1)
        raise failure

    async def work() -> None:
        running = [asyncio.ensure_future(keyfolder.keep_looking(app.reload)) for app in (here.app, office)]
        with monkeypatch.context() as broken:
            broken.setattr(gateway, "load_keys", fail)
            broken.setattr(issuer, "_Keys", fail)
            here.day(TODAY + 1)
            make_issuer_keys(tmp_path / "issuer" / "keys", TODAY + 1, type_5=False)
            while len(looks) < 6:  # noqa: ASYNC110 - a loop of its own looks
                await asyncio.sleep(0.01)
            assert await here.ask(TODAY) == MISSING
        while await here.ask(TODAY + 1) != MISSING:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        while await asked(office, tmp_path / "issuer", TODAY + 1) != 200:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        for one in running:
            assert not one.done()
            one.cancel()

    monkeypatch.setattr(keyfolder, "LOOK", 0.01)
    play(work)
    assert here.events()[0]["fault"] == fault
    assert here.events()[-1]["fault"] == "none"
    assert "half" not in "".join(here.lines)


def test_a_log_that_cannot_be_written_does_not_end_the_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Gateway(tmp_path)
    tries: list[int] = []

    def full(_: str) -> None:
        tries.append(1)
        raise OSError(28, "no space left")

    async def work() -> None:
        running = asyncio.ensure_future(keyfolder.keep_looking(here.app.reload))
        (here.keys / f"token-{TODAY + 1}.spki").write_bytes(b"half a k")
        with monkeypatch.context() as broken:
            broken.setattr(here.app._log, "_write", full)
            while len(tries) < 3:  # noqa: ASYNC110 - a loop of its own looks
                await asyncio.sleep(0.01)
        (here.keys / f"token-{TODAY + 1}.spki").unlink()
        here.day(TODAY + 1)
        while await here.ask(TODAY + 1) != MISSING:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.01)
        running.cancel()

    monkeypatch.setattr(keyfolder, "LOOK", 0.01)
    play(work)


def test_a_streamed_request_ends_with_the_key_that_it_began_with(tmp_path: Path) -> None:
    async def work() -> None:
        async with edge_kit.cvm() as cvm:
            app = router.create_app(
                router.Config(hosts=[router.HostAddress(id="host-1", address=cvm.address)]),
                log=EventLog(lambda _: None),
            )
            async with edge_kit.serving(app) as url:
                here = Gateway(tmp_path, router_url=url)
                async with edge_kit.serving(here.app) as served, edge_kit.raw(served) as client:
                    await straddle(here, served, client)

    play(work)


async def straddle(here: Gateway, served: str, client: edge_kit.Raw) -> None:
    """Open a session, begin to send in it, change the keys and let the old ones expire, send the rest."""
    sealed, opener = here.sealed(TODAY, authorization_value(token_kit.token(TODAY)))
    async with edge_kit.raw(served) as first:
        await first.start("POST", "/ohttp", content_type="message/ohttp-req")
        await first.send(sealed)
        await first.send(b"")
        assert await first.head() == 200
        opened = bhttp.decode_response(opener.open(await first.rest()))
    session = bhttp.header(opened.headers, b"session")
    assert session is not None
    request = bhttp.Request(
        method=b"POST", scheme=b"https", authority=b"gateway", path=b"/v1/sessions/" + session,
        headers=((b"date", format_http_date(int(here.now))),), content=b"",
    )  # fmt: skip
    sealer = ohttp_chunked.RequestSealer(here.key(TODAY))
    answers = sealer.opener()
    await client.start("POST", "/ohttp", content_type="message/ohttp-chunked-req")
    await client.send(
        sealer.header() + sealer.chunk(RequestEncoder.head(request) + RequestEncoder.data(b"one"))
    )
    assert await client.head() == 200
    here.day(TODAY + 1)
    for path in here.keys.glob(f"ohttp-{TODAY}-*"):
        path.unlink()
    here.app.reload()
    here.now = BEGINS + OHTTP_KEPT + 60
    await client.send(sealer.final(RequestEncoder.data(b"two") + RequestEncoder.end()))
    await client.send(b"")
    decoder = bhttp.ResponseDecoder(content_limit=1024)
    data = await client.rest()
    events = [event for chunk in answers.feed(data) for event in decoder.feed(chunk)]
    events += [*decoder.feed(answers.finish()), *decoder.finish()]
    assert b"".join(one.data for one in events if isinstance(one, bhttp.Content)) == b"<one><two>"


def test_keys_one_by_one_and_a_folder_at_once_are_refused(tmp_path: Path) -> None:
    config = gateway_config(tmp_path, keys=str(tmp_path))
    with pytest.raises(ConfigError, match="one by one, or by their folder"):
        gateway.create_app(config, log=EventLog(lambda _: None))


def test_undated_requests_of_a_key_that_is_gone_make_room(tmp_path: Path) -> None:
    from sottovoce.edge.replays import ReplayError, Replays, RequestDateError  # noqa: PLC0415

    old, new = b"\x00\x00\x20", b"\x02\x00\x20"

    async def work() -> None:
        replays = Replays(tmp_path / "replays", [old], undated=2)
        await replays.accept(old, b"one", None, BEGINS)
        await replays.accept(old, b"two", None, BEGINS)
        with pytest.raises(RequestDateError):
            await replays.accept(old, b"three", None, BEGINS)
        replays.use([old, new])
        with pytest.raises(RequestDateError):
            await replays.accept(new, b"three", None, BEGINS)
        replays.use([new])
        await replays.accept(new, b"three", None, BEGINS)
        with pytest.raises(ReplayError):
            await replays.accept(new, b"three", None, BEGINS)
        replays.close()

    play(work)


# The issuer.


def issuing(folder: Path, **changes: Any) -> Any:
    config = issuer.Config(database=str(folder / "accounts"), folder=str(folder / "keys"), quota=100)
    return issuer.create_app(
        msgspec.structs.replace(config, **changes), log=EventLog(lambda _: None), clock=lambda: BEGINS - 600
    )


async def asked(app: Any, folder: Path, epoch: int) -> int:
    """The status of a request for a token of `epoch`."""
    signer = load_token_key(folder / "keys" / f"token-{epoch}.pem")[1]
    request, _ = begin(signer, token_kit.CHALLENGE)
    assert TokenRequest.decode(request)
    key = issuer.enrol(str(folder / "accounts"), f"account-{secrets.token_hex(8)}")
    headers = {"authorization": f"Bearer {key}", "content-type": "application/private-token-request"}
    return (await asgi.fetch(app, "POST", "/token-request", headers=headers, body=request)).status


def test_the_issuer_signs_with_a_key_that_came_while_it_runs(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    make_issuer_keys(tmp_path / "keys", TODAY, type_5=False)
    app = issuing(tmp_path)

    async def work() -> None:
        make_issuer_keys(tmp_path / "keys", TODAY + 1, type_5=False)
        assert (await asked(app, tmp_path, TODAY), await asked(app, tmp_path, TODAY + 1)) == (200, 422)
        app.reload()
        assert (await asked(app, tmp_path, TODAY), await asked(app, tmp_path, TODAY + 1)) == (200, 200)
        (tmp_path / "keys" / f"token-{TODAY + 2}.pem").write_bytes(b"half a k")
        app.reload()
        assert (await asked(app, tmp_path, TODAY), await asked(app, tmp_path, TODAY + 1)) == (200, 200)

    play(work)


def test_an_issuer_with_an_empty_folder_or_two_ways_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    with pytest.raises(ConfigError, match="no token key"):
        issuing(tmp_path)
    make_issuer_keys(tmp_path / "keys", TODAY, type_5=False)
    with pytest.raises(ConfigError, match="one by one, or by their folder"):
        issuing(tmp_path, keys=[issuer.KeyFile(epoch=TODAY, path="x")])
