"""`sottovoce directory keys`: the keys of one day, each made where it is kept, and the key that signs directories."""

import time
from pathlib import Path

import click

from sottovoce.cli.directoryinput import FILE, FOLDER, at_epoch, public_keys, write_public

__all__ = ["keys"]


@click.group()
def keys() -> None:
    """Make one day's keys, where they are kept, and write down what is public of them."""


@keys.command("issuer")
@click.argument("folder", type=FOLDER)
@at_epoch
@click.option("--type-5", is_flag=True, help="A key for tokens of type 5 as well.")
@click.option("--out", required=True, type=FILE, help="Gets the public keys, for `prepare` and the gateways.")
def issuer_keys(folder: Path, epoch: int, *, type_5: bool, out: Path) -> None:
    """Make the issuer's keys of one day in FOLDER, if they are not there."""
    from sottovoce.edge.issuerkeys import forget_issuer_keys, make_issuer_keys

    public = make_issuer_keys(folder, epoch, type_5=type_5)
    write_public(out, public.encode())
    gone = forget_issuer_keys(folder, int(time.time()), made=epoch)
    click.echo(f"The issuer's keys of epoch {epoch} are in {folder}; {gone} old ones were deleted.")


@keys.command("gateway")
@click.argument("folder", type=FOLDER)
@at_epoch
@click.option(
    "--issuer", "issuers", type=FILE, multiple=True, help="The issuer's public keys, to check tokens with."
)
@click.option(
    "--issuer-folder",
    type=FOLDER,
    default=None,
    help="Where its secret keys of type 5 are, if there are any.",
)
@click.option("--out", required=True, type=FILE, help="Gets the public keys, for `prepare`.")
def gateway_keys(
    folder: Path, epoch: int, *, issuers: tuple[Path, ...], issuer_folder: Path | None, out: Path
) -> None:
    """Make a gateway's OHTTP keys of one day in FOLDER, if they are not there, and lay the issuer's beside them."""
    from sottovoce.edge.gatewaykeys import forget_gateway_keys, lay_token_keys, make_gateway_keys

    for one in issuers:
        lay_token_keys(folder, public_keys(one), secrets=issuer_folder)
    write_public(out, make_gateway_keys(folder, epoch).encode())
    gone = forget_gateway_keys(folder, int(time.time()), made=epoch)
    click.echo(f"The gateway's keys of epoch {epoch} are in {folder}; {gone} old ones were deleted.")


@keys.command("signing")
@click.argument("name")
@click.option("--out", required=True, type=FILE, help="Gets the secret key; it must not exist.")
def signing_key(name: str, *, out: Path) -> None:
    """Make the key that signs directories, once, and print the public key, which devices pin. NAME is the key's."""
    from sottovoce.core.errors import ConfigError, DecodeError
    from sottovoce.edge.files import write_new
    from sottovoce.tlog.note import SigningKey

    try:
        key = SigningKey.generate(name)
        public = str(SigningKey.parse(key.secret()).verifier)
    except DecodeError:
        raise ConfigError("a key cannot have this name", hint="like directory.example.org") from None
    write_new(out, key.secret().encode())
    click.echo(public)
