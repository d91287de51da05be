"""`sottovoce serve ROLE`: one party, one process, one configuration file."""

import importlib
from pathlib import Path
from typing import Final

import click

from sottovoce.core.errors import ConfigError

__all__ = ["serve"]

_APPS: Final = {
    "issuer": "sottovoce.edge.issuer",
    "gateway": "sottovoce.edge.gateway",
    "router": "sottovoce.edge.router",
    "relay": "sottovoce.thirdparty.relay",
    "cdn": "sottovoce.thirdparty.cdn",
    "log": "sottovoce.thirdparty.log",
    "witness": "sottovoce.thirdparty.witness",
}


@click.command()
@click.argument("role", type=click.Choice([*_APPS, "cvm", "host"]))
@click.option("--config", required=True, type=click.Path(path_type=Path, dir_okay=False), help="TOML.")
@click.option("--listen", default="", help="HOST:PORT to listen on.")
@click.option("--fd", type=int, default=None, help="A listening socket, inherited.")
@click.option("--ready-fd", type=int, default=None, help="Gets one byte when the party serves.")
def serve(role: str, config: Path, listen: str, fd: int | None, ready_fd: int | None) -> None:
    """Run one party as a service until it is told to stop.

    Issuer and gateway read their key folders again every minute, and at once on SIGHUP.

    `cvm` is a simulated machine: it measures and starts one CVM and holds its security processor. `host` is the host's side of a CVM that
    QEMU runs on real hardware: its papers, its log, its way to back ends.
    """
    from sottovoce.cli import process

    process.die_with_parent(ready_fd)
    sock = process.listening_socket(listen, fd)
    ready = process.ready_signal(ready_fd)
    data = _read(config)
    if role == "cvm":
        from sottovoce.simulator import launcher

        launcher.run(process.load_config(launcher.Config, data), sock, ready)
        return
    if role == "host":
        from sottovoce.edge import hostside

        hostside.run(process.load_config(hostside.Config, data), sock, ready)
        return
    module = importlib.import_module(_APPS[role])
    log = process.event_log()
    app = module.create_app(process.load_config(module.Config, data), log=log)
    process.run_asgi(app, sock, ready, reload=getattr(app, "reload", None))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        raise ConfigError("the configuration file cannot be read", hint=f"looked for {path}") from None
