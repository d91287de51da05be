import pytest

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError, UsageError
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.tlog.note import COSIGNATURE, Note, SignatureError, SigningKey, sign_note
from sottovoce.tlog.publication import Publishers, PublishersError, combine, is_release, sign_release

ENTRY = EvidenceWorld().releases["guard"].encode()
ANNA, BEN, CARL = (SigningKey.generate(f"publisher.{name}") for name in ("anna", "ben", "carl"))
PUBLISHERS = Publishers([ANNA.verifier, BEN.verifier])


def submit(*keys: SigningKey, entry: bytes = ENTRY) -> bytes:
    return combine(entry, [sign_release(entry, key) for key in keys])


def test_two_holders_publish() -> None:
    assert PUBLISHERS.release(submit(ANNA, BEN)) == ENTRY
    assert PUBLISHERS.release(submit(BEN, ANNA)) == ENTRY


@pytest.mark.parametrize(
    "keys", [(ANNA,), (ANNA, ANNA), (ANNA, CARL), (CARL,), (ANNA, BEN, CARL), (ANNA, BEN, BEN)]
)
def test_one_key_twice_or_a_stranger_do_not(keys: tuple[SigningKey, ...]) -> None:
    with pytest.raises(PublishersError):
        PUBLISHERS.release(submit(*keys))


def test_a_signature_of_another_release_does_not_count() -> None:
    other = ENTRY.replace(b'"version":"0.1.0"', b'"version":"0.1.1"')
    mixed = combine(ENTRY, [sign_release(ENTRY, ANNA), sign_release(other, BEN)])
    with pytest.raises(SignatureError):
        PUBLISHERS.release(mixed)


def test_one_person_under_two_names_is_no_two_people() -> None:
    twin = SigningKey(name="publisher.twin", kind=ANNA.kind, private=ANNA.private)
    for keys in ((ANNA, twin), (ANNA, ANNA), (ANNA,)):
        with pytest.raises(ConfigError, match="two keys"):
            Publishers([key.verifier for key in keys])
    renamed = SigningKey(name=ANNA.name, kind=BEN.kind, private=BEN.private)
    with pytest.raises(ConfigError, match="two keys"):
        Publishers([ANNA.verifier, renamed.verifier])


def test_only_keys_for_publishing_publish() -> None:
    for key in (SigningKey.generate("directory.example"), SigningKey.generate("publisher.w", COSIGNATURE)):
        with pytest.raises(UsageError):
            sign_release(ENTRY, key)
        with pytest.raises(ConfigError):
            Publishers([ANNA.verifier, key.verifier])


def test_without_publishers_nothing_is_published() -> None:
    with pytest.raises(PublishersError):
        Publishers([]).release(submit(ANNA, BEN))


def test_only_releases_are_published() -> None:
    host = EvidenceWorld().hosts["guard"].encode()
    with pytest.raises(DecodeError):
        sign_release(host, ANNA)
    with pytest.raises(DecodeError):
        PUBLISHERS.release(sign_note(host.decode() + "\n", [ANNA, BEN]).encode())
    with pytest.raises(DecodeError):
        PUBLISHERS.release(Note(text="x\n", signatures=sign_note("x\n", [ANNA, BEN]).signatures).encode())
    with pytest.raises(DecodeError):
        PUBLISHERS.release(b"x")


def test_what_a_verifier_could_take_for_a_release_is_one() -> None:
    assert is_release(ENTRY)
    assert is_release(canonical.encode({"kind": "release"}))
    for entry in (b"", b"entry", b'{ "kind":"release"}', canonical.encode({"kind": "host"}), b"[]"):
        assert not is_release(entry)
