"""Key folders: a day's keys are made once, appear whole, are read together, and go when nobody takes them any more."""

import base64
from collections.abc import Callable
from pathlib import Path

import pytest

from directory_kit import NOON, TODAY, gateway_keys, issuer_keys
from sottovoce.core import hpke, ristretto
from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.core.ohttp import decode_key_configs
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE
from sottovoce.edge import gatewaykeys, issuerkeys
from sottovoce.edge.files import StorageError, make_new, write_new
from sottovoce.edge.gatewaykeys import OHTTP_KEPT, lay_token_keys, make_gateway_keys, read_gateway_folder
from sottovoce.edge.issuerkeys import make_issuer_keys, read_issuer_folder
from sottovoce.edge.keyfolder import PublicKeys

Work = Callable[[], object]
END = (TODAY + 1) * EPOCH_SECONDS


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_days_keys_are_made_once(tmp_path: Path) -> None:
    issuer, gateway = tmp_path / "issuer", tmp_path / "gateway"
    issuer.mkdir()
    gateway.mkdir()
    public = make_issuer_keys(issuer, TODAY, type_5=ristretto.is_available())
    assert make_issuer_keys(issuer, TODAY, type_5=ristretto.is_available()) == public
    ours = make_gateway_keys(gateway, TODAY)
    lay_token_keys(gateway, public, secrets=issuer)
    assert make_gateway_keys(gateway, TODAY) == ours
    lay_token_keys(gateway, public, secrets=issuer)
    keys = read_gateway_folder(gateway)
    there, told = keys.configs(NOON), base64.b64decode(ours.ohttp_key_configs)
    assert {one.encode() for one in decode_key_configs(there)} == {
        one.encode() for one in decode_key_configs(told)
    }
    assert keys.tokens[TODAY].spki == base64.b64decode(public.token_keys[0].key)
    assert set(keys.batch) == ({TODAY} if ristretto.is_available() else set())
    assert {path.stat().st_mode & 0o777 for path in (*issuer.iterdir(), *gateway.iterdir())} == {0o600}
    # What leaves holds no secret of either folder.
    for path in (*issuer.iterdir(), *gateway.iterdir()):
        if not path.name.endswith(".spki"):
            assert base64.b64encode(path.read_bytes()) not in public.encode() + ours.encode()
    assert PublicKeys.parse(public.encode()) == public
    assert PublicKeys.parse(ours.encode()) == ours


def test_what_a_killed_run_left_is_made_again(tmp_path: Path) -> None:
    (tmp_path / f"token-{TODAY}.pem.new").write_bytes(b"half a k")
    (tmp_path / f"ohttp-{TODAY}-{hpke.X25519:04x}.key.new").write_bytes(b"half a k")
    make_issuer_keys(tmp_path, TODAY, type_5=False)
    make_gateway_keys(tmp_path, TODAY)
    assert set(read_issuer_folder(tmp_path).signing) == {TODAY}
    assert not [name for name in names(tmp_path) if name.endswith(".new")]


def test_a_key_that_another_command_makes_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "some.key"

    def slow(staged: Path) -> None:
        staged.write_bytes(b"late")
        write_new(path, b"first")

    with pytest.raises(SottovoceError):
        make_new(path, slow)
    assert path.read_bytes() == b"first"
    with pytest.raises(ConfigError, match="already"):
        write_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["some.key"]


def test_a_key_laid_there_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "some.key"

    def slow(staged: Path) -> None:
        staged.write_bytes(b"late")
        path.write_bytes(b"by hand")

    with pytest.raises(ConfigError, match="already"):
        make_new(path, slow)
    assert path.read_bytes() == b"by hand"
    assert names(tmp_path) == ["some.key"]


def test_a_key_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    def full(staged: Path) -> None:
        staged.write_bytes(b"half")
        raise OSError

    with pytest.raises(StorageError):
        make_new(tmp_path / "some.key", full)
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [f"ohttp-{TODAY}-0020.key", f"token-{TODAY}.spki", f"token-{TODAY}.pem", f"batch-{TODAY}.key"],
)
@pytest.mark.parametrize("what", ["folder", "link"])
def test_what_is_named_like_a_key_and_is_no_file_is_named(tmp_path: Path, name: str, what: str) -> None:
    if what == "folder":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).symlink_to(tmp_path / "nowhere")
    gateway: list[Work] = [
        lambda: read_gateway_folder(tmp_path),
        lambda: gatewaykeys.forget_gateway_keys(tmp_path, END + 9 * EPOCH_SECONDS, made=TODAY + 9),
    ]
    issuer: list[Work] = [
        lambda: read_issuer_folder(tmp_path),
        lambda: make_issuer_keys(tmp_path, TODAY, type_5=False),
        lambda: issuerkeys.forget_issuer_keys(tmp_path, END + 9 * EPOCH_SECONDS, made=TODAY + 9),
    ]
    works = issuer if name.endswith(".pem") else gateway + issuer if name.startswith("batch") else gateway
    if name.startswith("ohttp"):
        works.append(lambda: make_gateway_keys(tmp_path, TODAY))
    if name.endswith(".spki"):
        works.append(lambda: lay_token_keys(tmp_path, issuer_keys(TODAY)))
    for work in works:
        with pytest.raises(ConfigError, match="no file has a key's name") as caught:
            work()
        assert name in caught.value.hint


def test_no_two_keys_that_are_in_use_at_once_share_an_id(tmp_path: Path) -> None:
    for epoch in range(TODAY, TODAY + 128):
        make_gateway_keys(tmp_path, epoch)
        if epoch - TODAY < 3:
            make_issuer_keys(tmp_path, epoch, type_5=False)
    there = {path.name for path in tmp_path.iterdir()}
    assert sum(name.startswith("ohttp-") for name in there) == 256
    configs = [
        config
        for epoch in range(TODAY, TODAY + 128)
        for config in decode_key_configs(
            base64.b64decode(make_gateway_keys(tmp_path, epoch).ohttp_key_configs)
        )
    ]
    assert len({config.key_id for config in configs}) == 256
    assert len({key.truncated_id for _, key in read_issuer_folder(tmp_path).signing.values()}) == 3


def test_an_ohttp_key_is_taken_until_the_last_session_of_its_grace_is_over(tmp_path: Path) -> None:
    for epoch in (TODAY, TODAY + 1):
        make_gateway_keys(tmp_path, epoch)
    lay_token_keys(tmp_path, issuer_keys(TODAY))
    keys = read_gateway_folder(tmp_path)
    # Tomorrow's at once: a device whose clock is ahead has its directory already.
    assert len(keys.opening(NOON)) == 4
    assert OHTTP_KEPT >= GRACE + 600
    assert len(keys.opening(END + GRACE + 600)) == 4
    assert len(keys.opening(END + OHTTP_KEPT - 1)) == 4
    late = keys.opening(END + OHTTP_KEPT)
    assert {key.key_id for key in late} == {2 * (TODAY + 1) % 256, (2 * (TODAY + 1) + 1) % 256}
    assert decode_key_configs(keys.configs(END + OHTTP_KEPT)) == [key.config() for key in late]


def test_old_keys_are_deleted_when_nobody_takes_them(tmp_path: Path) -> None:
    for epoch in (TODAY, TODAY + 1):
        make_gateway_keys(tmp_path, epoch)
        lay_token_keys(tmp_path, issuer_keys(epoch))
        make_issuer_keys(tmp_path, epoch, type_5=False)
    before = names(tmp_path)
    assert gatewaykeys.forget_gateway_keys(tmp_path, END + OHTTP_KEPT, made=TODAY + 2) == 0
    assert issuerkeys.forget_issuer_keys(tmp_path, END + GRACE, made=TODAY + 3) == 0
    assert names(tmp_path) == before
    assert gatewaykeys.forget_gateway_keys(tmp_path, END + OHTTP_KEPT + 3600, made=TODAY + 2) == 2
    assert gatewaykeys.forget_gateway_keys(tmp_path, END + EPOCH_SECONDS, made=TODAY + 3) == 1
    assert issuerkeys.forget_issuer_keys(tmp_path, END + EPOCH_SECONDS, made=TODAY + 4) == 1
    assert not [name for name in names(tmp_path) if f"-{TODAY}" in name]


def test_a_clock_that_is_ahead_deletes_no_key_in_use(tmp_path: Path) -> None:
    for epoch in (TODAY, TODAY + 1):
        make_gateway_keys(tmp_path, epoch)
        lay_token_keys(tmp_path, issuer_keys(epoch))
        make_issuer_keys(tmp_path, epoch, type_5=False)
    before, wrong = names(tmp_path), END + 9 * EPOCH_SECONDS
    assert gatewaykeys.forget_gateway_keys(tmp_path, wrong, made=TODAY + 1) == 0
    assert issuerkeys.forget_issuer_keys(tmp_path, wrong, made=TODAY + 2) == 0
    assert names(tmp_path) == before


def test_another_key_for_a_day_is_not_laid_over_the_first(tmp_path: Path) -> None:
    lay_token_keys(tmp_path, issuer_keys(TODAY))
    other = issuer_keys(TODAY + 1).token_keys[0].key
    swapped = PublicKeys(
        party="issuer",
        epoch=TODAY,
        token_keys=[type(issuer_keys(TODAY).token_keys[0])(epoch=TODAY, token_type=2, key=other)],
    )
    with pytest.raises(ConfigError, match="another token key"):
        lay_token_keys(tmp_path, swapped)
    assert (tmp_path / f"token-{TODAY}.spki").read_bytes() == base64.b64decode(
        issuer_keys(TODAY).token_keys[0].key
    )


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (f"ohttp-{TODAY}-0020.key", b"short"),
        (f"ohttp-{TODAY}-0010.key", bytes(32)),
        (f"token-{TODAY + 1}.spki", b"no key"),
        (f"batch-{TODAY}.key", b"no key"),
    ],
)
def test_a_folder_with_a_wrong_file_is_refused_and_the_file_named(
    tmp_path: Path, name: str, data: bytes
) -> None:
    make_gateway_keys(tmp_path, TODAY + 1)
    lay_token_keys(tmp_path, issuer_keys(TODAY))
    read_gateway_folder(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        read_gateway_folder(tmp_path)
    if ristretto.is_available() or "batch" not in name:
        assert name in caught.value.hint


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError):
            read_gateway_folder(folder)
    with pytest.raises(ConfigError):
        read_issuer_folder(tmp_path / "nowhere")


GOOD = gateway_keys(TODAY).encode()
ISSUER = issuer_keys(TODAY).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        GOOD[:-9],
        GOOD.replace(b'"gateway"', b'"issuer"'),
        GOOD.replace(b'"epoch"', b'"day"'),
        GOOD.replace(b'"ohttp_key_configs": "', b'"ohttp_key_configs": "AA'),
        GOOD.replace(b'"ohttp_key_configs": "', b'"ohttp_key_configs": "!'),
        ISSUER.replace(b'"issuer"', b'"gateway"'),
        ISSUER.replace(b'"token_type": 2', b'"token_type": 3'),
        ISSUER.replace(b'"key": "MIIB', b'"key": "MIIC'),
        ISSUER.replace(f'"epoch": {TODAY}'.encode(), f'"epoch": {TODAY + 1}'.encode(), 1),
        b'{"party": "issuer", "epoch": 1}',
        GOOD.replace(b'"ohttp_key_configs": "', b'"ohttp_key_configs": "\xc3\xa9'),
        ISSUER.replace(b'"key": "MIIB', '"key": "M\u00efIB'.encode()),
    ],
)
def test_public_keys_that_are_none(data: bytes) -> None:
    assert data not in {GOOD, ISSUER}
    with pytest.raises(ConfigError):
        PublicKeys.parse(data)
