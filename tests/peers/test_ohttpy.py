"""Oblivious HTTP against ohttpy 0.1a13, a client on the Rust crates `ohttp` and `bhttp`.

It seals a request in one piece, as RFC 9458 says, but names it chunked; it expects an answer in chunks as of an early draft, whose
keys come from RFC 9458's label, and leaves out its final chunk, and large ones. So the gateway here opens with `open_request`, and seals
chunks under those keys.
"""

import http.server
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import ClassVar

import pytest

from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked

KEY = ohttp.GatewayKey(key_id=7, private_key=hpke.generate_private_key(hpke.X25519))
PIECES = (b"first", b"second", b"third")


class Gateway(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    requests: ClassVar[list[bhttp.Request]] = []

    def do_POST(self) -> None:
        opened = ohttp.open_request([KEY], self.rfile.read(int(self.headers["content-length"])))
        self.requests.append(bhttp.decode_request(opened.content))
        context, suite, nonce = opened.sealer._context, KEY.config().suite, os.urandom(16)
        assert context
        keys = ohttp.response_keys(context, suite, b"message/bhttp response", opened.enc, nonce)
        sealer = ohttp_chunked._Sealer(nonce, ohttp_chunked._ResponseKeys(*keys).seal)
        answer = sealer.header() + b"".join(map(sealer.chunk, PIECES)) + sealer.final()
        self.send_response(200)
        self.send_header("content-type", "message/ohttp-chunked-res")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gateway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/sessions"
        server.shutdown()
        thread.join()


# In its own process: it holds the interpreter's lock while it waits for the answer.
CLIENT = """
import json, sys, ohttpy.ohttpy
given = json.load(sys.stdin)
response = ohttpy.ohttpy.Client().send_request(
    method="POST", url=given["url"], headers={"x-a": "b", "x-empty": ""}, body=b"hello" * 300,
    key_config=bytes.fromhex(given["keys"]),
)
pieces = []
while (piece := response.chunk()) is not None:
    pieces.append(bytes(piece).hex())
print(json.dumps({"status": response.status_code(), "pieces": pieces}))
"""


def test_a_real_client(url: str) -> None:
    if importlib.util.find_spec("ohttpy") is None:
        pytest.skip("ohttpy is not here")
    given = {"url": url, "keys": ohttp.encode_key_configs([KEY.config()]).hex()}
    client = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=json.dumps(given),
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    answer = json.loads(client.stdout)
    assert answer == {"status": 200, "pieces": [piece.hex() for piece in PIECES]}

    (request,) = Gateway.requests
    assert (request.method, request.scheme, request.path) == (b"POST", b"http", b"/v1/sessions")
    assert {(b"x-a", b"b"), (b"x-empty", b"")} <= set(request.headers)
    assert request.content == b"hello" * 300
