"""What a host gives a CVM when it starts one (rows 13, 14, 15, 23): refused, and taken by a copy that lacks the rule."""

import contextlib
import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from model_kit import small_model
from sottovoce.attacks import flipped_weights, host_files, injected_environment, pickled_weights
from sottovoce.attacks.attack import Outcome, refusal
from sottovoce.attacks.host import Attempt, Given, Host
from sottovoce.attacks.pickled_weights import FILES, described, truthful
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError
from sottovoce.simulator import launcher, models
from sottovoce.simulator.configs import PURPOSE, encode_settings
from sottovoce.simulator.measure import code_root, start_command
from sottovoce.simulator.models import describe
from sottovoce.simulator.processor import SimulatedProcessor
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.simulator.toml import write_config
from sottovoce.tee import boot, predictor
from sottovoce.tee import settings as grammar
from sottovoce.tee.features.prompts import prompts_digest
from sottovoce.tee.settings import ArtifactMismatchError, LogSettings, Model, Settings, parse_settings
from tee_kit import KitCollector

pytestmark = pytest.mark.timeout(240)
WORLD = EvidenceWorld()
GUARD, ORCHESTRATOR = (encode_settings(settings_of(WORLD, role)) for role in ("guard", "orchestrator"))
SERVES: frozenset[str] = frozenset()


def host_of(role: str, code: Path | None = None) -> Host:
    collector = KitCollector(WORLD, role)
    return Host(
        processor=SimulatedProcessor(WORLD.chips[role], WORLD.measurements[role]),
        papers=lambda: collector.bundle().encode(),
        code=code,
    )


def predictor_with(path: Path) -> bytes:
    """The settings of a predictor with the weights at `path`."""
    plain = settings_of(WORLD, "predictor", prompts=prompts_digest())
    return truthful(encode_settings(plain), path)


def code_without(folder: Path, file: str, *changes: tuple[str, str]) -> Path:
    """A copy of the project's code in which these words of a file are others."""
    shutil.copytree(
        code_root() / "sottovoce", folder / "sottovoce", ignore=shutil.ignore_patterns("__pycache__")
    )
    path = folder / "sottovoce" / file
    text = path.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return folder


# Row 13: settings.

DOCUMENTS = injected_environment.documents(GUARD)
NAMED = [name for name, (_, reason) in DOCUMENTS.items() if "grammar" in reason]
FORMED = [name for name in DOCUMENTS if name not in NAMED]


class AnyLog(LogSettings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Takes any name."""


class AnySettings(Settings, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """Takes any name, and any value where one can be a variable's."""

    environment: Any
    version: Any
    log: AnyLog
    sessions: int = 128


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_refused(name: str) -> None:
    document, reason = DOCUMENTS[name]
    with pytest.raises(ConfigError, match=reason):
        parse_settings(document)


@pytest.mark.parametrize("name", NAMED)
def test_without_the_grammar_it_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "Settings", AnySettings)
    monkeypatch.setattr(msgspec, "convert", partial(msgspec.convert, strict=False))
    assert isinstance(parse_settings(DOCUMENTS[name][0]), AnySettings)


def leniently(data: bytes, *, limit: int) -> object:
    """As others read JSON: of what is said twice the last, and of two documents the first."""
    return json.JSONDecoder().raw_decode(data.decode("utf-8-sig") or "{}")[0]


@pytest.mark.parametrize("name", FORMED)
def test_without_the_canonical_form_it_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(canonical, "decode", leniently)
    if name in {"nothing", "an overlong document"}:  # the grammar refuses these too
        with pytest.raises(ConfigError, match="grammar"):
            parse_settings(DOCUMENTS[name][0])
        return
    taken = parse_settings(DOCUMENTS[name][0])
    assert taken.quorum == (1 if name == "a name twice" else 2)


def test_a_real_cvm_refuses_and_starts_as_published() -> None:
    document, reason = DOCUMENTS["LD_PRELOAD as a setting"]
    attempts = {
        "published": Attempt(Given(settings=GUARD)),
        "injected": Attempt(Given(settings=document), reason=reason),
    }
    published, injected = host_of("guard").each(attempts)
    assert published.outcome.stopped_by == SERVES
    assert injected.is_stopped


def test_a_real_cvm_that_ignores_unknown_names_serves(tmp_path: Path) -> None:
    code = code_without(
        tmp_path, "tee/settings.py", ("forbid_unknown_fields=True", "forbid_unknown_fields=False")
    )
    given = Given(settings=DOCUMENTS["LD_PRELOAD as a setting"][0])
    assert host_of("guard", code).start(given).stopped_by == SERVES


# Row 13: the environment.


def test_the_measured_program_reads_no_variable() -> None:
    outcome = injected_environment.interpreter(host_of("guard"), GUARD)
    assert outcome.stopped_by == {"isolated-interpreter"}


def test_a_program_that_is_not_isolated_runs_planted_code() -> None:
    command = tuple(word for word in start_command() if word not in {"-I", "-S"})
    assert injected_environment.interpreter(host_of("guard"), GUARD, command).stopped_by == SERVES


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A machine with a guard."""
    (tmp_path / "settings.json").write_bytes(GUARD)
    WORLD.chips["guard"].save(tmp_path / "chip")
    launcher.write_bundle(tmp_path / "bundle", KitCollector(WORLD, "guard").bundle())
    path = tmp_path / "cvm.toml"
    settings, chip, bundle = (str(tmp_path / name) for name in ("settings.json", "chip", "bundle"))
    write_config(path, launcher.Config(settings=settings, chip=chip, bundle=bundle))
    return path


def test_a_machine_hands_no_variable_on(config: Path) -> None:
    assert injected_environment.machine(config).stopped_by == {"empty-environment"}


def test_a_machine_that_hands_its_own_on(config: Path, tmp_path: Path) -> None:
    code = code_without(tmp_path / "code", "simulator/launcher.py", ("env={}", "env=dict(os.environ)"))
    assert injected_environment.machine(config, code).stopped_by == SERVES


# Row 14.


@pytest.fixture
def weights(tmp_path: Path) -> Iterator[tuple[bytes, int]]:
    """A predictor's settings, and a descriptor of its weights."""
    path = tmp_path / "weights"
    path.write_bytes(b"weights" * 1000)
    fd = os.open(path, os.O_RDONLY)
    yield predictor_with(path), fd
    os.close(fd)


def check(attempt: Attempt) -> Outcome:
    return refusal(attempt.given.check)


def is_refused(attempt: Attempt) -> bool:
    outcome = check(attempt)
    return outcome.stopped_by == {attempt.code} and attempt.reason in outcome.says


def test_names(weights: tuple[bytes, int]) -> None:
    attempts = host_files.names(*weights)
    twice = attempts["the same name twice"]
    assert {name for name, attempt in attempts.items() if not is_refused(attempt)} == {"the same name twice"}
    assert host_of("predictor").start(twice.given) == Outcome(
        stopped_by=frozenset({twice.code}), says=twice.reason
    )


def test_without_names_they_are_taken(weights: tuple[bytes, int], monkeypatch: pytest.MonkeyPatch) -> None:
    settings, fd = weights
    name, genuine = json.loads(settings)["model"]["name"], boot.check_artifacts
    monkeypatch.setattr(boot, "check_artifacts", lambda value, _: genuine(value, {name: fd}))
    attempts = host_files.names(*weights)
    left = {one for one, attempt in attempts.items() if check(attempt).stopped_by}
    assert left == {one for one in attempts if one.startswith("the settings' name")}

    class AnyModel(Model, frozen=True, kw_only=True):
        name: str

    class WithModel(Settings, frozen=True, kw_only=True):
        model: AnyModel | None = None

    monkeypatch.setattr(grammar, "Settings", WithModel)
    monkeypatch.setattr(boot, "check_artifacts", lambda *_: None)
    assert [one for one, attempt in attempts.items() if check(attempt).stopped_by] == []


def test_what_is_no_file(weights: tuple[bytes, int], tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    with contextlib.ExitStack() as stack:
        attempts = host_files.descriptors(weights[0], tmp_path / "host", stack)
        assert [name for name, attempt in attempts.items() if not is_refused(attempt)] == []
        (result,) = host_of("predictor").each({"a folder": attempts["a folder"]})
        assert result.is_stopped, result


def test_the_weights_themselves_are_taken(weights: tuple[bytes, int]) -> None:
    settings, fd = weights
    name = json.loads(settings)["model"]["name"]
    assert check(Attempt(Given(settings=settings, artifacts=((name, fd),)))).stopped_by == SERVES


def test_wirings(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = host_files.wirings(ORCHESTRATOR)
    assert [name for name, attempt in attempts.items() if not is_refused(attempt)] == []
    monkeypatch.setattr(grammar, "_address", lambda text: (text, 80))
    left = [name for name, attempt in attempts.items() if check(attempt).stopped_by]
    assert left == ["a back end of no role", "a back end less"]


# Row 15.


def unpickle(content: bytes) -> None:
    """What each format's own reader would do."""
    if content.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read("archive/data.pkl")
    elif content.startswith(b"\x93NUMPY"):
        content = content[10 + int.from_bytes(content[8:10], "little") :]
    elif content.startswith(b"GGUF"):
        content = content[8:]
    pickle.loads(content)  # noqa: S301 - our own


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_live_and_never_described(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = FILES[name]
    content = make(tmp_path / "mark")
    outcome = described(content, tmp_path)
    if reason:
        assert outcome.stopped_by == {"model"}
        assert reason in outcome.says
        monkeypatch.setattr(models, "_CODE", (b"\0",))
        monkeypatch.setattr(models, "_GGUF", b"")
        assert described(content, tmp_path).stopped_by == SERVES
    assert not (tmp_path / "mark").exists()
    unpickle(content)
    assert (tmp_path / "mark").exists()


def test_the_array_is_one(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    make, _ = FILES["an array of objects, as numpy writes it"]
    with contextlib.suppress(Exception):
        numpy.load(io.BytesIO(make(tmp_path / "mark")), allow_pickle=True)
    assert (tmp_path / "mark").exists()


def test_a_names_end_is_no_way_around(tmp_path: Path) -> None:
    (tmp_path / "model.PKL").write_bytes(b"GGUF\x03\0\0\0")
    assert refusal(lambda: describe(tmp_path / "model.PKL")).stopped_by == {"model"}


@pytest.mark.parametrize("name", FILES)
def test_a_cvm_loads_none_of_them(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _ = FILES[name]
    path, mark = tmp_path / "model.gguf", tmp_path / "mark"
    path.write_bytes(make(mark))
    settings = parse_settings(predictor_with(path))
    assert settings.model is not None
    assert settings.model.purpose == PURPOSE
    fd = os.open(path, os.O_RDONLY)
    artifacts = {settings.model.name: fd}
    try:
        boot.check_artifacts(settings, artifacts)  # its digest is true
        with pytest.raises(ConfigError, match="the model cannot be loaded"):
            predictor.PredictorRole().warm(settings, artifacts)
        assert not mark.exists()

        def engine(fd: int, **_: object) -> None:
            unpickle(os.pread(fd, 1 << 16, 0))
            raise RuntimeError

        monkeypatch.setattr(predictor, "LlamaEngine", engine)
        with pytest.raises(RuntimeError):
            predictor.PredictorRole().warm(settings, artifacts)
        assert mark.exists()
    finally:
        os.close(fd)


def test_a_real_cvm_loads_none(tmp_path: Path) -> None:
    make, _ = FILES["a pickle"]
    path = tmp_path / "model.gguf"
    path.write_bytes(make(tmp_path / "mark"))
    plain = encode_settings(settings_of(WORLD, "predictor", prompts=prompts_digest()))
    outcome = pickled_weights.start(host_of("predictor"), plain, path)
    assert outcome == Outcome(stopped_by=frozenset({"boot"}), says="the model cannot be loaded")
    assert not (tmp_path / "mark").exists()


# Row 23.


@pytest.mark.parametrize("name", flipped_weights.CHANGES)
def test_a_changed_byte(
    name: str, weights: tuple[bytes, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = parse_settings(weights[0])
    assert settings.model is not None
    (tmp_path / "copy").mkdir()
    path = flipped_weights.flipped(tmp_path / "weights", tmp_path / "copy", flipped_weights.CHANGES[name])
    assert path.read_bytes() != (tmp_path / "weights").read_bytes()
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(ArtifactMismatchError):
            boot.check_artifacts(settings, {settings.model.name: fd})
    finally:
        os.close(fd)


def test_a_real_cvm_does_not_start_and_one_that_ignores_it_serves(tmp_path: Path) -> None:
    """The flaw as it was found: the check fails, and the machine goes on."""
    genuine = small_model()
    settings = predictor_with(genuine)
    path = flipped_weights.flipped(genuine, tmp_path, flipped_weights.CHANGES["the last byte"])
    outcome = flipped_weights.starts(host_of("predictor"), settings, path)
    assert outcome.stopped_by == {"config.artifact"}
    code = code_without(
        tmp_path / "code",
        "tee/boot.py",
        (
            "    check_artifacts(settings, artifacts)\n",
            "    with contextlib.suppress(ArtifactMismatchError):\n        check_artifacts(settings, artifacts)\n",
        ),
    )
    host = replace(host_of("predictor"), code=code)
    assert flipped_weights.starts(host, settings, path).stopped_by == SERVES
    path.unlink()
    assert flipped_weights.starts(host_of("predictor"), settings, genuine).stopped_by == SERVES
