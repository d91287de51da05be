import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.tlog.note import (
    COSIGNATURE,
    Note,
    NoteSignature,
    SignatureError,
    SigningKey,
    VerifierKey,
    sign_note,
)

# C2SP signed-note, "Example"
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ER"
    "YNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()


def test_the_example_of_the_specification() -> None:
    key, note = VerifierKey.parse(VKEY), Note.parse(NOTE)
    assert str(key) == VKEY
    assert note.encode() == NOTE
    assert note.text == "This is an example message.\n"
    assert note.signed_by(key)


def test_a_changed_text_is_an_error_and_an_unknown_key_is_ignored() -> None:
    with pytest.raises(SignatureError):
        Note.parse(NOTE.replace(b"example message", b"exbmple message")).signed_by(VerifierKey.parse(VKEY))
    assert not Note.parse(NOTE).signed_by(SigningKey.generate("example.com/foo").verifier)


def test_cosignatures_carry_their_time() -> None:
    key = SigningKey.generate("witness.example/w1", COSIGNATURE)
    text = "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    note = Note(
        text=text, signatures=(key.cosign(text, time=1_700_000_000), key.cosign(text, time=1_600_000_000))
    )
    assert Note.parse(note.encode()).cosigned_at(key.verifier) == 1_700_000_000
    assert note.cosigned_at(SigningKey.generate("witness.example/w2", COSIGNATURE).verifier) is None
    with pytest.raises(SignatureError):
        Note(text=text.replace("1\n", "2\n", 1), signatures=note.signatures).cosigned_at(key.verifier)


def test_a_cosignature_is_never_a_log_signature() -> None:
    key = SigningKey.generate("example.com/x", COSIGNATURE)
    with pytest.raises(UsageError):
        sign_note("text\n", [key])
    with pytest.raises(SignatureError):
        key.verifier.verify(bytes(64), b"text\n")


@pytest.mark.parametrize(
    "data",
    [b"", b"text\n", b"text\n\n", NOTE[:-1], NOTE.replace(b"\xe2\x80\x94", b"-"), NOTE.replace(b"=\n", b"\n"),
     b"a\x00b" + NOTE, b"\xff" + NOTE, NOTE.replace(b"example.com/foo ", b""), NOTE.replace(b"Uw2Q", b"Uw 2")],
)  # fmt: skip
def test_malformed_notes(data: bytes) -> None:
    with pytest.raises(DecodeError):
        Note.parse(data)


@pytest.mark.parametrize(
    "text", ["", "a+b", VKEY[:-1], VKEY.replace("530d", "530e"), VKEY.replace("+Aek", "+Bek"), "+" + VKEY]
)
def test_malformed_keys(text: str) -> None:
    with pytest.raises(DecodeError):
        VerifierKey.parse(text)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_note_or_a_typed_error(data: bytes) -> None:
    for candidate in (data, NOTE + data, data + NOTE):
        try:
            note = Note.parse(candidate)
        except DecodeError:
            continue
        assert note.encode() == candidate


def test_a_signing_key_survives_its_text_form_and_hides_it() -> None:
    key = SigningKey.generate("example.com/foo")
    again = SigningKey.parse(key.secret())
    assert again.verifier == key.verifier
    assert key.secret().split("+", 2)[2] not in repr(key)


def test_a_cosignatures_time_fits_a_signed_number_and_is_never_zero() -> None:
    # C2SP tlog-cosignature, "Format", and tlog-witness, "add-checkpoint"
    key = SigningKey.generate("witness.example/w1", COSIGNATURE)
    text = "example.com/log\n1\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    largest = key.cosign(text, time=(1 << 63) - 1)
    assert Note(text=text, signatures=(largest,)).cosigned_at(key.verifier) == (1 << 63) - 1
    for time in (0, -1, 1 << 63):
        with pytest.raises(UsageError):
            key.cosign(text, time=time)
    time = 1 << 63
    signature = key.private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
    line = NoteSignature(
        name=key.name, key_id=key.verifier.key_id, signature=time.to_bytes(8, "big") + signature
    )
    with pytest.raises(SignatureError, match="out of range"):
        Note(text=text, signatures=(line,)).cosigned_at(key.verifier)


def test_sixteen_signatures_are_read_and_thirty_three_refused() -> None:
    # C2SP signed-note, "Format": at least up to 16
    line = NOTE.partition(b"\n\n")[2]
    assert len(Note.parse(NOTE + line * 15).signatures) == 16
    with pytest.raises(DecodeError, match="too many"):
        Note.parse(NOTE + line * 32)
