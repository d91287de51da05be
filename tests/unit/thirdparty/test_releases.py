"""How a release gets into the log: with the signatures of two people, and in no other way."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

import asgi
import edge_kit
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.thirdparty.log import Config, create_app
from sottovoce.tlog import tiles
from sottovoce.tlog.note import Note, SigningKey, sign_note
from sottovoce.tlog.publication import combine, sign_release

SECRET = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {SECRET}"}
WORLD = EvidenceWorld()
RELEASE = WORLD.releases["guard"].encode()
ANNA, BEN, CARL = (SigningKey.generate(f"publisher.{name}") for name in ("anna", "ben", "carl"))
OTHER = RELEASE.replace(b'"version":"0.1.0"', b'"version":"0.1.1"')


def make(folder: Path, *publishers: str) -> asgi.App:
    (folder / "key").write_text(SigningKey.generate("log.example/test").secret())
    (folder / "secret").write_text(SECRET)
    origin = "log.example/test"
    config = Config(
        origin=origin,
        key=str(folder / "key"),
        folder=str(folder / "log"),
        secret=str(folder / "secret"),
        witnesses=[],
        publishers=list(publishers),
    )
    return create_app(config, log=EventLog(lambda _: None))


def vkeys(*keys: SigningKey) -> list[str]:
    return [str(key.verifier) for key in keys]


def submit(app: asgi.App, body: bytes, path: str = "/releases", headers: Any = BEARER) -> asgi.Answer:
    async def send() -> asgi.Answer:
        async with edge_kit.serving(app):
            return await asgi.fetch(app, "POST", path, headers=headers, body=body)

    return asyncio.run(send())


def size(app: asgi.App) -> int:
    note = Note.parse(asyncio.run(asgi.fetch(app, "GET", "/checkpoint")).body)
    return int(note.text.split("\n")[1])


def signed(*keys: SigningKey, entry: bytes = RELEASE) -> bytes:
    return combine(entry, [sign_release(entry, key) for key in keys])


MIXED = combine(RELEASE, [sign_release(RELEASE, ANNA), sign_release(OTHER, BEN)])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (signed(ANNA), 403, "peer.crypto.publishers"),
        (signed(ANNA, ANNA), 403, "peer.crypto.publishers"),
        (signed(ANNA, CARL), 403, "peer.crypto.publishers"),
        (signed(ANNA, BEN, CARL), 403, "peer.crypto.publishers"),
        (MIXED, 400, "peer.crypto.note-signature"),
        (RELEASE, 400, "peer.decode"),
        (b"", 400, "peer.decode"),
        (signed(ANNA, BEN)[:-1], 400, "peer.decode"),
        (sign_note("{}\n", [ANNA, BEN]).encode(), 400, "peer.decode.entry-kind"),
        (
            sign_note(WORLD.hosts["guard"].encode().decode() + "\n", [ANNA, BEN]).encode(),
            400,
            "peer.decode.entry-kind",
        ),
    ],
)
def test_what_is_refused_enters_nothing(tmp_path: Path, body: bytes, status: int, code: str) -> None:
    app = make(tmp_path, *vkeys(ANNA, BEN))
    answer = submit(app, body)
    assert (answer.status, answer.body) == (status, f'{{"code": "{code}"}}'.encode())
    assert size(app) == 0


def test_two_people_and_the_operators_secret(tmp_path: Path) -> None:
    app = make(tmp_path, *vkeys(ANNA, BEN, CARL))
    assert submit(app, signed(ANNA, BEN), headers={}).status == 401
    assert size(app) == 0
    assert submit(app, signed(ANNA, CARL)).status == 200
    assert submit(app, signed(BEN, ANNA, entry=OTHER)).status == 200
    assert size(app) == 2


def test_a_release_does_not_get_in_as_another_entry(tmp_path: Path) -> None:
    for number, publishers in enumerate((vkeys(ANNA, BEN), [])):
        folder = tmp_path / str(number)
        folder.mkdir()
        app = make(folder, *publishers)
        for entry in (RELEASE, canonical.encode({"kind": "release", "more": 1})):
            answer = submit(app, entry, "/entries")
            assert (answer.status, answer.body) == (403, b'{"code": "refused.two-keys"}')
            # Nor among others: nothing of such a batch is entered.
            several = tiles.encode_bundle([WORLD.hosts["guard"].encode(), entry])
            answer = submit(app, several, "/batch")
            assert (answer.status, answer.body) == (403, b'{"code": "refused.two-keys"}')
        assert size(app) == 0
    # Without publishers, not at all.
    assert submit(app, signed(ANNA, BEN)).status == 403
    assert submit(app, WORLD.hosts["guard"].encode(), "/entries").status == 200


@pytest.mark.parametrize(
    "publishers",
    [
        vkeys(ANNA),
        vkeys(ANNA, ANNA),
        vkeys(ANNA, SigningKey(name="publisher.twin", kind=ANNA.kind, private=ANNA.private)),
        vkeys(ANNA, SigningKey.generate("directory.example")),
        ["x", "y"],
    ],
)
def test_a_log_with_one_publisher_under_two_names_does_not_start(
    tmp_path: Path, publishers: list[str]
) -> None:
    with pytest.raises(ConfigError):
        make(tmp_path, *publishers)
