from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from device_kit import report
from sottovoce.cli.main import cli
from sottovoce.core.errors import UsageError
from sottovoce.device.reports import NoSuchReport, ReportStore, decode_export


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["--home", str(home), "report", *arguments], env={"COLUMNS": "200"})


def test_list(home: Path) -> None:
    assert "no reports yet" in run(home, "list").output
    ReportStore(home).add(report(id="abcdef01" + 24 * "0"))
    output = run(home, "list").output
    assert "abcdef01" in output
    assert "relay-a" in output


def test_show(home: Path) -> None:
    ReportStore(home).add(report(id="abcdef01" + 24 * "0", relay="[red]x"))
    output = run(home, "show", "abcdef").output
    for text in ("SIMULATED", "[red]x", "host-1, host-2", "release 4, host 1", "Signature", "pass", "3, 7"):
        assert text in output
    ReportStore(home).add(report(1, verdict=(), messages=(), message_count=0, outcome="unavailable"))
    assert "nothing was sent" in run(home, "show", "00000000").output
    assert isinstance(run(home, "show", "ffff").exception, NoSuchReport)


def test_what_does_not_hold_is_shown_with_what_an_attacker_gains(home: Path) -> None:
    (line,) = report().verdict[:1]
    hostile = msgspec.structs.replace(line, status="fail", risk="read \x1b[2J", found="\nall is well")
    relaxed = msgspec.structs.replace(line, id="policy-smt", status="relaxed", risk="watch")
    ReportStore(home).add(report(id="abcdef01" + 24 * "0", verdict=(line, hostile, relaxed)))
    output = run(home, "show", "abcdef").output
    assert f"{line.title} [{line.id}]" in output
    assert f"{line.id}: without it, an attacker could read \ufffd[2J\n" in output
    assert "policy-smt: the policy lets that pass, so an attacker could watch\n" in output
    assert "\ufffdall is well" in output
    assert "\x1b" not in output


def test_export(home: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        ReportStore(home).add(report(number))
    path = tmp_path / "out.json"
    assert run(home, "export", str(path)).exit_code == 0
    assert len(decode_export(path.read_bytes())) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert isinstance(run(home, "export", str(path)).exception, UsageError)
    one = tmp_path / "one.json"
    run(home, "export", str(one), "--id", report(2).id)
    assert [found.id for found in decode_export(one.read_bytes())] == [report(2).id]
    assert decode_export(run(home, "export", "-").stdout_bytes.rstrip()) == decode_export(path.read_bytes())


def test_delete(home: Path) -> None:
    ReportStore(home).add(report(1))
    run(home, "delete", report(1).id)
    assert ReportStore(home).list() == ()
