"""Binary HTTP against bhttp-js 0.2.1, both ways."""

from collections.abc import Iterator

import pytest

from peers.javascript import JavaScript
from sottovoce.core import bhttp
from sottovoce.core.bhttp_requests import RequestEncoder

pytestmark = pytest.mark.peer

CONTENT = bytes(range(256)) * 80
HEADERS = ((b"accept", b"text/html, */*;q=0.1"), (b"x-empty", b""), (b"x-long", b"v" * 500))
POST = bhttp.Request(
    method=b"POST",
    scheme=b"https",
    authority=b"example.com:8443",
    path=b"/v1/sessions",
    headers=HEADERS,
    content=CONTENT,
)
RESPONSE = bhttp.Response(status=201, headers=HEADERS, content=CONTENT)


@pytest.fixture(scope="module")
def peer() -> Iterator[JavaScript]:
    peer = JavaScript("bhttp_peer.mjs", "bhttp-js")
    yield peer
    peer.stop()


def text(headers: bhttp.Headers) -> list[list[str]]:
    return [[name.decode(), value.decode()] for name, value in headers]


def streamed_request(request: bhttp.Request, step: int) -> bytes:
    encoder = RequestEncoder()
    pieces = (request.content[at : at + step] for at in range(0, len(request.content), step))
    return encoder.head(request) + b"".join(map(encoder.data, pieces)) + encoder.end()


@pytest.mark.parametrize(
    "data",
    [
        bhttp.encode_request(POST),
        bhttp.encode_request(POST) + bytes(10),
        bhttp.encode_request(POST)[:-1],
        streamed_request(POST, len(CONTENT)),
    ],
    ids=["known", "padded", "truncated", "streamed"],
)
def test_they_read_our_requests(peer: JavaScript, data: bytes) -> None:
    theirs = peer.ask("decodeRequest", data=data.hex())
    assert theirs["method"] == "POST"
    assert theirs["url"] == "https://example.com:8443/v1/sessions"
    for line in text(HEADERS):
        assert line in theirs["headers"]
    assert theirs["content"] == CONTENT.hex()


@pytest.mark.parametrize("streamed", [False, True], ids=["known", "streamed"])
def test_they_read_our_responses(peer: JavaScript, *, streamed: bool) -> None:
    encoder = bhttp.ResponseEncoder()
    data = (
        encoder.head(201, HEADERS) + encoder.data(CONTENT) + encoder.end()
        if streamed
        else bhttp.encode_response(RESPONSE)
    )
    theirs = peer.ask("decodeResponse", data=data.hex())
    assert theirs["status"] == 201
    assert sorted(theirs["headers"]) == sorted(text(HEADERS))
    assert theirs["content"] == CONTENT.hex()


def test_we_read_their_requests(peer: JavaScript) -> None:
    theirs = peer.ask(
        "encodeRequest",
        method="POST",
        url="https://example.com:8443/v1/sessions",
        headers=text(HEADERS),
        content=CONTENT.hex(),
    )
    request = bhttp.decode_request(bytes.fromhex(theirs["data"]))
    assert (request.method, request.scheme, request.authority, request.path) == (
        POST.method,
        POST.scheme,
        POST.authority,
        POST.path,
    )
    assert set(HEADERS) <= set(request.headers)
    assert request.content == CONTENT


def test_we_read_their_responses(peer: JavaScript) -> None:
    theirs = peer.ask("encodeResponse", status=201, headers=text(HEADERS), content=CONTENT.hex())
    response = bhttp.decode_response(bytes.fromhex(theirs["data"]))
    assert response.status == 201
    assert set(HEADERS) <= set(response.headers)
    assert response.content == CONTENT
