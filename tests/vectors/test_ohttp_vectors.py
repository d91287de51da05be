"""RFC 9458 appendix A, draft-ietf-ohai-chunked-ohttp-08's appendix, RFC 9292 section 5."""

import json
from typing import Any

import pytest

from fixtures_dir import need
from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked

# RFC 9458 appendix A
GATEWAY_SK = bytes.fromhex("3c168975674b2fa8e465970b79c8dcf09f1c741626480bd4c6162fc5b6a98e1a")
KEY_CONFIG = "01002031e1f05a740102115220e9af918f738674aec95f54db6e04eb705aae8e79815500080001000100010003"
REQUEST = bytes.fromhex("00034745540568747470730b6578616d706c652e636f6d012f")
ENCAPSULATED = bytes.fromhex(
    "010020000100014b28f881333e7c164ffc499ad9796f877f4e1051ee6d31bad19dec96c208b4726374e469135906992e1268c594d2a10c"
    "695d858c40a026e7965e7d86b83dd440b2c0185204b4d63525"
)
RESPONSE_NONCE = bytes.fromhex("c789e7151fcba46158ca84b04464910d")
ENCAPSULATED_RESPONSE = "c789e7151fcba46158ca84b04464910d86f9013e404feea014e7be4a441f234f857fbd"


def test_rfc_9458_appendix_a() -> None:
    key = ohttp.GatewayKey(key_id=1, private_key=hpke.PrivateKey.from_bytes(hpke.X25519, GATEWAY_SK))
    assert key.config().encode().hex() == KEY_CONFIG
    opened = ohttp.open_request([key], ENCAPSULATED)
    assert opened.content == REQUEST
    assert (
        opened.sealer._unsafe_seal_with_nonce(bytes.fromhex("0140c8"), RESPONSE_NONCE).hex()
        == ENCAPSULATED_RESPONSE
    )


def test_rfc_9458_appendix_a_is_minimal_binary_http() -> None:
    request = bhttp.decode_request(REQUEST)
    assert (request.method, request.scheme, request.authority, request.path) == (
        b"GET",
        b"https",
        b"example.com",
        b"/",
    )
    assert bhttp.decode_response(bytes.fromhex("0140c8")).status == 200


def chunked() -> Any:
    return json.loads(need("ohttp/chunked_ohttp_08_appendix.json").read_bytes())


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_chunked_request(step: int) -> None:
    vector = chunked()
    private = hpke.PrivateKey.from_bytes(hpke.X25519, bytes.fromhex(vector["gateway_sk"]))
    opener = ohttp_chunked.RequestOpener([ohttp.GatewayKey(key_id=1, private_key=private)])
    data = bytes.fromhex(vector["encapsulated_request"])
    chunks = [chunk for at in range(0, len(data), step) for chunk in opener.feed(data[at : at + step])]
    chunks.append(opener.finish())
    assert [len(chunk) for chunk in chunks] == vector["request_chunk_plaintext_lengths"]
    assert b"".join(chunks).hex() == vector["bhttp_request"]


def test_chunked_response() -> None:
    vector = chunked()
    enc = bytes.fromhex(vector["client_eph_pk"])
    suite = hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, hpke.AES_128_GCM)
    private = hpke.PrivateKey.from_bytes(hpke.X25519, bytes.fromhex(vector["gateway_sk"]))
    context = hpke.setup_recipient(suite, private, enc, bytes.fromhex(vector["info"]))
    assert context.export(b"message/bhttp chunked response", 16).hex() == vector["export_secret"]
    opener = ohttp_chunked.ResponseOpener(context, suite, enc)  # type: ignore[arg-type]  # both sides export alike
    chunks = opener.feed(bytes.fromhex(vector["encapsulated_response"]))
    assert b"".join([*chunks, opener.finish()]).hex() == vector["bhttp_response"]


@pytest.mark.parametrize("name", ["known_length_request", "indeterminate_request_with_10B_padding"])
def test_rfc_9292_requests(name: str) -> None:
    request = bhttp.decode_request(
        bytes.fromhex(json.loads(need("bhttp/rfc9292_examples.json").read_bytes())[name])
    )
    assert (request.method, request.path, request.authority) == (b"GET", b"/hello.txt", b"")
    assert bhttp.header(request.headers, b"host") == b"www.example.com"
    assert [name for name, _ in request.headers] == [b"user-agent", b"host", b"accept-language"]


def test_rfc_9292_responses() -> None:
    examples = json.loads(need("bhttp/rfc9292_examples.json").read_bytes())
    response = bhttp.decode_response(bytes.fromhex(examples["indeterminate_response_with_1xx"]))
    assert [item.status for item in response.informational] == [102, 103]
    assert response.status == 200
    assert response.content == b"Hello World! My content includes a trailing CRLF.\r\n"
    for name in ("known_length_response_with_trailer", "indeterminate_response_with_trailer"):
        response = bhttp.decode_response(bytes.fromhex(examples[name]))
        assert response.content == b"This content contains CRLF.\r\n"
        assert response.trailers == ((b"trailer", b"text"),)


def test_our_encoding_is_the_specifications() -> None:
    examples = json.loads(need("bhttp/rfc9292_examples.json").read_bytes())
    for name in ("known_length_request", "minimal_request_rfc9458"):
        data = bytes.fromhex(examples[name])
        encoded = bhttp.encode_request(bhttp.decode_request(data))
        assert encoded.rstrip(b"\0") == data.rstrip(b"\0")
