"""A relay of each kind, with its real program: ours, nginx, HAProxy. The configurations are those of deploy/relay, with other addresses."""

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import edge_kit
from sottovoce.core.events import EventLog
from sottovoce.simulator.servers import find_program
from sottovoce.thirdparty.relay import Config, create_app

FOLDER: Final = Path(__file__).resolve().parents[1] / "deploy" / "relay"
KINDS: Final = ("ours", "nginx", "haproxy")
MODULE: Final = Path("/usr/lib/nginx/modules/ngx_http_headers_more_filter_module.so")


def missing(kind: str) -> str:
    """What a relay of this kind lacks on this machine, or an empty string."""
    if kind != "ours" and find_program(kind) is None:
        return f"{kind} is not installed"
    if kind == "nginx" and not MODULE.exists():
        return "nginx lacks its module headers-more (Debian: libnginx-mod-http-headers-more-filter)"
    return ""


def adapted(kind: str, *, port: int, gateway: str, mirror: str, folder: Path) -> str:
    """The configuration with addresses on loopback and without TLS; every line that is changed must be there."""
    gateway, mirror = (url.removeprefix("http://") for url in (gateway, mirror))
    if kind == "nginx":
        text = (FOLDER / "nginx.conf").read_text()
        changes = {
            "listen 443 ssl;": f"listen 127.0.0.1:{port};",
            "ssl_certificate /etc/sottovoce/relay.pem;": "",
            "ssl_certificate_key /etc/sottovoce/relay.key;": "",
            "server gateway.example:443;": f"server {gateway};",
            "server mirror.example:443;": f"server {mirror};",
            "proxy_pass https://gateway/ohttp;": "proxy_pass http://gateway/ohttp;",
            "proxy_pass https://mirror;": "proxy_pass http://mirror;",
            "worker_processes auto;": "worker_processes 1;",
            "proxy_cache_valid 200 5m;": "proxy_cache_valid 200 1s;",
            "/run/sottovoce-relay.pid": str(folder / "pid"),
            "/var/lib/nginx/": f"{folder}/",
        }
    else:
        text = (FOLDER / "haproxy.cfg").read_text()
        tls = " ssl verify required ca-file /etc/ssl/certs/ca-certificates.crt sni str({}.example)"
        changes = {
            "bind :443 ssl crt /etc/sottovoce/relay.pem alpn http/1.1": f"bind 127.0.0.1:{port}",
            "gateway.example:443" + tls.format("gateway"): gateway,
            "mirror.example:443" + tls.format("mirror"): mirror,
        }
    return _changed(text, changes | _IDENTITY[kind])


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Files in place of those that a machine of a relay's has, as PEM."""

    certificate: Path
    """The relay's own certificate and its key."""
    authority: Path
    """Whose certificates it takes of gateway and mirror."""


def adapted_with_tls(kind: str, *, port: int, gateway: str, mirror: str, folder: Path, tls: Tls) -> str:
    """The configuration with its TLS lines as they are: addresses are on loopback, and files are `tls`'s and in `folder`."""
    gateway, mirror = (url.removeprefix("https://") for url in (gateway, mirror))
    changes = {
        "gateway.example:443": gateway,
        "mirror.example:443": mirror,
        "/etc/ssl/certs/ca-certificates.crt": str(tls.authority),
        "/etc/sottovoce/relay.pem": str(tls.certificate),
    }
    if kind == "nginx":
        text = (FOLDER / "nginx.conf").read_text()
        changes |= {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "/etc/sottovoce/relay.key": str(tls.certificate),
            "worker_processes auto;": "worker_processes 1;",
            "/run/sottovoce-relay.pid": str(folder / "pid"),
            "/var/lib/nginx/": f"{folder}/",
        }
    else:
        text = (FOLDER / "haproxy.cfg").read_text()
        changes |= {"bind :443 ssl ": f"bind 127.0.0.1:{port} ssl "}
    return _changed(text, changes | _IDENTITY[kind])


_IDENTITY: Final[dict[str, dict[str, str]]] = (
    {"nginx": {}, "haproxy": {}}
    if os.geteuid() == 0
    else {
        "nginx": {"user nobody nogroup;": ""},
        "haproxy": {"    user haproxy\n    group haproxy\n": ""},
    }
)
"""Only root can become somebody else."""


def _changed(text: str, changes: Mapping[str, str]) -> str:
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"the configuration has no {old!r}")
        text = text.replace(old, new)
    return text


def check(kind: str, folder: Path, pem: bytes) -> "subprocess.CompletedProcess[bytes]":
    """Have the program read its configuration as it is, TLS included; only files and names are those of a machine of ours."""
    certificate, config = folder / "relay.pem", folder / "config"
    certificate.write_bytes(pem)
    text = (FOLDER / {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}[kind]).read_text()
    changes = {"/etc/sottovoce/relay.pem": str(certificate), "gateway.example:443": "127.0.0.1:443", "mirror.example:443": "127.0.0.1:443"}  # fmt: skip
    if kind == "nginx":
        changes |= {"/etc/sottovoce/relay.key": str(certificate), "/run/sottovoce-relay.pid": str(folder / "pid"), "/var/lib/nginx/": f"{folder}/"}  # fmt: skip
    config.write_text(_changed(text, changes | _IDENTITY[kind]))
    program = str(find_program(kind))
    command = [program, "-e", "stderr", "-t", "-c", str(config)] if kind == "nginx" else [program, "-c", "-f", str(config)]  # fmt: skip
    return subprocess.run(command, capture_output=True, check=False, timeout=20)


@contextlib.asynccontextmanager
async def relay(
    kind: str, *, gateway: str, mirror: str, log: list[str] | None = None, tls: Tls | None = None
) -> AsyncIterator[str]:
    """A relay of `kind` between clients and these two; gives its URL. What a program of others' writes comes to `log`.

    With `tls`, which ours does not speak, it is spoken on both sides.
    """
    lines = [] if log is None else log
    if kind == "ours":
        if tls is not None:
            raise AssertionError("ours speaks plain HTTP")
        config = Config(gateway=gateway + "/ohttp", mirror=mirror)
        async with edge_kit.serving(create_app(config, log=EventLog(lines.append))) as url:
            yield url
        return
    server = await asyncio.to_thread(_Server, kind, gateway, mirror, tls)
    try:
        await server.serves()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.port}"
    finally:
        lines += await asyncio.to_thread(server.stop)


class _Server:
    """A program of others' with a configuration of ours, in a folder of its own."""

    def __init__(self, kind: str, gateway: str, mirror: str, tls: Tls | None) -> None:
        self._place = tempfile.TemporaryDirectory(prefix="sottovoce-relay-")
        self._folder, self.port = Path(self._place.name), _free_port()
        self._folder.chmod(0o755)
        config = self._folder / "config"
        port, folder = self.port, self._folder
        config.write_text(
            adapted_with_tls(kind, port=port, gateway=gateway, mirror=mirror, folder=folder, tls=tls)
            if tls
            else adapted(kind, port=port, gateway=gateway, mirror=mirror, folder=folder)
        )
        with (self._folder / "output").open("wb") as output:
            self._process = subprocess.Popen(_command(kind, config), stdout=output, stderr=output)

    async def serves(self) -> None:
        """Wait until it takes connections."""
        async with asyncio.timeout(20):
            while self._process.poll() is None:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)
        raise AssertionError("the relay did not start")

    def stop(self) -> list[str]:
        """End it; what it wrote, and the names of any logs that it left."""
        self._process.terminate()
        self._process.wait()
        lines = (self._folder / "output").read_text().splitlines()
        lines += [f"left: {path.name}" for path in self._folder.rglob("*.log")]
        self._place.cleanup()
        return lines


def _command(kind: str, config: Path) -> list[str]:
    program = str(find_program(kind))
    if kind == "nginx":
        return [program, "-e", "stderr", "-g", "daemon off;", "-c", str(config), "-p", str(config.parent)]
    return [program, "-db", "-f", str(config)]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port
