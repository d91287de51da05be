import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import bhttp, hpke, ohttp, ohttp_chunked
from sottovoce.core.errors import DecodeError, LimitError, PeerError, ProtocolError, UsageError
from sottovoce.core.limits import LIMITS

KEYS = [
    ohttp.GatewayKey(key_id=n, private_key=hpke.generate_private_key(kem))
    for n, kem in enumerate(hpke.ENC_LENGTH)
]
KEMS = pytest.mark.parametrize("key", KEYS, ids=["x25519", "hybrid"])


@KEMS
def test_round_trip(key: ohttp.GatewayKey) -> None:
    sealed, opener = ohttp.seal_request(key.config(), b"question")
    opened = ohttp.open_request(KEYS, sealed)
    assert opened.content == b"question"
    assert opener.open(opened.sealer.seal(b"answer")) == b"answer"


@KEMS
def test_openers_and_sealers_work_once(key: ohttp.GatewayKey) -> None:
    sealed, opener = ohttp.seal_request(key.config(), b"q")
    sealer = ohttp.open_request(KEYS, sealed).sealer
    answer = sealer.seal(b"a")
    with pytest.raises(UsageError):
        sealer.seal(b"a")
    opener.open(answer)
    with pytest.raises(UsageError):
        opener.open(answer)


def test_the_answer_to_another_request() -> None:
    (one, opener), (other, _) = (ohttp.seal_request(KEYS[0].config(), b"q") for _ in range(2))
    assert one != other
    with pytest.raises(hpke.OpenError):
        opener.open(ohttp.open_request(KEYS, other).sealer.seal(b"a"))


@KEMS
@given(st.data())
def test_any_changed_byte_is_refused(key: ohttp.GatewayKey, data: st.DataObject) -> None:
    sealed, _ = ohttp.seal_request(key.config(), b"question")
    changed = bytearray(sealed)
    changed[data.draw(st.integers(0, len(sealed) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PeerError):
        ohttp.open_request(KEYS, bytes(changed))


@given(st.binary(max_size=2000))
def test_any_bytes_give_a_typed_error(data: bytes) -> None:
    with pytest.raises(PeerError):
        ohttp.open_request(KEYS, data)
    opener = ohttp_chunked.RequestOpener(KEYS)
    with pytest.raises(PeerError):
        (opener.feed(data), opener.finish())


def test_key_configs() -> None:
    configs = [key.config() for key in KEYS]
    data = ohttp.encode_key_configs(configs)
    assert ohttp.decode_key_configs(data) == configs
    assert ohttp.select_config(configs).kem_id == hpke.MLKEM768_X25519
    assert ohttp.select_config(configs[:1]).kem_id == hpke.X25519
    unknown = b"\x00\x05\x09\x00\x10ab"
    assert ohttp.decode_key_configs(unknown + data) == configs
    for bad in (b"", unknown, data[:-1], data + b"\x00", b"\x00\x02\x01\x00"):
        with pytest.raises(DecodeError):
            ohttp.decode_key_configs(bad)


def test_a_configuration_without_a_suite_of_ours() -> None:
    config = ohttp.KeyConfig(key_id=1, kem_id=hpke.X25519, public_key=bytes(32), symmetric=((9, 9),))
    with pytest.raises(ProtocolError):
        ohttp.seal_request(config, b"q")


def test_a_public_key_of_small_order() -> None:
    config = ohttp.KeyConfig(key_id=1, kem_id=hpke.X25519, public_key=bytes(32), symmetric=((1, 1),))
    with pytest.raises(PeerError):
        ohttp.seal_request(config, b"q")


def chunked(key: ohttp.GatewayKey, pieces: list[bytes]) -> tuple[bytes, ohttp_chunked.RequestSealer]:
    sealer = ohttp_chunked.RequestSealer(key.config())
    body = sealer.header() + b"".join(sealer.chunk(piece) for piece in pieces)
    return body + sealer.final(b"end"), sealer


@KEMS
@given(pieces=st.lists(st.binary(max_size=300), max_size=5), step=st.integers(1, 500))
def test_chunked_round_trip(key: ohttp.GatewayKey, pieces: list[bytes], step: int) -> None:
    data, sealer = chunked(key, pieces)
    request = ohttp_chunked.RequestOpener(KEYS)
    got = [chunk for at in range(0, len(data), step) for chunk in request.feed(data[at : at + step])]
    assert b"".join([*got, request.finish()]) == b"".join(pieces) + b"end"
    answer = request.sealer()
    stream = answer.header() + b"".join(answer.chunk(piece) for piece in pieces) + answer.final()
    response = sealer.opener()
    got = [chunk for at in range(0, len(stream), step) for chunk in response.feed(stream[at : at + step])]
    assert b"".join([*got, response.finish()]) == b"".join(pieces)


@given(st.data())
def test_a_cut_stream_is_never_whole(data: st.DataObject) -> None:
    stream, _ = chunked(KEYS[0], [b"one", b"two"])
    opener = ohttp_chunked.RequestOpener(KEYS)
    opener.feed(stream[: data.draw(st.integers(0, len(stream) - 1))])
    with pytest.raises((DecodeError, hpke.OpenError)):
        opener.finish()


def test_chunks_out_of_order_or_repeated() -> None:
    sealer = ohttp_chunked.RequestSealer(KEYS[0].config())
    head, one, two = sealer.header(), sealer.chunk(b"one"), sealer.chunk(b"two")
    for order in (two + one, one + one):
        with pytest.raises(hpke.OpenError):
            ohttp_chunked.RequestOpener(KEYS).feed(head + order)


def test_a_chunk_beyond_the_limit_is_refused_by_its_length() -> None:
    sealer = ohttp_chunked.RequestSealer(KEYS[0].config())
    with pytest.raises(LimitError):
        ohttp_chunked.RequestOpener(KEYS).feed(sealer.header() + b"\x80\x10\x00\x00")


def test_order_of_use() -> None:
    sealer = ohttp_chunked.RequestSealer(KEYS[0].config())
    sealer.final()
    with pytest.raises(UsageError):
        sealer.chunk(b"x")
    with pytest.raises(UsageError):
        sealer.final()
    with pytest.raises(UsageError):
        ohttp_chunked.RequestOpener(KEYS).sealer()


HEADERS = st.lists(
    st.tuples(
        st.from_regex(rb"[a-z-]{1,10}", fullmatch=True),
        st.binary(max_size=20).filter(lambda v: not set(v) & set(b"\0\r\n")),
    ),
    max_size=3,
)


@given(HEADERS, st.binary(max_size=200), HEADERS)
def test_binary_http_round_trip(
    headers: list[tuple[bytes, bytes]], content: bytes, trailers: list[tuple[bytes, bytes]]
) -> None:
    request = bhttp.Request(
        method=b"POST",
        scheme=b"https",
        authority=b"x",
        path=b"/v1",
        headers=tuple(headers),
        content=content,
        trailers=tuple(trailers),
    )
    assert bhttp.decode_request(bhttp.encode_request(request) + bytes(5)) == request
    response = bhttp.Response(status=201, headers=tuple(headers), content=content, trailers=tuple(trailers))
    assert bhttp.decode_response(bhttp.encode_response(response)) == response


@given(HEADERS, st.lists(st.binary(min_size=1, max_size=50), max_size=4), st.integers(1, 60))
def test_streamed_response_however_it_is_split(
    headers: list[tuple[bytes, bytes]], pieces: list[bytes], step: int
) -> None:
    encoder = bhttp.ResponseEncoder()
    streamed = encoder.head(200, tuple(headers)) + b"".join(map(encoder.data, pieces)) + encoder.end()
    known = bhttp.encode_response(
        bhttp.Response(status=200, headers=tuple(headers), content=b"".join(pieces))
    )
    for data in (streamed, known):
        decoder, events = bhttp.ResponseDecoder(), []
        for at in range(0, len(data), step):
            events += decoder.feed(data[at : at + step])
        decoder.finish()
        assert events[0] == bhttp.Head(status=200, headers=tuple(headers))
        assert events[-1] == bhttp.End()
        assert b"".join(e.data for e in events if isinstance(e, bhttp.Content)) == b"".join(pieces)
        assert bhttp.decode_response(data).content == b"".join(pieces)


@given(st.binary(max_size=100))
def test_any_bytes_are_binary_http_or_a_typed_error(data: bytes) -> None:
    for decode in (bhttp.decode_request, bhttp.decode_response, bhttp.ResponseDecoder().feed):
        try:
            decode(data)
        except PeerError:
            continue


@pytest.mark.parametrize(
    "data",
    [b"", b"\x01", b"\x04", b"\x00\x03GET", b"\x00\x00\x05https\x00\x01/", bhttp.encode_request(bhttp.Request(method=b"GET", scheme=b"h", authority=b"", path=b"/", headers=((b"Upper", b"x"),)))],
)  # fmt: skip
def test_malformed_requests(data: bytes) -> None:
    with pytest.raises(DecodeError):
        bhttp.decode_request(data)


def test_padding_must_be_zero_and_a_body_bounded() -> None:
    request = bhttp.Request(method=b"GET", scheme=b"https", authority=b"x", path=b"/")
    with pytest.raises(DecodeError, match="padding"):
        bhttp.decode_request(bhttp.encode_request(request) + b"\x01")
    response = bhttp.encode_response(bhttp.Response(status=200, content=bytes(2 * LIMITS.request)))
    with pytest.raises(LimitError):
        bhttp.decode_response(response)


def test_a_cut_streamed_response_is_not_whole() -> None:
    decoder = bhttp.ResponseDecoder()
    decoder.feed(bhttp.ResponseEncoder.head(200) + bhttp.ResponseEncoder.data(b"x"))
    with pytest.raises(DecodeError):
        decoder.finish()


def test_secrets_have_no_repr() -> None:
    sealed, _ = ohttp.seal_request(KEYS[0].config(), b"canary")
    assert "canary" not in repr(ohttp.open_request(KEYS, sealed))
    assert repr(KEYS[0].private_key) == "<hpke.PrivateKey>"
