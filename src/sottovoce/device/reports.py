"""The device's reports: one document a session, of what was sent to what and what was verified (protocol 9).

Kept in `reports.sqlite` (SQLite, WAL, STRICT, mode 0600) in the device's state directory. A report:

    id            32 hex digits, drawn by the device
    time          unix seconds at the start
    feature       "summary", "rewrite" or "chat"
    outcome       "done", or the code of the error that ended the session
    environment   name of the pinned environment
    simulated     whether the hardware was simulated
    relay         operator of the relay that carried the session
    size_class    bytes of the request, rounded up to its class; 0 when nothing was sent
    messages      ids of the messages sent, never their text; stays on the device, an export leaves it out
    message_count how many there were
    candidates    ids of the hosts that the device had drawn
    evidence      base64 of the evidence as received; empty when none came
    exporter, spki  base64 of the exporter value (32 bytes) and the SPKI (DER) that the evidence is bound to
    verdict       one object a check: section, id, title, status, found, wanted, source, risk
    release_index, host_index  log indexes, or null

An export is one canonical JSON document {"format":"sottovoce-reports","reports":[…],"version":1}.
"""

import base64
import binascii
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError, UsageError
from sottovoce.device.files import DiskError, private_directory

__all__ = [
    "CheckLine",
    "NoSuchReport",
    "Report",
    "ReportNotWritten",
    "ReportStore",
    "ReportsCorrupt",
    "decode_export",
    "new_report_id",
]

_FILE: Final = "reports.sqlite"
_FORMAT: Final = "sottovoce-reports"
_VERSION: Final = 1
_EXPORT_LIMIT: Final = 256 * 1024 * 1024
_ID: Final = re.compile(r"[0-9a-f]{32}")
_FEATURES: Final = ("summary", "rewrite", "chat")
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS reports (
    id TEXT NOT NULL PRIMARY KEY,
    time INTEGER NOT NULL,
    document BLOB NOT NULL
) STRICT
"""


class ReportNotWritten(DiskError):  # noqa: N818 - it says what happened
    """The report of a session could not be kept. The session itself may have gone well."""

    code = "disk.report"


class ReportsCorrupt(ConfigError):  # noqa: N818 - it says what happened
    """The report store is damaged, or not one that this program wrote."""

    code = "config.reports"


class NoSuchReport(UsageError):  # noqa: N818 - it says what happened
    """There is no report with that id."""

    code = "usage.report"


class CheckLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One line of a verdict, as `Check.to_json` gives it."""

    section: str
    id: str
    title: str
    status: str
    found: str
    wanted: str
    source: str
    risk: str


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One session; the fields are described at the head of this module.

    Raises:
        UsageError: a field's value is outside its form.
    """

    id: str
    time: int
    feature: str
    outcome: str
    environment: str
    simulated: bool
    relay: str
    size_class: int = 0
    messages: tuple[str, ...] = ()
    message_count: int = 0
    candidates: tuple[str, ...] = ()
    evidence: str = ""
    exporter: str = ""
    spki: str = ""
    verdict: tuple[CheckLine, ...] = ()
    release_index: int | None = None
    host_index: int | None = None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id) or self.feature not in _FEATURES or not self.outcome:
            raise UsageError("report with a wrong id, feature or outcome")
        if min(self.time, self.size_class, self.message_count) < 0:
            raise UsageError("report with a negative number")
        if self.messages and len(self.messages) != self.message_count:
            raise UsageError("report whose message count is not the number of its messages")
        for field in (self.evidence, self.exporter, self.spki):
            try:
                base64.b64decode(field, validate=True)
            except (binascii.Error, ValueError):
                raise UsageError("report with a field that is not base64") from None

    def __repr__(self) -> str:
        return f"<Report {self.id}>"


def new_report_id() -> str:
    """A fresh report id: 128 random bits, 32 hex digits."""
    return os.urandom(16).hex()


def decode_export(data: bytes) -> tuple[Report, ...]:
    """The reports of an exported document.

    Raises:
        DecodeError: not an export, or of another version.
    """
    value = canonical.decode(data, limit=_EXPORT_LIMIT)
    if not isinstance(value, dict) or set(value) != {"format", "reports", "version"}:
        raise DecodeError("not an export of reports")
    if value["format"] != _FORMAT or value["version"] != _VERSION:
        raise DecodeError("an export of reports of another version")
    return _convert(value["reports"])


def _convert(value: canonical.Json) -> tuple[Report, ...]:
    try:
        return msgspec.convert(value, type=tuple[Report, ...])
    except (msgspec.ValidationError, UsageError):
        raise DecodeError("a report that is not in the known form") from None


class ReportStore:
    """The reports in `directory`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / _FILE

    def check(self) -> None:
        """Return if a report can be kept, so that nothing is sent that would leave none.

        Raises:
            ReportsCorrupt: the store is damaged.
            DiskError: it cannot be opened.
        """
        try:
            with self._open():
                pass
        except sqlite3.OperationalError:
            raise DiskError(
                "the report store cannot be used", hint=f"is the disk full? The store is {self._path}"
            ) from None
        except sqlite3.Error:
            raise ReportsCorrupt("the report store is damaged", hint=f"look at {self._path}") from None

    def add(self, report: Report) -> None:
        """Keep `report`, all of it or nothing.

        Raises:
            ReportNotWritten: the disk is full or the store cannot be used. Tell the user.
        """
        row = (report.id, report.time, canonical.encode(msgspec.to_builtins(report)))
        try:
            with self._open() as database:
                database.execute("INSERT INTO reports (id, time, document) VALUES (?, ?, ?)", row)
        except sqlite3.IntegrityError:
            raise UsageError("a report with this id is there already") from None
        except (sqlite3.Error, DiskError):
            raise ReportNotWritten(
                "the report of this session could not be kept",
                hint=f"is the disk full? The store is {self._path}",
            ) from None

    def list(self) -> tuple[Report, ...]:
        """All reports, oldest first.

        Raises:
            ReportsCorrupt: the store is damaged.
        """
        # The order of arrival parts reports of one second; ids are drawn at random.
        return self._select("SELECT document FROM reports ORDER BY time, rowid")

    def get(self, report_id: str) -> Report:
        """The report with that id, or the one whose id begins with at least four of its digits.

        Raises:
            NoSuchReport: none, or more than one.
            ReportsCorrupt: the store is damaged.
        """
        known = re.fullmatch(r"[0-9a-f]{4,32}", report_id)
        found = self._select("SELECT document FROM reports WHERE id GLOB ?", f"{report_id}*") if known else ()
        if len(found) != 1:
            raise NoSuchReport(
                "there is no one report with this id", hint="`sottovoce report list` shows them"
            )
        return found[0]

    def export(self, report_id: str | None = None) -> bytes:
        """One report, or all, as one document that can be checked offline. Message ids are left out.

        Raises:
            NoSuchReport: there is none with that id.
            ReportsCorrupt: the store is damaged.
        """
        reports = self.list() if report_id is None else (self.get(report_id),)
        without_ids = [
            msgspec.to_builtins(msgspec.structs.replace(report, messages=())) for report in reports
        ]
        return canonical.encode({"format": _FORMAT, "version": _VERSION, "reports": without_ids})

    def delete(self, report_id: str) -> None:
        """Forget one report for good.

        Raises:
            NoSuchReport: there is none with that id.
            ReportsCorrupt: the store is damaged.
            DiskError: the store cannot be written.
        """
        found = self.get(report_id).id
        try:
            with self._open() as database:
                database.execute("DELETE FROM reports WHERE id = ?", (found,))
            with self._open() as database:
                # The deleted bytes are also in the write-ahead log until it is emptied.
                database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            raise DiskError("the report could not be deleted", hint=f"the store is {self._path}") from None

    def _select(self, query: str, *values: str) -> "tuple[Report, ...]":
        if not self._path.exists():
            return ()
        try:
            with self._open() as database:
                rows = database.execute(query, values).fetchall()
            documents = [canonical.decode(row[0], limit=_EXPORT_LIMIT) for row in rows]
            return _convert(documents)
        except (sqlite3.Error, DecodeError):
            raise ReportsCorrupt("the report store is damaged", hint=f"look at {self._path}") from None

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        private_directory(self._directory)
        try:
            # SQLite gives its own files the mode of the database; so this comes first.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        except OSError:
            raise DiskError("the report store cannot be opened", hint=f"looked at {self._path}") from None
        with closing(sqlite3.connect(self._path, timeout=5, isolation_level="IMMEDIATE")) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            database.execute("PRAGMA secure_delete = ON")
            database.execute(_SCHEMA)
            with database:
                yield database
