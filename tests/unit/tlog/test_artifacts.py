import hashlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core.errors import DecodeError, SottovoceError
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.artifacts import (
    MAX_FILES,
    ArtifactFormError,
    ArtifactLimitError,
    File,
    Tree,
    artifact_digest,
    check_name,
)
from sottovoce.tlog.members import EntryKindError


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def file(path: str, data: bytes = b"x") -> File:
    return File(path=path, size=len(data), sha256=sha(data).hex())


def digest(files: dict[str, bytes], *, name: str = "set", purpose: str = "prompts") -> str:
    return Tree.of(file(path, data) for path, data in files.items()).digest(name=name, purpose=purpose)


# By hand, from the definition in docs/artifacts.md.


def test_one_file_by_hand() -> None:
    content = b"weights"
    node = sha(b"sottovoce/1 artifact file\x00" + struct.pack(">Q", 7) + sha(content))
    wanted = sha(
        b"sottovoce/1 artifact\x00\x00\x09inference\x00\x06m.gguf\x01" + node,
    )
    assert digest({"": content}, name="m.gguf", purpose="inference") == wanted.hex()
    given = artifact_digest(name="m.gguf", purpose="inference", sha256=sha(content).hex(), size=7)
    assert given == wanted.hex()
    # Written down, so that a change of the definition is seen: docs/artifacts.md has the same.
    assert given == "8e2d4616909de6cf0c85a8f94e9390985a5a48717a25f429eb4603c3ed29dd7f"


def test_a_folder_by_hand() -> None:
    def node(data: bytes) -> bytes:
        return sha(b"sottovoce/1 artifact file\x00" + struct.pack(">Q", len(data)) + sha(data))

    inner = sha(b"sottovoce/1 artifact folder\x00\x00\x00\x00\x01\x01\x00\x01c" + node(b"three"))
    outer = sha(
        b"sottovoce/1 artifact folder\x00\x00\x00\x00\x02\x01\x00\x01a"
        + node(b"one")
        + b"\x02\x00\x01b"
        + inner
    )
    wanted = sha(b"sottovoce/1 artifact\x00\x00\x07prompts\x00\x03set\x02" + outer).hex()
    assert (
        digest({"a": b"one", "b/c": b"three"})
        == wanted
        == "32264c22fceca8c17510dff46eb9448714682c9031f41f19ad8fe28951efc174"
    )


# Row 19: whatever is not the contents counts too.

BASE = {"headline.json": b"one", "rewrite.json": b"two"}


@pytest.mark.parametrize(
    ("files", "more"),
    [
        ({"headline.json": b"two", "rewrite.json": b"one"}, {}),  # two files renamed
        ({"headline.json": b"one", "rewrite": b"two"}, {}),
        ({"headline.json": b"one", "x/rewrite.json": b"two"}, {}),
        ({"x/headline.json": b"one", "x/rewrite.json": b"two"}, {}),
        ({"headline.json": b"onetwo"}, {}),
        ({"headline.json": b"one", "rewrite.json": b"two", "z": b""}, {}),
        ({"headline.json": b"one", "rewrite.json": b"tvo"}, {}),
        (BASE, {"purpose": "inference"}),  # used for another purpose
        (BASE, {"name": "other"}),
        (BASE, {"name": "setp", "purpose": "rompts"}),
    ],
)
def test_another_artifact_has_another_digest(files: dict[str, bytes], more: dict[str, Any]) -> None:
    assert digest(files, **more) != digest(BASE)


def test_a_file_is_never_a_folder_nor_the_other_way() -> None:
    assert len({digest({"": b"x"}), digest({"set": b"x"}), digest({"a": b"x"}), digest({"a/a": b"x"})}) == 4


def test_the_order_in_which_files_are_given_says_nothing() -> None:
    assert digest(dict(reversed(BASE.items()))) == digest(BASE)
    # In the order of bytes: "a-b" stands before "a/b" by path, and after "a" by name.
    assert digest({"a/b": b"1", "a-b": b"2"}) == digest({"a-b": b"2", "a/b": b"1"})


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a\\b", "a\x00", "a\nb", " a", "a ", "a\u0301", "\u212b", "a\u202eb", "\ufeffa", "a\ud800", "\ue000", "\u0378"],
)  # fmt: skip
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ArtifactFormError):
        check_name(name)
    with pytest.raises(ArtifactFormError):
        file(f"folder/{name}")


@pytest.mark.parametrize("name", ["a", "\u00e1.txt", "a b", "-", "~", "...", "\u4e2d\u6587", "x" * 255])
def test_names_that_are_allowed(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("paths", "error", "words"),
    [
        ([], ArtifactFormError, "without files"),
        (["", "a"], ArtifactFormError, "not both"),
        (["a", "a"], ArtifactFormError, "twice"),
        (["a", "a/b"], ArtifactFormError, "of one name"),
        (["A", "a"], ArtifactFormError, "upper and lower case"),
        (["x/stra\u00dfe", "x/STRASSE"], ArtifactFormError, "upper and lower case"),
        (["A/x", "a/y"], ArtifactFormError, "upper and lower case"),
        ([f"f{n}" for n in range(MAX_FILES + 1)], ArtifactLimitError, "too many files"),
    ],
)
def test_sets_of_files_that_are_no_artifact(
    paths: list[str], error: type[SottovoceError], words: str
) -> None:
    with pytest.raises(error, match=words):
        Tree.of(map(file, paths))


def test_limits() -> None:
    with pytest.raises(ArtifactLimitError, match="nested"):
        file("a/" * 8 + "b")
    with pytest.raises(ArtifactLimitError, match="too long"):
        file("\u00e9" * 128)
    with pytest.raises(ArtifactLimitError, match="too many bytes"):
        Tree.of([File(path="", size=(1 << 40) + 1, sha256="0" * 64)])
    for values in ({"size": -1}, {"sha256": "0" * 63}, {"sha256": "G" * 64}):
        with pytest.raises(ArtifactFormError, match="digest or length"):
            File(**{"path": "", "size": 0, "sha256": "0" * 64, **values})  # type: ignore[arg-type]
    with pytest.raises(ArtifactFormError, match="not in order"):
        Tree(files=(file("b"), file("a")))
    for name, purpose in (("a/b", "p"), ("a", ""), ("\u00e9", "p"), ("a", "p\n")):
        with pytest.raises(ArtifactFormError, match="name or purpose"):
            Tree.of([file("")]).digest(name=name, purpose=purpose)


# As a log entry

PUBLIC = ArtifactEntry.of(Tree.of(map(file, ("a", "b/c"))), name="set", purpose="prompts", public=True)
PRIVATE = ArtifactEntry.of(Tree.of([file("")]), name="weights", purpose="inference", public=False)


@pytest.mark.parametrize("entry", [PUBLIC, PRIVATE])
def test_an_entry_there_and_back(entry: ArtifactEntry) -> None:
    assert ArtifactEntry.parse(entry.encode()) == entry
    assert entry.listed().digest == entry.digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"path":"a"', b'"path":"d"'),
        (b'"purpose":"prompts"', b'"purpose":"promptt"'),
        (b'"visibility":"public"', b'"visibility":"private"'),
        (b'"visibility":"public"', b'"visibility":"secret"'),
        (b'"bytes":2', b'"bytes":3'),
        (b'"path":"a"', b'"path":"c"'),
        (b'"path":"b/c"', b'"path":"b//c"'),
        (b'"path":"b/c"', b'"path":"/c"'),
        (b'"path":"b/c"', b'"path":"../c"'),
        (b'"name":"set"', b'"name":"set","new":1'),
    ],
)
def test_an_entry_that_does_not_hold_together_is_refused(old: bytes, new: bytes) -> None:
    changed = PUBLIC.encode().replace(old, new)
    assert changed != PUBLIC.encode()
    with pytest.raises(DecodeError):
        ArtifactEntry.parse(changed)


def test_an_entry_of_another_kind_is_refused() -> None:
    with pytest.raises(EntryKindError):
        ArtifactEntry.parse(PUBLIC.encode().replace(b'"kind":"artifact"', b'"kind":"host"'))


NAMES = st.text(st.characters(codec="utf-8"), max_size=4)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(
    st.dictionaries(PATHS, st.binary(max_size=3), max_size=4),
    st.dictionaries(PATHS, st.binary(max_size=3), max_size=4),
)
def test_two_artifacts_have_one_digest_only_if_they_are_one(
    one: dict[str, bytes], other: dict[str, bytes]
) -> None:
    try:
        first, second = digest(one), digest(other)
    except SottovoceError:
        return
    assert (first == second) == (one == other)
