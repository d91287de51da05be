"""`sottovoce image`, with materials of a few bytes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sottovoce.cli.image import _emulator, image
from sottovoce.core.errors import ConfigError, SottovoceError, UnavailableError
from sottovoce.image import build as module
from sottovoce.image import engine
from sottovoce.image import project as projects
from sottovoce.image.build import Materials, own_code
from sottovoce.image.files import regular
from sottovoce.image.lock import Lock
from sottovoce.image.packages import Package, Source
from sottovoce.image.verity import write
from sottovoce.image.wheels import Wheel
from sottovoce.simulator.configs import encode_settings
from sottovoce.simulator.models import describe
from sottovoce.simulator.programs import PACKAGES
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.thirdparty.artifacts import read_tree
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.entries import Release
from unit.image import test_build

LOCK = Lock(
    packages=(
        Package(name="libc6", version="1", suite="bookworm", path="pool/a.deb", sha256="ab" * 32, size=1),
    ),
    wheels=(Wheel(file="h11-0.16.0-py3-none-any.whl", sha256="cd" * 32),),
)
H12 = Wheel(file="h12-0.16.0-py3-none-any.whl", sha256="cd" * 32)


class Project:
    """A project's folder, in which somebody builds."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.place = place
        (place / "deploy").mkdir()
        (place / "deploy/image.lock").write_bytes(LOCK.to_toml())
        (place / "settings.json").write_bytes(encode_settings(settings_of(EvidenceWorld(), "guard")))
        for name in ("attest", "core", "tee", "tlog"):
            (place / "src/sottovoce" / name).mkdir(parents=True)
        (place / "src/sottovoce/tee/init.py").write_text("init")
        monkeypatch.chdir(place)
        monkeypatch.setattr(projects, "materials", self.materials)
        monkeypatch.setattr(module, "compiled", dict)  # the interpreter is none

    def materials(self, lock: Lock, cache: Path, source: Path, *, engine: Lock | None = None) -> Materials:
        one = test_build.materials()
        code = own_code(source)
        # What comes of compiling is another matter: `tests/unit/image/test_engine.py`.
        site = code | ({"llama_cpp/__init__.py": regular(b"")} if engine else {})
        return replace(one, site=site)

    def run(self, *words: str, status: int = 0) -> Result:
        done = CliRunner().invoke(image, list(words))
        assert done.exit_code == status, (done.output, done.exception)
        return done

    def build(self) -> Path:
        assert "guard: " in self.run("build", "settings.json", "--out", "out").output
        return self.place / "out"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(tmp_path, monkeypatch)


def test_built_measured_and_rebuilt(project: Project) -> None:
    out = project.build()
    names = {path.name for path in out.iterdir()}
    assert names == {"kernel", "initrd", "command-line", "firmware", "stub", "manifest.json", "sbom.json"}
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["role"] == "guard"
    assert manifest["digests"]["EPYC-Genoa/4"] in project.run("measure", "out/manifest.json").output
    assert project.run("rebuild", "out/manifest.json").output == "Equal: 5 files and 21 launch digests.\n"


@pytest.mark.parametrize(
    ("name", "others"), [("kernel", 23), ("initrd", 24), ("command-line", 24), ("firmware", 21), ("stub", 1)]
)
def test_one_changed_byte_is_another_digest(project: Project, name: str, others: int) -> None:
    path = project.build() / name
    data = bytearray(path.read_bytes())
    data[10] ^= 1
    path.write_bytes(data)
    said = project.run("measure", "out/manifest.json", status=1).output
    assert said.count("NOT AS PUBLISHED") == others


def test_a_changed_line_of_source_is_named(project: Project) -> None:
    project.build()
    (project.place / "src/sottovoce/tee/init.py").write_text("init # changed")
    (project.place / "src/sottovoce/tee/more.py").write_text("")
    said = project.run("rebuild", "out/manifest.json", status=1).output
    assert "Another image:" in said
    assert "artifacts initrd: " in said
    assert "sottovoce/tee/init.py: other content" in said
    assert "sottovoce/tee/more.py: only here" in said
    assert "Files inside that differ: 2" in said
    # With the manifest alone it can be said that it differs, and not where.
    shutil.copy(project.place / "out/manifest.json", project.place / "alone.json")
    assert "Files inside" not in project.run("rebuild", "alone.json", status=1).output


def test_another_command_line_is_not_that_of_the_source(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(projects, "COMMAND_LINE", module.COMMAND_LINE.replace("nosmt ", " ") + " debug")
        project.build()
    said = project.run("rebuild", "out/manifest.json", status=1).output
    assert "  command_line: mitigations=auto,nosmt here, mitigations=auto, debug there\n" in said


@pytest.mark.parametrize("name", ["kernel", "command-line", "stub"])
def test_another_file_beside_the_manifest_is_named(project: Project, name: str) -> None:
    path = project.build() / name
    path.write_bytes(path.read_bytes() + b"x")
    said = project.run("rebuild", "out/manifest.json", status=1).output
    assert f"beside it is another {name}." in said
    done = CliRunner().invoke(image, ["uki", "out/manifest.json"])
    assert f"beside the manifest is another {name}" in str(done.exception)
    assert not (project.place / "BOOTX64.EFI").exists()
    path.unlink()
    assert "Equal" in project.run("rebuild", "out/manifest.json").output


def test_the_commit_is_for_whoever_rebuilds_it(project: Project) -> None:
    commit = "0123456789abcdef" * 2 + "01234567"
    project.run("build", "settings.json", "--commit", commit, "--out", "out")
    assert "Equal" in project.run("rebuild", "out/manifest.json").output
    (project.place / "src/sottovoce/tee/init.py").write_text("init # changed")
    assert f"of commit {commit}:" in project.run("rebuild", "out/manifest.json", status=1).output
    for wrong in ("HEAD", commit[:-1], commit.upper(), commit + "\n"):
        done = project.run("build", "settings.json", "--commit", wrong, "--out", "other", status=2)
        assert "40 or 64 digits" in done.output
        assert not (project.place / "other").exists()


def test_an_image_for_another_machine(project: Project) -> None:
    listed = '{"prefix":"","devices":[["pci","1234","5678"]],"acpi":[["DSDT","%s"]]}' % ("ab" * 32)
    (project.place / "machine.json").write_text(listed)
    project.run("build", "settings.json", "--machine", "machine.json", "--out", "out")
    manifest = json.loads((project.place / "out/manifest.json").read_bytes())
    assert manifest["machine"] == json.loads(listed)
    said = project.run("rebuild", "out/manifest.json").output
    assert "Equal" in said
    assert "for another machine" in said
    for wrong in ("{}", listed.replace("ab" * 32, ""), listed.replace('"prefix":""', '"prefix":1')):
        (project.place / "machine.json").write_text(wrong)
        words = ["build", "settings.json", "--machine", "machine.json", "--out", "other"]
        assert isinstance(CliRunner().invoke(image, words).exception, ConfigError)


def test_one_program_of_it(project: Project) -> None:
    out = project.build()
    assert "MB in program.efi" in project.run("uki", "out/manifest.json", "--out", "program.efi").output
    made = (project.place / "program.efi").read_bytes()
    assert made.startswith(b"MZ")
    assert (out / "initrd").read_bytes() in made
    said = project.run("measure", "out/manifest.json").output
    registers = json.loads((out / "manifest.json").read_bytes())["registers"]
    assert set(registers) == {"4", "9", "11"}
    assert all(f"PCR {number:<12} {value}" in said for number, value in registers.items())


def test_how_it_differs_is_shown_by_a_tool_for_that(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.build()
    (project.place / "src/sottovoce/tee/init.py").write_text("init # changed")
    tools = project.place / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    done = CliRunner().invoke(image, ["rebuild", "out/manifest.json", "--diffoscope"])
    assert "diffoscope is not installed here" in str(done.exception)
    (tools / "diffoscope").write_text('#!/bin/sh\nPATH=/usr/bin:/bin exec diff -r "$3" "$4"\n')
    (tools / "diffoscope").chmod(0o755)
    said = project.run("rebuild", "out/manifest.json", "--diffoscope", status=1).output
    assert "< init" in said
    assert "> init # changed" in said


def test_another_lock_is_another_image(project: Project) -> None:
    project.build()
    (project.place / "deploy/image.lock").write_bytes(Lock(packages=LOCK.packages, wheels=(H12,)).to_toml())
    assert "  lock: " in project.run("rebuild", "out/manifest.json", status=1).output


def test_a_new_lock(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.image.resolve.resolve", lambda data: LOCK if data == b"project" else None)
    (project.place / "uv.lock").write_bytes(b"project")
    (project.place / "deploy/image.lock").unlink()
    assert "1 packages and 1 wheels" in project.run("lock").output
    assert Lock.parse((project.place / "deploy/image.lock").read_bytes()) == LOCK


def test_a_new_lock_of_the_emulator(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def packages(wanted: object) -> tuple[Package, ...]:
        assert wanted is PACKAGES
        return LOCK.packages

    monkeypatch.setattr("sottovoce.image.resolve.debian_packages", packages)
    (project.place / "uv.lock").touch()
    assert (
        "1 packages and 0 wheels in deploy/emulator.lock" in project.run("lock", "--for", "emulator").output
    )
    expected = Lock(packages=LOCK.packages, wheels=())
    assert Lock.parse((project.place / "deploy/emulator.lock").read_bytes()) == expected
    project.run("lock", "--for", "emulator", "--out", "elsewhere")
    assert Lock.parse((project.place / "elsewhere").read_bytes()) == expected
    assert Lock.parse((project.place / "deploy/image.lock").read_bytes()) == LOCK


def test_a_new_lock_of_the_engine(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(url="https://files.example/engine-1.tar.gz", sha256="ef" * 32, size=3)

    def packages(wanted: object) -> tuple[Package, ...]:
        assert wanted is engine.PACKAGES
        return LOCK.packages

    monkeypatch.setattr("sottovoce.image.resolve.debian_packages", packages)
    (project.place / "uv.lock").write_text(
        f"""
        [[package]]
        name = "cmake"
        wheels = [{{ url = "https://files.example/cmake-4-py3-none-any.whl", hash = "sha256:{"12" * 32}" }}]

        [[package]]
        name = "llama-cpp-python"
        sdist = {{ url = "{source.url}", hash = "sha256:{source.sha256}", size = {source.size} }}
        """
    )
    assert "1 packages and 1 wheels in deploy/engine.lock" in project.run("lock", "--for", "engine").output
    made = Lock.parse((project.place / "deploy/engine.lock").read_bytes())
    assert made.packages == LOCK.packages
    assert made.wheels == (Wheel(file="cmake-4-py3-none-any.whl", sha256="12" * 32),)
    assert made.sources == (source,)


MODEL = b"GGUF" + bytes(range(256)) * 40


def predictor(project: Project) -> None:
    """Settings of a predictor, and its model."""
    (project.place / "model.gguf").write_bytes(MODEL)
    found = replace(describe(project.place / "model.gguf"), name="small")
    model = {
        "name": "small",
        "digest": found.digest("inference"),
        "bytes": found.bytes,
        "purpose": "inference",
    }
    settings = settings_of(EvidenceWorld(), "predictor", model=model)
    (project.place / "settings.json").write_bytes(encode_settings(settings))
    (project.place / "deploy/engine.lock").write_bytes(LOCK.to_toml())


def test_a_predictor_has_its_engine_and_a_volume(project: Project) -> None:
    predictor(project)
    project.run("build", "settings.json", "--model", "model.gguf", "--out", "out")
    out = project.place / "out"
    root = write(project.place / "model.gguf", "small", project.place / "volume").root
    assert (out / "volume").read_bytes() == (project.place / "volume").read_bytes()
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert manifest["volume"] == {"name": "small", "size": len(MODEL), "root": root}
    assert len(manifest["engine"]) == 64
    assert root in (out / "sbom.json").read_text()
    whole = module.build(test_build.materials(), b"")
    files = replace(whole, initrd=(out / "initrd").read_bytes()).contents()
    assert json.loads(files["etc/sottovoce/volume.json"].content) == manifest["volume"]
    assert any(name.endswith("llama_cpp/__init__.py") for name in files)
    said = project.run("rebuild", "out/manifest.json", "--model", "model.gguf").output
    assert said == "Equal: 5 files and 21 launch digests.\n"


def test_a_release_of_it_can_be_signed(project: Project) -> None:
    project.build()
    said = project.run("release", "out/manifest.json", "--days", "7", "--out", "release.json").output
    assert said == "guard 0.1.0: 21 launch digests, 7 days, in release.json\n"
    made = Release.parse((project.place / "release.json").read_bytes())
    manifest = json.loads((project.place / "out/manifest.json").read_bytes())
    assert set(made.measurements) == set(manifest["digests"].values())
    assert (made.role, made.platform, made.security_version) == ("guard", "simulated-snp", 1)
    assert made.expires - made.issued == 7 * 86400


def test_a_release_names_the_artifacts_of_the_settings(project: Project) -> None:
    predictor(project)
    project.run("build", "settings.json", "--model", "model.gguf", "--out", "out")
    entries = []
    for name, file in (("small", "model.gguf"), ("other", "settings.json")):
        tree = read_tree(project.place / file)
        entry = ArtifactEntry.of(tree, name=name, purpose="inference", public=False)
        (project.place / f"{name}.json").write_bytes(entry.encode())
        entries.append(entry)
    words = ["release", "out/manifest.json", "--out", "release.json", "--artifact"]
    for wrong in (words[:-1], [*words, "other.json"], [*words, "small.json", "--artifact", "other.json"]):
        done = CliRunner().invoke(image, wrong)
        assert "not those of the image's settings" in str(done.exception)
    project.run(*words, "small.json")
    made = Release.parse((project.place / "release.json").read_bytes())
    assert made.artifacts == (entries[0].listed(),)


def test_a_release_is_for_the_role_of_its_settings(project: Project) -> None:
    path = project.build() / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"role":"guard"', b'"role":"orchestrator"'))
    done = CliRunner().invoke(image, ["release", "out/manifest.json", "--out", "release.json"])
    assert "for another role" in str(done.exception)
    assert not (project.place / "release.json").exists()


def test_a_model_that_changes_while_the_image_is_built(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor(project)

    def materials(*words: Any, **more: Any) -> Materials:
        (project.place / "model.gguf").write_bytes(MODEL[:-1] + b"x")
        return project.materials(*words, **more)

    monkeypatch.setattr(projects, "materials", materials)
    words = ["build", "settings.json", "--model", "model.gguf", "--out", "out"]
    assert "has changed" in str(CliRunner().invoke(image, words).exception)


def test_a_model_that_is_another_or_missing(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor(project)
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.place / "cache"))
    (project.place / "model.gguf").write_bytes(MODEL[:-1] + b"x")
    for words, says in (
        (["--model", "model.gguf"], "not the one in the settings"),
        ([], "the settings' model is not here"),
    ):
        done = CliRunner().invoke(image, ["build", "settings.json", "--out", "out", *words])
        assert says in str(done.exception)
        assert not (project.place / "out").exists()


def test_the_emulator_that_boot_takes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to the world as a folder. Where PATH has it, no lock is looked for."""

    def provided(given: Path | None, lock: Callable[[], Lock], cache: Path, **_: object) -> Path | None:
        assert cache == project.place / "cache/sottovoce"
        return given or project.place / f"{len(lock().packages)} packages"

    monkeypatch.setenv("XDG_CACHE_HOME", str(project.place / "cache"))
    monkeypatch.setattr("sottovoce.simulator.programs.provided", provided)
    lock = project.place / "deploy/emulator.lock"
    assert _emulator(Path("mine"), lock) == Path("mine")
    with pytest.raises(ConfigError, match="cannot be read"):
        _emulator(None, lock)
    lock.write_bytes(Lock(packages=LOCK.packages, wheels=()).to_toml())
    assert _emulator(None, lock) == project.place / "1 packages"


@pytest.mark.parametrize("settings", [b"", b"{}", b'{"role":"guard"}'])
def test_settings_that_are_none(project: Project, settings: bytes) -> None:
    (project.place / "settings.json").write_bytes(settings)
    done = CliRunner().invoke(image, ["build", "settings.json", "--out", "out"])
    assert isinstance(done.exception, SottovoceError)
    assert not (project.place / "out").exists()


def test_what_cannot_be_written(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.build()
    monkeypatch.setattr("sottovoce.image.resolve.resolve", lambda _: LOCK)
    (project.place / "uv.lock").touch()
    for words in (
        ["build", "settings.json", "--out", "settings.json/out"],
        ["uki", "out/manifest.json", "--out", "settings.json/program"],
        ["release", "out/manifest.json", "--out", "settings.json/release"],
        ["lock", "--out", "settings.json/lock"],
    ):
        done = CliRunner().invoke(image, words)
        assert isinstance(done.exception, ConfigError), done.exception
        assert "cannot be written" in str(done.exception)


def test_a_file_without_an_end(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sottovoce.cli.image._LARGEST", 100_000)
    done = CliRunner().invoke(image, ["measure", "/dev/zero"])
    assert "larger than any file of an image" in str(done.exception)
    predictor(project)
    done = CliRunner().invoke(image, ["build", "settings.json", "--model", "/dev/zero", "--out", "out"])
    assert "the model is not the one in the settings" in str(done.exception)


def test_a_disk_that_is_full(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **more: object) -> Materials:
        raise OSError(28, "No space left on device", "/cache/a.deb")

    monkeypatch.setattr(projects, "materials", full)
    done = CliRunner().invoke(image, ["build", "settings.json", "--out", "out"])
    assert isinstance(done.exception, UnavailableError)
    assert "No space left" in str(done.exception)
    assert done.exception.hint == "/cache/a.deb"
