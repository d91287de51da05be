import pytest

from sottovoce.core import hpke, ohttp, ohttp_chunked
from sottovoce.core.errors import DecodeError, ProtocolError
from sottovoce.device.ohttp_client import _StreamedAnswer

KEY = ohttp.GatewayKey(key_id=1, private_key=hpke.generate_private_key(hpke.X25519))


def answer(plain: bytes) -> _StreamedAnswer:
    sealer = ohttp_chunked.RequestSealer(KEY.config())
    request = ohttp_chunked.RequestOpener([KEY])
    request.feed(sealer.header() + sealer.final())
    request.finish()
    sealed = request.sealer()
    opened = _StreamedAnswer(sealer.opener())
    assert opened.feed(sealed.header() + sealed.final(plain)) == []
    return opened


def test_a_refusal_without_headers_and_content_is_a_refusal() -> None:
    # RFC 9292 section 3.1 lets a response end after its status.
    with pytest.raises(ProtocolError):
        answer(b"\x01\x41\x91").finish()


def test_an_answer_without_a_status_is_cut_short() -> None:
    with pytest.raises(DecodeError):
        answer(b"\x01").finish()


def test_an_empty_answer() -> None:
    assert answer(b"\x01\x40\xc8").finish() == []
