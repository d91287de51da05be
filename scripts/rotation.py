"""Changes of day under load: keys and directories are exchanged, and failed requests are counted: docs/directory.md.

python scripts/rotation.py [--rotations N] [--devices N] [--json FILE]
"""

import sys
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from sottovoce.simulator import rotation


@click.command()
@click.option("--rotations", default=2, show_default=True, help="Changes of day.")
@click.option("--devices", default=16, show_default=True, help="Devices that keep asking.")
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), default=None)
def main(rotations: int, devices: int, output: Path | None) -> None:
    """Ask while the day changes; the exit code is 1 if a request failed, or a device fetched more than once more."""
    counts = asdict(rotation.run(rotations, devices=devices))
    click.echo("\n".join(f"{name:22}{value}" for name, value in counts.items()))
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(counts)))
    sys.exit(counts["failed"] > 0 or counts["failed_beside"] > 0 or counts["most_extra_fetches"] > 1)


if __name__ == "__main__":
    main()
