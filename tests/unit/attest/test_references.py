"""Reference values that nothing could ever meet are an error of whoever gave them."""

from typing import Any

import pytest

from sottovoce.attest.references import compare, only, require_sizes
from sottovoce.attest.snp.verify import SnpReferences
from sottovoce.attest.tdx.verify import TdxReferences
from sottovoce.attest.verdict import Checklist, Rule, Status
from sottovoce.core.errors import UsageError

SNP: list[tuple[dict[str, Any], str]] = [
    ({"report_data": b"x"}, "report data"),
    ({"host_data": b"x"}, "host data"),
    ({"measurements": frozenset({b"x"})}, "measurement"),
    ({"measurements": frozenset({bytes(48), b"x"})}, "measurement"),
    ({"measurements": frozenset()}, "measurement"),
    ({"chips": frozenset({b"x"})}, "chip id"),
    ({"chips": frozenset({bytes(9)})}, "chip id"),
    ({"id_keys": frozenset({b"x"})}, "identity key digest"),
]
TDX: list[tuple[dict[str, Any], str]] = [
    ({"report_data": b"x"}, "report data"),
    ({"platforms": frozenset({b"x"})}, "platform id"),
    ({"modules": frozenset({b"x"})}, "measurement"),
    ({"mrtds": frozenset({b"x"})}, "measurement"),
    *(
        ({"rtmrs": (None,) * at + (frozenset({b"x"}),) + (None,) * (3 - at)}, "measurement")
        for at in range(4)
    ),
    ({"mr_config_id": b"x"}, "measurement"),
    ({"mr_owner": b"x"}, "measurement"),
    ({"mr_owner_config": b"x"}, "measurement"),
]


@pytest.mark.parametrize(
    ("kind", "values", "name"),
    [*((SnpReferences, *one) for one in SNP), *((TdxReferences, *one) for one in TDX)],
)
def test_a_value_of_another_size(kind: type, values: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert str(caught.value) == f"an expected {name} has a wrong length, or there is none"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"vmpl": 4}, "a VMPL is 0 to 3"),
        ({"vmpl": -1}, "a VMPL is 0 to 3"),
        ({"guest_svn": -1}, "a security version is not negative"),
    ],
)
def test_numbers_that_there_are_not(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SnpReferences(**values)


def test_there_are_four_registers() -> None:
    with pytest.raises(UsageError, match="four run-time measurements"):
        TdxReferences(rtmrs=(None,) * 3)


def test_the_numbers_that_there_are() -> None:
    for vmpl in range(4):
        assert SnpReferences(vmpl=vmpl, guest_svn=0).given == {"vmpl", "guest-svn"}
    require_sizes("value", None, (1,))
    require_sizes("value", [b"a", b"bb"], (1, 2))


def test_a_comparison() -> None:
    rule = {name: Rule("6.8", "title", "source", "risk") for name in ("one", "two", "three")}
    checks = Checklist(rule)
    compare("one", b"\x0a", only(b"\x0a"), checks)
    compare("two", b"\x0a", {b"\x0b", b"\x0c"}, checks)
    compare("three", b"\x0a", only(None), checks)
    lines = {line.id: (line.status, line.found, line.wanted) for line in checks.verdict().checks}
    assert lines["one"] == (Status.PASS, "0a", "0a")
    assert lines["two"] == (Status.FAIL, "0a", "0b or 0c")
    assert lines["three"][:2] == (Status.NOT_CHECKED, "0a; no reference value was given")


@pytest.mark.parametrize("size", [8, 64])
def test_a_chips_id_is_shorter_on_turin(size: int) -> None:
    assert SnpReferences(chips=frozenset({bytes(size)})).given == {"chip"}
