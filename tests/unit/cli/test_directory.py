"""`sottovoce directory`: two days of an operator, with a real log, witness, gateway and issuer on loopback."""

import dataclasses
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner, Result

import directory_kit as kit
from sottovoce.cli.directory import directory
from sottovoce.cli.exits import exit_code
from sottovoce.cli.main import Context
from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.directory import accept
from sottovoce.device.environment import Environment
from sottovoce.edge import gateway, issuer
from sottovoce.edge.logclient import LogClient
from sottovoce.tlog.directoryfiles import HISTORY, note_name, proof_name
from sottovoce.tlog.note import SigningKey
from unit.cli.test_log import ORIGIN, SECRET, Party, served

TODAY = 20_000
NOW = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
ROLES = ("orchestrator", "predictor", "guard")
CHANGES = f"""
issuer = "i"

[[relays]]
operator = "One"
url = "https://one.example/ohttp"

[log]
origin = "{ORIGIN}"
quorum = 1
""" + "".join(
    "\n[[hosts]]\n" + "".join(f'{name} = "{value}"\n' for name, value in host.members().items())
    for host in kit.HOSTS
)


def clock() -> float:
    """Everybody's: no day changes while a test is under way."""
    return NOW


class Operator:
    """Everybody who works for the operator, each with a folder; and the parties that run."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.party = Party(folder, clock)
        for name in ("issuer-keys", "gateway-keys", "mirror", "second-mirror"):
            (folder / name).mkdir()
        self.key = folder / "directory.key"
        public = self.run("keys", "signing", "directory.example", "--out", self.key).stdout.strip()
        pins = json.loads((self.party.home / "environment.json").read_bytes())
        (self.party.home / "environment.json").write_text(json.dumps({**pins, "directory_key": public}))
        self.environment = Environment.load(self.party.home / "environment.json")
        for day in (TODAY, TODAY + 1):
            self.keys(day)
        witness_url = stack.enter_context(served(self.party.witness_app))
        self.log = stack.enter_context(served(lambda: self.party.log(witness_url)))
        self.gateway_app: Any = gateway.create_app(
            gateway.Config(
                environment="test", service="s", issuer_name="i", router="http://127.0.0.1:1",
                spent=str(folder / "spent"), keys=str(folder / "gateway-keys"),
            ),
            log=EventLog(lambda _: None), clock=clock,
        )  # fmt: skip
        self.gateway = stack.enter_context(served(lambda: self.gateway_app))
        config = issuer.Config(database=str(folder / "accounts"), folder=str(folder / "issuer-keys"), quota=9)
        self.issuer = stack.enter_context(
            served(lambda: issuer.create_app(config, log=EventLog(lambda _: None), clock=clock))
        )
        self.changes = folder / "changes.toml"
        self.changes.write_text(CHANGES)

    def run(self, *words: object) -> Result:
        """A command that must be done, or raises."""
        context = Context(home=self.party.home, world=self.folder)
        done = CliRunner().invoke(
            directory, [str(word) for word in words], obj=context, catch_exceptions=False
        )
        if done.exit_code:
            raise ConfigError(done.output)
        return done

    def keys(self, day: int) -> None:
        """Issuer and gateway make a day's keys; the issuer's are a day ahead."""
        for number in (day, day + 1):
            self.run("keys", "issuer", self.folder / "issuer-keys", "--epoch", number,
                     "--out", self.folder / f"issuer-{number}.json")  # fmt: skip
        self.run("keys", "gateway", self.folder / "gateway-keys", "--epoch", day,
                 "--issuer", self.folder / f"issuer-{day}.json", "--issuer", self.folder / f"issuer-{day + 1}.json",
                 "--out", self.folder / f"gateway-{day}.json")  # fmt: skip

    def prepare(self, day: int, *more: object) -> Path:
        out = self.folder / f"directory-{day}.json"
        self.run("prepare", "--epoch", day, "--keys", self.folder / f"gateway-{day}.json",
                 "--keys", self.folder / f"issuer-{day + 1}.json", *more, "--out", out)  # fmt: skip
        return out

    def sign(self, document: Path, *more: object) -> Path:
        out = document.with_suffix(".note")
        self.run("sign", document, "--key", self.key, "--yes", *more, "--out", out)
        return out

    @property
    def mirrors(self) -> list[object]:
        return [word for name in ("mirror", "second-mirror") for word in ("--mirror", self.folder / name)]

    @property
    def around(self) -> tuple[object, ...]:
        return ("--log", self.log, "--gateway", self.gateway, "--issuer", self.issuer)

    def publish(self, note: Path, *more: object) -> Result:
        return self.run("publish", note, *self.mirrors, *self.around, "--secret", self.party.secret, *more)

    def enter(self) -> None:
        """Hosts, and releases of every role, with both publishers' signatures."""
        keys = [SigningKey.parse((self.folder / f"{name}.key").read_text()) for name in ("anna", "ben")]
        client = LogClient(self.log, SECRET, keys)
        expires = (TODAY + 20) * EPOCH_SECONDS
        for entry in (
            *(host.encode() for host in kit.HOSTS),
            *(kit.release(role, expires=expires).encode() for role in ROLES),
        ):
            client.append(entry)

    def unsigned(self) -> Path:
        """Today's directory, the first of all."""
        keys = ("--keys", self.folder / f"issuer-{TODAY}.json")
        return self.prepare(TODAY, *keys, "--changes", self.changes, "--first")

    def first(self) -> Path:
        """The same, signed."""
        return self.sign(self.unsigned(), "--first")


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Operator]:
    monkeypatch.setattr("sottovoce.cli.directory.time", SimpleNamespace(time=clock))
    with ExitStack() as stack:
        yield Operator(tmp_path, stack)


def accepted(operator: Operator, mirror: str, epoch: int, now: int) -> None:
    """A device with these pins accepts what the mirror has at `now`."""
    read = [(operator.folder / mirror / name(epoch)).read_bytes() for name in (note_name, proof_name)]
    found = accept(
        read[0], read[0], read[1],
        key=operator.environment.directory_verifier(), log=operator.environment.log_policy(), now=now, last=None,
        history=(operator.folder / mirror / HISTORY).read_bytes(),
    )  # fmt: skip
    assert found.directory.epoch == epoch


def test_two_days_of_an_operator(operator: Operator, capsys: pytest.CaptureFixture[str]) -> None:
    note = operator.first()
    with pytest.raises(ConfigError, match="has a directory of a day before"):
        operator.publish(note)
    # Nothing that it names is in the log yet.
    with pytest.raises(SottovoceError, match="lock devices out") as caught:
        operator.publish(note, "--first")
    assert exit_code(caught.value) == 20
    assert list((operator.folder / "mirror").iterdir()) == []
    operator.enter()
    operator.publish(note, "--first")
    tomorrow = operator.prepare(TODAY + 1, "--current", note)
    signed = operator.sign(tomorrow, "--current", note)
    operator.run("check", signed, "--current", note, *operator.around)
    operator.publish(signed)
    again = operator.publish(signed)
    assert f"The directory of epoch {TODAY + 1} is at" in again.output
    for mirror in ("mirror", "second-mirror"):
        accepted(operator, mirror, TODAY, NOW)
        accepted(operator, mirror, TODAY + 1, (TODAY + 1) * EPOCH_SECONDS - 3600)
    refreshed = operator.run("refresh", *operator.mirrors, "--log", operator.log)
    assert refreshed.output.count(f"for epochs {TODAY}, {TODAY + 1}.") == 2
    shown = operator.run("show", signed, "--current", note)
    assert {f"- epoch: {TODAY}", f"+ epoch: {TODAY + 1}"} <= set(shown.output.splitlines())
    assert json.loads(operator.run("show", tomorrow, "--json").output)["epoch"] == TODAY + 1


def test_a_gateway_that_has_not_read_its_new_keys_stops_it(operator: Operator) -> None:
    operator.enter()
    note = operator.first()
    operator.publish(note, "--first")
    operator.keys(TODAY + 2)
    with pytest.raises(SottovoceError):
        operator.prepare(TODAY + 2, "--current", note)  # not the next one
    after = operator.prepare(
        TODAY + 2, "--current", note, "--gap", "--keys", operator.folder / f"issuer-{TODAY + 2}.json"
    )
    signed = operator.sign(after, "--current", note, "--gap")
    check = ("check", signed, "--current", note, "--gap", *operator.around)
    with pytest.raises(SottovoceError, match="lock devices out"):
        operator.run(*check)
    operator.gateway_app.reload()
    # The issuer signs with keys of tomorrow at most: that day's is not shown yet.
    with pytest.raises(SottovoceError, match="lock devices out"):
        operator.run(*check)


def test_what_is_signed_is_shown_and_asked_for(operator: Operator) -> None:
    document = operator.unsigned()
    out = operator.folder / "signed.note"
    words = [str(word) for word in ("sign", document, "--key", operator.key, "--first", "--out", out)]
    asked = CliRunner().invoke(directory, words, input="n\n")
    assert asked.exit_code == 1
    assert '+ hosts 1: id "host-1", role "orchestrator", platform "sev-snp", product "Genoa"' in asked.output
    assert "SHA-256 of the document" in asked.output
    assert not out.exists()
    assert CliRunner().invoke(directory, words, input="y\n").exit_code == 0
    assert out.exists()
    assert operator.key.read_text() not in asked.output


def test_nothing_is_made_or_signed_without_the_one_before_unless_it_is_the_first(operator: Operator) -> None:
    note, out = operator.first(), operator.folder / "out"
    tomorrow = operator.prepare(TODAY + 1, "--current", note)
    keys = ("--keys", operator.folder / f"gateway-{TODAY}.json", "--changes", operator.changes)
    for words in (
        ("prepare", "--epoch", TODAY, *keys, "--out", out),
        ("sign", tomorrow, "--key", operator.key, "--yes", "--out", out),
        ("check", note, *operator.around),
    ):
        for both in ((), ("--first", "--current", note)):
            with pytest.raises(ConfigError, match="which directory comes before"):
                operator.run(*words, *both)
    assert not out.exists()


def test_the_signed_document_replaces_neither_key_nor_document(operator: Operator) -> None:
    document = operator.unsigned()
    before = operator.key.read_bytes(), document.read_bytes()
    for out in (operator.key, document, operator.folder / "mirror" / ".." / operator.key.name):
        with pytest.raises(ConfigError, match="would replace"):
            operator.run("sign", document, "--key", operator.key, "--first", "--yes", "--out", out)
    assert (operator.key.read_bytes(), document.read_bytes()) == before


def test_of_several_mirrors_all_are_looked_at_before_one_is_changed(operator: Operator) -> None:
    operator.enter()
    note = operator.first()
    there = operator.folder / "second-mirror" / note_name(TODAY)
    there.write_bytes(b"another directory")
    with pytest.raises(SottovoceError, match="another directory already"):
        operator.publish(note, "--first")
    assert list((operator.folder / "mirror").iterdir()) == []


def test_a_document_that_would_lock_devices_out_is_not_signed(operator: Operator) -> None:
    note = operator.first()
    document = operator.prepare(TODAY + 1, "--current", note)
    data = json.loads(document.read_bytes())
    data["token_keys"] = [key for key in data["token_keys"] if key["epoch"] == TODAY + 1]
    from sottovoce.core import canonical  # noqa: PLC0415

    document.write_bytes(canonical.encode(data))
    with pytest.raises(SottovoceError, match="lock devices out"):
        operator.sign(document, "--current", note)
    assert not document.with_suffix(".note").exists()


def test_one_that_the_log_would_not_take_is_not_even_prepared(operator: Operator) -> None:
    note = operator.first()
    many = [dataclasses.replace(kit.HOSTS[0], id=f"host-{number}").members() for number in range(300)]
    changes = operator.folder / "many.json"
    changes.write_text(json.dumps({"hosts": many}))
    with pytest.raises(SottovoceError, match="lock devices out"):
        operator.prepare(TODAY + 1, "--current", note, "--changes", changes)
    assert not (operator.folder / f"directory-{TODAY + 1}.json").exists()


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff\xff", b"\x00" * 3_000_000])
def test_files_that_are_none(operator: Operator, data: bytes) -> None:
    wrong = operator.folder / "wrong"
    wrong.write_bytes(data)
    note, out = operator.first(), operator.folder / "out"
    tomorrow = operator.prepare(TODAY + 1, "--current", note)
    for words in (
        ("show", wrong),
        ("show", operator.folder / "nowhere"),
        ("sign", wrong, "--key", operator.key, "--first", "--yes", "--out", out),
        ("sign", note, "--key", wrong, "--first", "--yes", "--out", out),
        ("sign", tomorrow, "--key", operator.key, "--current", wrong, "--yes", "--out", out),
        ("check", wrong, "--first", *operator.around),
        ("prepare", "--epoch", TODAY, "--first", "--keys", wrong, "--out", out),
        ("prepare", "--epoch", TODAY, "--first", "--keys", operator.folder / f"gateway-{TODAY}.json", "--changes", wrong, "--out", out),
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            operator.run(*words)
    assert wrong.read_bytes() == data
    assert not out.exists()


def test_a_signing_key_is_not_overwritten(operator: Operator) -> None:
    before = operator.key.read_bytes()
    with pytest.raises(ConfigError, match="already"):
        operator.run("keys", "signing", "directory.example", "--out", operator.key)
    assert operator.key.read_bytes() == before
    assert operator.key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["", "two words", "a+b", "\udcff"])
def test_names_that_a_key_cannot_have(operator: Operator, name: str) -> None:
    out = operator.folder / "new.key"
    with pytest.raises(ConfigError, match="cannot have this name"):
        operator.run("keys", "signing", name, "--out", out)
    assert not out.exists()
