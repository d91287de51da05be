"""A mirror and a relay of the attacker's, which give one device another directory than everybody else gets."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sottovoce.attacks.attack import Outcome, Result
from sottovoce.core.errors import UnavailableError
from sottovoce.core.tokens import epoch_at
from sottovoce.edge.directories import open_directory, sign_directory
from sottovoce.tlog.directoryfiles import note_name
from sottovoce.tlog.entries import Directory

if TYPE_CHECKING:
    from sottovoce.attacks.lab import Lab

__all__ = ["Silent", "listening", "serving", "show_directory"]

_REFUSED: Final = frozenset({"directory.refused"})


class Silent(BaseHTTPRequestHandler):
    """Writes no line for each request."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def listening(handler: type[Silent]) -> Iterator[str]:
    """A server of the attacker's on loopback; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def serving(files: Mapping[str, bytes]) -> Iterator[str]:
    """Serves `files` by their names, in any folder, as mirrors and relays do; gives the URL."""

    class Handler(Silent):
        def do_GET(self) -> None:
            data = files.get(self.path.rpartition("/")[2])
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

    with listening(Handler) as url:
        yield url


def show_directory(lab: "Lab", forge: Callable[[Directory], Directory]) -> Iterator[Result]:
    """Shows a new device today's directory as `forge` changes it, signed with the operator's key: by the mirror, and by both ways.

    Raises:
        UnavailableError: the device does not take the genuine directory from the same hands.
    """
    name, folder = note_name(epoch_at(int(time.time()))), lab.world.folder / "mirror"
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    key = lab.directory_key
    forged = sign_directory(forge(open_directory(files[name], key.verifier)), key)
    with serving(files) as genuine, serving(files | {name: forged}) as other:
        if _shown(lab, mirrors=[genuine]):
            raise UnavailableError("a device does not take the genuine directory", party="directory")
        for tries, ways in (
            ("one device is shown it by the mirror; the relay gives everybody's", {"mirrors": [other]}),
            (
                "one device is shown it by mirror and relay together; it is not in the log",
                {"mirrors": [other], "relays": [other]},
            ),
        ):
            yield Result(tries=tries, wanted=_REFUSED, outcome=Outcome(stopped_by=_shown(lab, **ways)))


def _shown(lab: "Lab", **ways: Any) -> frozenset[str]:
    with lab.passing():
        return lab.ask_anew(msgspec.structs.replace(lab.world.environment(), **ways))
