import base64
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_kit import no_file_above, report
from sottovoce.core import canonical
from sottovoce.core.errors import DecodeError, UsageError
from sottovoce.device.files import DiskError
from sottovoce.device.reports import (
    NoSuchReport,
    ReportNotWritten,
    ReportsCorrupt,
    ReportStore,
    decode_export,
    new_report_id,
)


@pytest.fixture
def store(tmp_path: Path) -> ReportStore:
    return ReportStore(tmp_path / "home")


def test_nothing_yet(store: ReportStore, tmp_path: Path) -> None:
    assert store.list() == ()
    assert decode_export(store.export()) == ()
    assert not (tmp_path / "home").exists()


def test_add_list_get(store: ReportStore, tmp_path: Path) -> None:
    later, earlier = (
        report(2),
        report(1, outcome="verification", verdict=(), release_index=None, messages=(), message_count=0),
    )
    store.add(later)
    store.add(earlier)
    assert store.list() == (earlier, later)
    assert store.get(later.id) == later
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "home").iterdir()] == [0o600]
    assert (tmp_path / "home").stat().st_mode & 0o777 == 0o700


def test_reports_of_one_second_in_the_order_in_which_they_came(store: ReportStore) -> None:
    ids = [digit * 32 for digit in "c5f0a3"]
    for one in ids:
        store.add(report(id=one))
    assert [one.id for one in store.list()] == ids


def test_get_by_the_first_digits(store: ReportStore) -> None:
    for first in ("abcd1", "abcd2"):
        store.add(report(id=first + "0" * 27))
    assert store.get("abcd1").id == "abcd1" + "0" * 27
    for wanted in ("abcd", "ffff", "abc", "", "*", "ABCD1", "abcd1" + "0" * 28, "abcd?", "' OR 1=1"):
        with pytest.raises(NoSuchReport):
            store.get(wanted)


def test_one_id_once(store: ReportStore) -> None:
    store.add(report())
    with pytest.raises(UsageError, match="already"):
        store.add(report(outcome="other"))
    assert store.list() == (report(),)


def test_export_can_be_read_and_leaves_message_ids_out(store: ReportStore) -> None:
    store.add(report(1))
    store.add(report(2))
    exported = decode_export(store.export())
    assert exported == tuple(msgspec.structs.replace(report(number), messages=()) for number in (1, 2))
    assert [one.message_count for one in exported] == [2, 2]
    assert decode_export(store.export(report(2).id)) == exported[1:]
    document = json.loads(store.export())
    assert (document["format"], document["version"]) == ("sottovoce-reports", 1)
    assert canonical.encode(document) == store.export()


def test_delete_leaves_no_byte(store: ReportStore, tmp_path: Path) -> None:
    store.add(report(1, relay="canary-1"))
    store.add(report(2, relay="canary-2"))
    store.delete(report(1).id)
    assert store.list() == (report(2, relay="canary-2"),)
    left = b"".join(path.read_bytes() for path in (tmp_path / "home").iterdir())
    assert b"canary-1" not in left
    assert b"canary-2" in left
    with pytest.raises(NoSuchReport):
        store.delete(report(1).id)


def test_a_full_disk_is_told_and_leaves_nothing_half_written(store: ReportStore) -> None:
    store.add(report(1))
    with no_file_above(16_384), pytest.raises(ReportNotWritten) as caught:
        store.add(report(2, evidence=base64.b64encode(bytes(60_000)).decode()))
    assert caught.value.code == "disk.report"
    assert isinstance(caught.value, DiskError)
    assert store.list() == (report(1),)
    store.add(report(2))
    assert len(store.list()) == 2


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ReportNotWritten):
        ReportStore(tmp_path / "file").add(report())


def test_a_damaged_store(store: ReportStore, tmp_path: Path) -> None:
    store.add(report())
    path = tmp_path / "home/reports.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("UPDATE reports SET document = x'7b7d'")
    database.close()
    with pytest.raises(ReportsCorrupt):
        store.list()
    path.write_bytes(b"not a database, by far" * 100)
    for action in (store.list, store.export, lambda: store.get("0" * 32), lambda: store.delete("0" * 32)):
        with pytest.raises(ReportsCorrupt):
            action()
    with pytest.raises(ReportNotWritten):
        store.add(report())


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "xyz"},
        {"id": "A" * 32},
        {"feature": "draft"},
        {"outcome": ""},
        {"time": -1},
        {"size_class": -1},
        {"message_count": 1},
        {"evidence": "not base64"},
        {"spki": "YQ"},
        {"exporter": "é"},
    ],
)
def test_a_report_is_checked_when_made(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        report(**changes)


def test_repr_shows_no_field() -> None:
    assert repr(report(relay="canary")) == f"<Report {report().id}>"


def test_ids_differ() -> None:
    assert len(new_report_id()) == 32
    assert new_report_id() != new_report_id()


GOOD = canonical.encode(
    {"format": "sottovoce-reports", "version": 1, "reports": [msgspec.to_builtins(report())]}
)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        GOOD + b" ",
        GOOD.replace(b'"version":1', b'"version":2'),
        GOOD.replace(b"sottovoce-reports", b"other"),
        GOOD.replace(b'"outcome":"done"', b'"outcome":""'),
        GOOD.replace(b'"relay":"relay-a",', b""),
        GOOD.replace(b'"relay"', b'"extra":1,"relay"'),
        GOOD.replace(b'"status":"pass"', b'"status":1'),
    ],
)
def test_what_is_no_export(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_export(data)


@given(st.binary(max_size=60), st.integers(0, len(GOOD)))
def test_any_bytes(data: bytes, at: int) -> None:
    for hostile in (data, GOOD[:at] + data + GOOD[at + len(data) :]):
        try:
            decode_export(hostile)
        except DecodeError:
            continue
