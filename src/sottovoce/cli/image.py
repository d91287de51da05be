"""`sottovoce image`: CVM images, built and measured by anybody."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sottovoce.cli.main import Context
    from sottovoce.image.build import Image
    from sottovoce.image.manifest import Manifest

__all__ = ["image"]

_LOCK: Final = Path("deploy/image.lock")
_EMULATOR: Final = Path("deploy/emulator.lock")
_SOURCE: Final = Path("src")
_FILE: Final = click.Path(path_type=Path, dir_okay=False, exists=True)
_FOLDER: Final = click.Path(path_type=Path, file_okay=False)
_DIFFERS: Final = 1
_SHOWN: Final = 50


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
    "--emulator", is_flag=True, help="Those of the emulator for `boot`, not those that images are made of."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Where to write them down  [default: {_LOCK}, or {_EMULATOR}]",
)
def lock(project: Path, out: Path | None, *, emulator: bool) -> None:
    """Choose the newest packages that Debian has signed, and write them down for `build`, or for `boot`."""
    from sottovoce.image.lock import Lock
    from sottovoce.image.resolve import debian_packages, resolve

    if emulator:
        from sottovoce.simulator.programs import PACKAGES

        found, usual = Lock(packages=debian_packages(PACKAGES), wheels=()), _EMULATOR
    else:
        found, usual = resolve(_read(project)), _LOCK
    out = out or usual
    out.write_bytes(found.to_toml())
    click.echo(f"{len(found.packages)} packages and {len(found.wheels)} wheels in {out}")


@image.command()
@click.argument("settings", type=_FILE)
@click.option("--lock", "lock_file", type=_FILE, default=_LOCK, show_default=True)
@click.option(
    "--source", type=_FOLDER, default=_SOURCE, show_default=True, help="The folder that holds `sottovoce`."
)
@click.option("--out", type=_FOLDER, required=True, help="Where the image's files are put.")
def build(settings: Path, lock_file: Path, source: Path, out: Path) -> None:
    """Build the image of the CVM that the document SETTINGS describes.

    The files, manifest.json with the launch digests, and sbom.json. The same source, lock and settings give the same bytes.
    """
    from sottovoce.image.build import sbom
    from sottovoce.image.lock import Lock

    made, manifest = _built(_read(settings), lock_file, source)
    described = {"sbom.json": sbom(Lock.parse(_read(lock_file)), made), "manifest.json": manifest.encode()}
    _write(out, made.files() | described)
    click.echo(
        f"{manifest.role}: {len(made.initrd) / 1e6:.1f} MB, {len(manifest.digests)} launch digests in {out}"
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
@click.option("--lock", "lock_file", type=_FILE, default=_LOCK, show_default=True)
@click.option("--source", type=_FOLDER, default=_SOURCE, show_default=True)
def rebuild(manifest: Path, lock_file: Path, source: Path) -> None:
    """Build a published image anew from the source here, and say that it is equal, or what differs.

    Where the image's files are beside MANIFEST, the files inside it that differ are named.
    """
    import base64

    from sottovoce.image.manifest import Manifest

    published = Manifest.parse(_read(manifest))
    made, ours = _built(base64.b64decode(published.settings), lock_file, source, like=published)
    if found := ours.differences(published):
        click.echo("Another image:")
        for line in found:
            click.echo(f"  {line}")
        if (manifest.parent / "initrd").exists():
            _compare(made, _image(manifest.parent))
        sys.exit(_DIFFERS)
    click.echo(f"Equal: {len(published.artifacts)} files and {len(published.digests)} launch digests.")


@image.command()
@click.option("--lock", "lock_file", type=_FILE, default=_LOCK, show_default=True)
@click.option("--source", type=_FOLDER, default=_SOURCE, show_default=True)
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
    context: "Context", lock_file: Path, source: Path, programs: Path | None, emulator_lock: Path
) -> None:
    """Boot an orchestrator's image in an emulator, among the other parties, until Ctrl-C: the research environment.

    The bytes are those that are measured; the machine is emulated, its security processor simulated, its memory open to you. Predictor and guard are processes, with the small model.
    """
    import time

    from sottovoce.cli import parties, show
    from sottovoce.core.errors import UnavailableError

    out = show.console()
    show.banner(out, simulated=True)
    programs = _emulator(programs, emulator_lock)
    with parties.open_world(context.world, small=True) as world:
        made, _ = _built(world.settings_document("orchestrator"), lock_file, source)
        folder = world.folder / "images" / "orchestrator-1"
        _write(folder, made.files())
        world.boot_image("orchestrator-1", folder, programs=programs)
        with parties.running(out, world, context.home):
            parties.show_parties(out, world)
            out.print("\nIn another terminal:\n", style="bold")
            out.print("    sottovoce settings enable")
            out.print("    sottovoce summarize examples/chats/book-club.txt --unread 40")
            out.print("    sottovoce image dump memory.bin")
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
    """Write all memory of the emulated machine to FILE: 512 MiB, to be searched."""
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


def _write(folder: Path, files: "Mapping[str, bytes]") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


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


def _built(
    settings: bytes, lock_file: Path, source: Path, *, like: "Manifest | None" = None
) -> "tuple[Image, Manifest]":
    from sottovoce.image.build import COMMAND_LINE, TABLES, build, materials, own_code
    from sottovoce.image.lock import Lock
    from sottovoce.image.manifest import Manifest
    from sottovoce.tee.settings import parse_settings

    role = parse_settings(settings).role
    wanted = Lock.parse(_read(lock_file))
    line, acpi = (like.command_line, like.acpi) if like else (COMMAND_LINE, TABLES)
    made = build(materials(wanted, _cache() / "packages", source), settings, command_line=line, acpi=acpi)
    code = own_code(source)
    return made, Manifest.of(made, role=role, settings=settings, acpi=acpi, lock=wanted, code=code)
