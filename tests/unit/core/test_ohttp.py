import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import hpke, ohttp, ohttp_chunked
from sottovoce.core.errors import DecodeError, LimitError, PeerError, ProtocolError, UsageError

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


def test_secrets_have_no_repr() -> None:
    sealed, _ = ohttp.seal_request(KEYS[0].config(), b"canary")
    assert "canary" not in repr(ohttp.open_request(KEYS, sealed))
    assert repr(KEYS[0].private_key) == "<hpke.PrivateKey>"
