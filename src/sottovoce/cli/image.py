"""`sottovoce image`: CVM images, built and measured by anybody."""

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sottovoce.cli.main import Context
    from sottovoce.image.build import Image
    from sottovoce.image.files import Files
    from sottovoce.image.machines import Machine
    from sottovoce.image.manifest import Manifest
    from sottovoce.image.project import Built

__all__ = ["image"]

_LOCK: Final = Path("deploy/image.lock")
_ENGINE: Final = Path("deploy/engine.lock")
_EMULATOR: Final = Path("deploy/emulator.lock")
_SOURCE: Final = Path("src")
_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_DIFFERS: Final = 1
_SHOWN: Final = 50
_LARGEST: Final = 512 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class _Given:
    """What images are built from."""

    lock_file: Path
    engine_lock: Path
    source: Path
    model: Path | None


def _from_project(command: "Callable[..., None]") -> "Callable[..., None]":
    """Options that say what images are built from; the command gets them as `given`."""

    @click.option("--lock", "lock_file", type=_FILE, default=_LOCK, show_default=True)
    @click.option(
        "--engine-lock",
        type=click.Path(path_type=Path, dir_okay=False),
        default=_ENGINE,
        show_default=True,
        help="For a predictor: its engine's source, and what compiles it.",
    )
    @click.option(
        "--source",
        type=_FOLDER,
        default=_SOURCE,
        show_default=True,
        help="The folder that holds `sottovoce`.",
    )
    @click.option(
        "--model", type=_FILE, help="A predictor's model  [default: where `sottovoce model fetch` keeps it]"
    )
    @functools.wraps(command)
    def with_project(
        *args: object, lock_file: Path, engine_lock: Path, source: Path, model: Path | None, **rest: object
    ) -> None:
        given = _Given(lock_file=lock_file, engine_lock=engine_lock, source=source, model=model)
        command(*args, given=given, **rest)

    return with_project


def _cache() -> Path:
    place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(place).expanduser() / "sottovoce"


def _read(path: Path) -> bytes:
    from sottovoce.core.errors import ConfigError

    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError:
        raise ConfigError(f"{path} cannot be read", hint="run this in the project's own folder") from None
    if len(data) > _LARGEST:
        raise ConfigError(f"{path} is larger than any file of an image")
    return data


@contextlib.contextmanager
def _writing(path: Path) -> "Iterator[None]":
    from sottovoce.core.errors import ConfigError

    try:
        yield
    except OSError:
        raise ConfigError(
            f"{path} cannot be written", hint="is there room, and may you write there?"
        ) from None


@click.group()
def image() -> None:
    """Build the image of a CVM, measure it, and compare it with a published one."""


@image.command()
@click.option(
    "--project", type=_FILE, default=Path("uv.lock"), show_default=True, help="The project's own lock file."
)
@click.option(
    "--for",
    "of",
    type=click.Choice(["image", "engine", "emulator"]),
    default="image",
    show_default=True,
    help="What images are made of; what compiles a predictor's engine; or the emulator for `boot`.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write them down  [default: deploy/<for>.lock]",
)
def lock(project: Path, of: str, out: Path | None) -> None:
    """Choose the newest packages that Debian has signed, and write them down for `build`, or for `boot`."""
    from sottovoce.image import engine
    from sottovoce.image.lock import Lock
    from sottovoce.image.resolve import debian_packages, resolve, source_of, wheels_of
    from sottovoce.simulator import programs

    if of == "image":
        found = resolve(_read(project))
    elif of == "engine":
        data = _read(project)
        found = Lock(
            packages=debian_packages(engine.PACKAGES),
            wheels=wheels_of(data, engine.WHEELS),
            sources=(source_of(data, engine.SOURCE),),
        )
    else:
        found = Lock(packages=debian_packages(programs.PACKAGES), wheels=())
    out = out or _LOCK.with_name(f"{of}.lock")
    with _writing(out):
        out.write_bytes(found.to_toml())
    click.echo(f"{len(found.packages)} packages and {len(found.wheels)} wheels in {out}")


@image.command()
@click.argument("settings", type=_FILE)
@_from_project
@click.option(
    "--machine",
    type=_FILE,
    help="What the machine's host gives it (docs/image.md)  [default: the emulated one]",
)
@click.option(
    "--commit",
    default="",
    help="The commit of the source, in hex: the manifest names it for whoever rebuilds the image.",
)
@click.option("--out", type=_FOLDER, required=True, help="Where the image's files are put.")
def build(settings: Path, given: _Given, machine: Path | None, commit: str, out: Path) -> None:
    """Build the image of the CVM that the document SETTINGS describes.

    The files, manifest.json with the launch digests, and sbom.json; for a predictor also the volume with its model. The same source, locks and settings give the same bytes.
    """
    import re

    from sottovoce.image.machines import Machine
    from sottovoce.image.manifest import COMMIT

    if not re.match(COMMIT, commit):
        raise click.BadParameter("a commit has 40 or 64 digits, in hex", param_hint="--commit")
    listed = Machine.parse(_read(machine)) if machine else None
    made = _built(_read(settings), given, machine=listed, commit=commit)
    with _writing(out):
        made.write(out)
    digests = len(made.manifest.digests)
    click.echo(
        f"{made.manifest.role}: {len(made.image.initrd) / 1e6:.1f} MB, {digests} launch digests in {out}"
    )


@image.command()
@click.argument("manifest", type=_FILE)
def measure(manifest: Path) -> None:
    """Compute what is measured of the image beside MANIFEST from its files, and compare it: launch digests, and the registers of a TPM where UEFI starts it as one program."""
    from sottovoce.image.manifest import Manifest
    from sottovoce.image.uki import registers

    published, made = Manifest.parse(_read(manifest)), _image(manifest.parent)
    measured = {str(number): value.hex() for number, value in registers(made).items()}
    differs = False
    for label, found, wanted in (
        ("", made.digests(), published.digests),
        ("PCR ", measured, published.registers),
    ):
        for name, digest in found.items():
            same = wanted.get(name) == digest
            click.echo(f"{label + name:<16} {digest} {'' if same else 'NOT AS PUBLISHED'}".rstrip())
        differs = differs or found != wanted
    if differs:
        sys.exit(_DIFFERS)


@image.command()
@click.argument("manifest", type=_FILE)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), default=Path("BOOTX64.EFI"), show_default=True
)
def uki(manifest: Path, out: Path) -> None:
    r"""Make of the image beside MANIFEST one program that UEFI starts, for a disk: a unified kernel image, \EFI\BOOT\BOOTX64.EFI."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.image.manifest import Manifest
    from sottovoce.image.uki import unified

    if others := _others(manifest.parent, Manifest.parse(_read(manifest))):
        raise ConfigError(f"beside the manifest is another {', '.join(others)}")
    made = unified(_image(manifest.parent))
    with _writing(out):
        out.write_bytes(made)
    click.echo(f"{len(made) / 1e6:.1f} MB in {out}")


@image.command()
@click.argument("manifest", type=_FILE)
@_from_project
@click.option(
    "--diffoscope",
    is_flag=True,
    help="Show how the files inside differ, by the program of that name (diffoscope.org).",
)
def rebuild(manifest: Path, given: _Given, *, diffoscope: bool) -> None:
    """Build a published image anew from the source here, and say that it is equal, or what differs.

    Where the image's files are beside MANIFEST, they are compared, too, and the files inside that differ are named.
    """
    import base64

    from sottovoce.image.machines import emulated
    from sottovoce.image.manifest import Manifest

    published = Manifest.parse(_read(manifest))
    made = _built(base64.b64decode(published.settings), given, like=published)
    if found := made.manifest.differences(published):
        click.echo(
            f"Another image than that of commit {published.commit}:" if published.commit else "Another image:"
        )
        for line in found:
            click.echo(f"  {line}")
        if (manifest.parent / "initrd").exists():
            _compare(made.image, _image(manifest.parent), diffoscope=diffoscope)
        sys.exit(_DIFFERS)
    if others := _others(manifest.parent, published):
        click.echo(f"The manifest's image is this one, but beside it is another {', '.join(others)}.")
        sys.exit(_DIFFERS)
    click.echo(f"Equal: {len(published.artifacts)} files and {len(published.digests)} launch digests.")
    if published.machine != emulated(published.volume):
        click.echo(
            "It is for another machine than the emulated one: what its host may give is in the manifest."
        )


@image.command()
@click.argument("manifest", type=_FILE)
@click.option(
    "--artifact",
    "artifacts",
    multiple=True,
    type=_FILE,
    help="The log entry of the model, and that of the prompts.",
)
@click.option("--security-version", type=click.IntRange(min=1), default=1, show_default=True)
@click.option(
    "--days", type=click.IntRange(1, 21), default=21, show_default=True, help="How long devices accept it."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def release(manifest: Path, artifacts: tuple[Path, ...], security_version: int, days: int, out: Path) -> None:
    """Make the log entry of the image of MANIFEST, with its launch digests, for two people to sign.

    Then: `sottovoce log sign` twice, and `sottovoce log publish`.
    """
    import time

    from sottovoce.image.manifest import Manifest
    from sottovoce.tlog.artifactentries import ArtifactEntry

    now = int(time.time())
    made = Manifest.parse(_read(manifest)).release(
        [ArtifactEntry.parse(_read(path)) for path in artifacts],
        security_version=security_version,
        issued=now,
        expires=now + days * 86400,
    )
    with _writing(out):
        out.write_bytes(made.encode())
    click.echo(f"{made.role} {made.version}: {len(made.measurements)} launch digests, {days} days, in {out}")


@image.command()
@_from_project
@click.option(
    "--role",
    "roles",
    multiple=True,
    type=click.Choice(["orchestrator", "predictor", "guard"]),
    default=["orchestrator"],
    show_default=True,
    help="Whose images are booted; several may be named. Under emulation a predictor needs some minutes until it serves, and as many for an answer.",
)
@click.option(
    "--programs",
    type=_FOLDER,
    help="Where QEMU 10 or newer and vhost-device-vsock are. Without it: those on PATH, or else Debian's, fetched and unpacked in ~/.cache/sottovoce.",
)
@click.option(
    "--emulator-lock",
    type=click.Path(path_type=Path, dir_okay=False),
    default=_EMULATOR,
    show_default=True,
    help="Which of Debian's packages these are.",
)
@click.option(
    "--traffic",
    type=_FOLDER,
    help="Write down what goes over each connection of the machines, a file for each way.",
)
@click.pass_obj
def boot(
    context: "Context",
    *,
    given: _Given,
    roles: tuple[str, ...],
    programs: Path | None,
    emulator_lock: Path,
    traffic: Path | None,
) -> None:
    """Boot images in emulators, among the other parties, until Ctrl-C: the research environment.

    The bytes are those that are measured; the machines are emulated, their security processors simulated, their memory open to you. The other parties are processes; the model is the small one.
    """
    import time

    from sottovoce.cli import parties, show
    from sottovoce.core.errors import UnavailableError

    out = show.console()
    show.banner(out, simulated=True)
    programs = _emulator(programs, emulator_lock)
    with parties.open_world(context.world, small=True) as world:
        for role in roles:
            folder = world.folder / "images" / f"{role}-1"
            made = _built(world.settings_document(role, processors=1), given)
            with _writing(folder):
                made.write(folder)
            world.boot_image(f"{role}-1", folder, programs=programs, traffic=traffic)
        with parties.running(out, world, context.home):
            parties.show_parties(out, world)
            out.print("\nIn another terminal:\n", style="bold")
            out.print("    sottovoce settings enable")
            out.print("    sottovoce summarize examples/chats/book-club.txt --unread 40")
            out.print(f"    sottovoce image dump memory.bin --machine {roles[0]}-1")
            out.print("\nCtrl-C stops everything.")
            while not (dead := world.dead()):
                time.sleep(1)
            raise UnavailableError(
                f"{', '.join(dead)} ended by itself", party=dead[0], hint=f"see {world.folder / 'logs'}"
            )


@image.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--machine", default="orchestrator-1", show_default=True)
@click.pass_obj
def dump(context: "Context", file: Path, machine: str) -> None:
    """Write all memory of the emulated machine to FILE, to be searched."""
    from sottovoce.simulator.world import dump_emulated

    dump_emulated(context.world, machine, file)
    click.echo(f"{file.stat().st_size >> 20} MiB of {machine}'s memory in {file}")


def _emulator(given: Path | None, lock_file: Path) -> Path | None:
    """The folder with the emulator's programs, if not on PATH; with a line of progress while they are being fetched."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from sottovoce.image.lock import Lock
    from sottovoce.simulator.programs import provided

    with Progress(TextColumn("{task.description}"), BarColumn(), DownloadColumn()) as bar:
        task = bar.add_task("Emulator (QEMU, Debian's packages)", visible=False)

        def progress(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of, visible=True)

        return provided(given, lambda: Lock.parse(_read(lock_file)), _cache(), progress=progress)


def _image(folder: Path) -> "Image":
    """The image whose files are in `folder`."""
    from sottovoce.image.build import Image
    from sottovoce.image.firmware import Firmware

    return Image(
        kernel=_read(folder / "kernel"),
        initrd=_read(folder / "initrd"),
        command_line=_read(folder / "command-line").decode("utf-8", "replace"),
        firmware=Firmware.parse(_read(folder / "firmware")),
        stub=_read(folder / "stub"),
    )


def _others(folder: Path, published: "Manifest") -> list[str]:
    """The files of the image that are in `folder`, and are not those of the manifest."""
    import hashlib

    return [
        name
        for name, digest in published.artifacts.items()
        if "/" not in name
        and (folder / name).exists()
        and hashlib.sha256(_read(folder / name)).hexdigest() != digest
    ]


def _compare(ours: "Image", theirs: "Image", *, diffoscope: bool) -> None:
    here, there = ours.contents(), theirs.contents()
    differ = [path for path in sorted({*here, *there}) if here.get(path) != there.get(path)]
    click.echo(f"Files inside that differ: {len(differ)}")
    for path in differ[:_SHOWN]:
        what = "only here" if path not in there else "only there" if path not in here else "other content"
        click.echo(f"  {path}: {what}")
    if diffoscope:
        _explain(
            {path: here[path] for path in differ if path in here},
            {path: there[path] for path in differ if path in there},
        )


def _explain(here: "Files", there: "Files") -> None:
    """Have diffoscope show how these files differ."""
    from sottovoce.core.errors import UnavailableError
    from sottovoce.image.files import write

    program = shutil.which("diffoscope")
    if program is None:
        raise UnavailableError(
            "diffoscope is not installed here",
            party="builder",
            hint="Debian: apt-get install diffoscope-minimal",
        )
    with tempfile.TemporaryDirectory() as place:
        for name, files in (("there", there), ("here", here)):
            (Path(place) / name).mkdir()
            write(files, Path(place) / name)
        said = subprocess.run(  # noqa: S603 - found above
            [program, "--text", "-", "there", "here"], cwd=place, stdout=subprocess.PIPE, check=False
        ).stdout
    click.echo(said.decode("utf-8", "replace"))


def _built(
    settings: bytes,
    given: _Given,
    *,
    machine: "Machine | None" = None,
    commit: str = "",
    like: "Manifest | None" = None,
) -> "Built":
    from sottovoce.cli.model import default_folder
    from sottovoce.core.errors import UnavailableError
    from sottovoce.image.lock import Lock
    from sottovoce.image.project import Project
    from sottovoce.tee.settings import parse_settings

    model = parse_settings(settings).model
    project = Project(
        lock=Lock.parse(_read(given.lock_file)),
        engine=Lock.parse(_read(given.engine_lock)) if model else None,
        source=given.source,
        cache=_cache() / "packages",
    )
    file = given.model or default_folder() / f"{model.name}.gguf" if model else None
    try:
        return project.build(settings, model=file, machine=machine, commit=commit, like=like)
    except OSError as error:
        # A full disk, a cache or a source that one may not read: whichever file it is.
        raise UnavailableError(
            f"the image cannot be built here: {error.strerror or 'a file cannot be read or written'}",
            party="builder",
            hint=str(error.filename or ""),
        ) from None
