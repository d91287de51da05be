"""Kills gateways and stores of spent tokens hundreds of times, and counts tokens accepted twice: docs/spent-tokens.md.

python scripts/kill_loop.py [--store KIND]… [--kills N] [--json FILE]
"""

import sys
from dataclasses import asdict
from pathlib import Path

import click
import msgspec

from sottovoce.core.errors import ConfigError
from sottovoce.simulator import kill_loop


@click.command()
@click.option(
    "--store", "stores", type=click.Choice(kill_loop.STORES), multiple=True, help="One or more; default: all."
)
@click.option("--kills", default=300, show_default=True, help="Kills with each store.")
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), default=None)
def main(stores: tuple[str, ...], kills: int, output: Path | None) -> None:
    """Kill gateways and stores while tokens are spent; the exit code is 1 if a token was accepted twice."""
    results = []
    for kind in stores or kill_loop.STORES:
        try:
            counts = asdict(kill_loop.run(kind, kills))
        except ConfigError as error:
            click.echo(f"{kind}: {error}")
            continue
        results.append(counts)
        click.echo("\n".join(f"{name:22}{value}" for name, value in counts.items()) + "\n")
    if output is not None:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(results)))
    sys.exit(any(result["accepted_twice"] for result in results) or not results)


if __name__ == "__main__":
    main()
