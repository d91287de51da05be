"""`sottovoce image`: CVM images, built and measured by anybody."""

import functools
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from sottovoce.cli.main import Context
    from sottovoce.image.build import Image
    from sottovoce.image.lock import Lock
    from sottovoce.image.manifest import Manifest
    from sottovoce.tee.settings import Model

__all__ = ["image"]

_LOCK: Final = Path("deploy/image.lock")
_ENGINE: Final = Path("deploy/engine.lock")
_EMULATOR: Final = Path("deploy/emulator.lock")
_SOURCE: Final = Path("src")
_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_DIFFERS: Final = 1
_SHOWN: Final = 50


@dataclass(frozen=True, kw_only=True)
class _Project:
    """What images are built from."""

    lock_file: Path
    engine_lock: Path
    source: Path
    model: Path | None


def _from_project(command: "Callable[..., None]") -> "Callable[..., None]":
    """Options that say what images are built from; the command gets them as `project`."""

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
        project = _Project(lock_file=lock_file, engine_lock=engine_lock, source=source, model=model)
        command(*args, project=project, **rest)

    return with_project


def _cache() -> Path:
    place = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(place).expanduser() / "sottovoce"


def _read(path: Path) -> bytes:
    from sottovoce.core.errors import ConfigError

    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError(f"{path} cannot be read", hint="run this in the project's own folder") from None


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
    out.write_bytes(found.to_toml())
    click.echo(f"{len(found.packages)} packages and {len(found.wheels)} wheels in {out}")


@image.command()
@click.argument("settings", type=_FILE)
@_from_project
@click.option("--out", type=_FOLDER, required=True, help="Where the image's files are put.")
def build(settings: Path, project: _Project, out: Path) -> None:
    """Build the image of the CVM that the document SETTINGS describes.

    The files, manifest.json with the launch digests, and sbom.json; for a predictor also the volume with its model. The same source, locks and settings give the same bytes.
    """
    made = _built(_read(settings), project)
    _write(out, made)
    digests = len(made.manifest.digests)
    click.echo(
        f"{made.manifest.role}: {len(made.image.initrd) / 1e6:.1f} MB, {digests} launch digests in {out}"
    )


@image.command()
@click.argument("manifest", type=_FILE)
def measure(manifest: Path) -> None:
    """Compute the launch digests of the image beside MANIFEST from its files, and compare them with it."""
    from sottovoce.image.manifest import Manifest

    published, made = Manifest.parse(_read(manifest)), _image(manifest.parent)
    found = made.digests()
    for name, digest in found.items():
        click.echo(
            f"{name:<16} {digest} {'' if published.digests.get(name) == digest else 'NOT AS PUBLISHED'}".rstrip()
        )
    if found != published.digests:
        sys.exit(_DIFFERS)


@image.command()
@click.argument("manifest", type=_FILE)
@_from_project
def rebuild(manifest: Path, project: _Project) -> None:
    """Build a published image anew from the source here, and say that it is equal, or what differs.

    Where the image's files are beside MANIFEST, the files inside it that differ are named.
    """
    import base64

    from sottovoce.image.manifest import Manifest

    published = Manifest.parse(_read(manifest))
    made = _built(base64.b64decode(published.settings), project, like=published)
    if found := made.manifest.differences(published):
        click.echo("Another image:")
        for line in found:
            click.echo(f"  {line}")
        if (manifest.parent / "initrd").exists():
            _compare(made.image, _image(manifest.parent))
        sys.exit(_DIFFERS)
    click.echo(f"Equal: {len(published.artifacts)} files and {len(published.digests)} launch digests.")


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
@click.pass_obj
def boot(
    context: "Context", project: _Project, roles: tuple[str, ...], programs: Path | None, emulator_lock: Path
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
            _write(folder, _built(world.settings_document(role), project))
            world.boot_image(f"{role}-1", folder, programs=programs)
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


@dataclass(frozen=True, kw_only=True)
class _Built:
    """An image, and what is published with it; `model` is what its volume is made of."""

    image: "Image"
    manifest: "Manifest"
    lock: "Lock"
    engine: "Lock | None"
    model: Path | None


def _write(folder: Path, made: _Built) -> None:
    from sottovoce.image import verity
    from sottovoce.image.build import sbom

    folder.mkdir(parents=True, exist_ok=True)
    described = {
        "sbom.json": sbom(made.lock, made.image, engine=made.engine),
        "manifest.json": made.manifest.encode(),
    }
    for name, data in (made.image.files() | described).items():
        (folder / name).write_bytes(data)
    if made.model is not None and made.image.volume is not None:
        verity.write(made.model, made.image.volume.name, folder / "volume")


def _image(folder: Path) -> "Image":
    """The image whose files are in `folder`."""
    from sottovoce.image.build import Image
    from sottovoce.image.firmware import Firmware

    return Image(
        kernel=_read(folder / "kernel"),
        initrd=_read(folder / "initrd"),
        command_line=_read(folder / "command-line").decode("utf-8", "replace"),
        firmware=Firmware.parse(_read(folder / "firmware")),
    )


def _compare(ours: "Image", theirs: "Image") -> None:
    here, there = ours.contents(), theirs.contents()
    differ = [path for path in sorted({*here, *there}) if here.get(path) != there.get(path)]
    click.echo(f"Files inside that differ: {len(differ)}")
    for path in differ[:_SHOWN]:
        what = "only here" if path not in there else "only there" if path not in here else "other content"
        click.echo(f"  {path}: {what}")


def _built(settings: bytes, project: _Project, *, like: "Manifest | None" = None) -> _Built:
    from sottovoce.image import verity
    from sottovoce.image.build import COMMAND_LINE, build, materials, own_code, tables
    from sottovoce.image.lock import Lock
    from sottovoce.image.manifest import Manifest
    from sottovoce.tee.settings import parse_settings

    parsed = parse_settings(settings)
    wanted = Lock.parse(_read(project.lock_file))
    engine, model, volume = None, None, None
    if parsed.model is not None:
        model = _model(parsed.model, project.model)
        engine = Lock.parse(_read(project.engine_lock))
        volume = verity.measure(model, parsed.model.name)
    line, acpi = (like.command_line, like.acpi) if like else (COMMAND_LINE, tables(volume))
    made_of = materials(wanted, _cache() / "packages", project.source, engine=engine)
    made = build(made_of, settings, command_line=line, acpi=acpi, volume=volume)
    manifest = Manifest.of(
        made,
        role=parsed.role,
        settings=settings,
        acpi=acpi,
        lock=wanted,
        engine=engine,
        code=own_code(project.source),
    )
    return _Built(image=made, manifest=manifest, lock=wanted, engine=engine, model=model)


def _model(wanted: "Model", given: Path | None) -> Path:
    """The file of the settings' model."""
    from sottovoce.cli.model import default_folder
    from sottovoce.core.errors import ConfigError
    from sottovoce.simulator.configs import PURPOSE
    from sottovoce.simulator.models import describe

    path = given or default_folder() / f"{wanted.name}.gguf"
    if not path.exists():
        raise ConfigError(
            "the settings' model is not here", hint="`sottovoce model fetch`, or name it with --model"
        )
    if replace(describe(path), name=wanted.name).digest(PURPOSE) != wanted.digest:
        raise ConfigError("the model is not the one in the settings")
    return path
