"""`sottovoce verify snp | tdx | session`: exit codes 0 accepted, 1 refused, 2 unusable input, 3 wrong use; text and JSON."""

import base64
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from collector_kit import table
from fixtures_dir import need
from sottovoce.attest.pem import certificates
from sottovoce.attest.snp.certtable import ARK, ASK, CRL, VCEK
from sottovoce.cli.main import cli

SCHEMA = json.loads((Path(__file__).resolve().parents[3] / "docs" / "verdict.schema.json").read_text())
AT_SNP = ("--at", "2026-05-01")
AT_TDX = ("--at", "2025-06-20T12:00:00Z")


def run(*arguments: str | Path, stdin: bytes = b"", home: Path | None = None) -> Result:
    before = ("--home", str(home)) if home else ()
    words = [*before, "verify", *map(str, arguments)]
    return CliRunner().invoke(cli, words, input=stdin, env={"COLUMNS": "250"})


def snp() -> tuple[str | Path, ...]:
    folder = "sev-snp/teekit"
    return (
        "snp",
        "--report", need(f"{folder}/sev-gcp.bin"),
        "--vcek", need(f"{folder}/sev-gcp-vcek.pem"),
        "--crl", need("sev-snp/crl/milan_crl.der"),
    )  # fmt: skip


def tdx(name: str = "tdx_quote") -> tuple[str | Path, ...]:
    folder = "tdx/dcap-qvl"
    return (
        "tdx",
        "--quote", need(f"{folder}/{name}"),
        "--collateral", need(f"{folder}/{name}_collateral.json"),
    )  # fmt: skip


def verdict(result: Result) -> dict[str, object]:
    document: dict[str, object] = json.loads(result.stdout)
    jsonschema.validate(document, SCHEMA)
    return document


def failed(result: Result) -> set[str]:
    return {line["id"] for line in json.loads(result.stdout)["checks"] if line["status"] == "fail"}


# Accepted and refused.


def test_a_real_snp_report_under_chain_only() -> None:
    result = run(*snp(), *AT_SNP, "--policy", "chain-only", "--json")
    assert result.exit_code == 0
    document = verdict(result)
    assert (document["platform"], document["policy"], document["accepted"]) == ("sev-snp", "chain-only", True)
    text = run(*snp(), *AT_SNP, "--policy", "chain-only")
    assert text.exit_code == 0
    assert "ACCEPTED  sev-snp, policy chain-only, as of 2026-05-01 00:00:00 UTC" in text.stdout
    assert "What was not checked proves nothing" in text.stdout


def test_a_real_snp_report_under_strict() -> None:
    result = run(*snp(), *AT_SNP, "--json")
    assert result.exit_code == 1
    assert verdict(result)["accepted"] is False
    assert {"product", "tcb-floor", "policy-smt"} <= failed(result)
    text = run(*snp(), *AT_SNP)
    assert text.exit_code == 1
    assert "without it, an attacker could watch the CVM from a thread on the same core" in text.stdout
    assert "REFUSED  sev-snp, policy strict" in text.stdout


def test_a_real_tdx_quote_under_strict() -> None:
    result = run(*tdx(), *AT_TDX, "--json")
    assert result.exit_code == 0
    document = verdict(result)
    assert (document["platform"], document["at"], document["simulated"]) == ("tdx", 1750420800, False)
    assert run(*tdx(), *AT_TDX).exit_code == 0


def test_a_tdx_quote_with_stale_collateral_or_old_patches() -> None:
    stale = run(*tdx(), "--at", "2025-08-01", "--json")
    assert stale.exit_code == 1
    assert failed(stale) == {"tdx-collateral-dates"}
    old = run(*tdx("tdx_quote_outdated"), "--at", "2026-03-01", "--json")
    assert old.exit_code == 1
    assert failed(old) == {"tdx-tcb-status", "tdx-advisories"}


def test_the_time_is_now_if_none_is_given() -> None:
    assert failed(run(*tdx(), "--json")) == {"tdx-collateral-dates"}


@pytest.mark.parametrize("command", [snp, tdx])
def test_other_report_data_are_refused(command: object) -> None:
    arguments = (*snp(), *AT_SNP) if command is snp else (*tdx(), *AT_TDX)
    result = run(*arguments, "--policy", "chain-only", "--report-data", "0x" + "ab" * 64, "--json")
    assert result.exit_code == 1
    assert failed(result) == {"report-data"}


def test_a_replayed_event_log_of_another_machine() -> None:
    log = need("tdx/go-tdx-guest/ccel_data.dat")
    result = run(*tdx(), *AT_TDX, "--event-log", log, "--json")
    assert result.exit_code == 1
    assert failed(result) == {"tdx-event-log"}


# The forms of files.


def test_der_pem_hexadecimal_and_standard_input(tmp_path: Path) -> None:
    _, _, report, _, vcek, _, crl = snp()
    (der,) = certificates(Path(vcek).read_bytes())
    forms = {
        "der": der,
        "hex": der.hex().encode(),
        "0x": b"0x" + der.hex().upper().encode() + b"\n",
        "pem": b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n",
    }
    for form, data in forms.items():
        path = tmp_path / form
        path.write_bytes(data)
        result = run(
            "snp", "--report", report, "--vcek", path, "--crl", crl, *AT_SNP, "--policy", "chain-only"
        )
        assert result.exit_code == 0, form
    hexadecimal = Path(report).read_bytes().hex().encode()
    for stdin in (Path(report).read_bytes(), hexadecimal):
        result = run("snp", "--report", "-", "--vcek", vcek, *AT_SNP, "--policy", "chain-only", stdin=stdin)
        assert result.exit_code == 0


def test_a_quote_in_base64_and_in_json(tmp_path: Path) -> None:
    text = base64.b64encode(Path(tdx()[2]).read_bytes())
    for form in (text, b'{"quote": "' + text + b'"}'):
        (tmp_path / "quote").write_bytes(form)
        assert run("tdx", "--quote", tmp_path / "quote", *tdx()[3:], *AT_TDX).exit_code == 0


def test_where_the_event_log_is() -> None:
    result = run(*tdx(), *AT_TDX, "--event-log", need("tdx/go-tdx-guest/ccel_table.dat"))
    assert result.exit_code == 2
    assert "/sys/firmware/acpi/tables/data/CCEL" in result.output


def snp_forms(tmp_path: Path) -> dict[str, tuple[str | Path, ...]]:
    """One report and its certificates, in the forms that kernels, hosts and tools have."""
    _, _, report_file, _, vcek_file, _, crl_file = snp()
    report, crl = Path(report_file).read_bytes(), Path(crl_file).read_bytes()
    (vcek,) = certificates(Path(vcek_file).read_bytes())
    ask, ark = certificates(need("sev-snp/teekit/sev-gcp-cert-chain.pem").read_bytes())

    def file(name: str, data: bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    def pem(*ders: bytes) -> bytes:
        return b"".join(
            b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"
            for der in ders
        )

    hosts = table((ARK, ark), (ASK, ask), (VCEK, vcek), (CRL, crl))
    plain = file("report", report)
    return {
        "behind the report": ("--report", file("extended", report + hosts)),
        "a table": ("--report", plain, "--vcek", file("auxblob", hosts)),
        "the device's answer": (
            "--report",
            file("answer", (struct.pack("<II", 0, 1184) + bytes(24) + report).ljust(4000, b"\0")),
            "--vcek",
            vcek_file,
            "--crl",
            crl_file,
        ),
        "root first": (
            "--report",
            plain,
            "--vcek",
            file("backwards", pem(ark, ask, vcek)),
            "--crl",
            crl_file,
        ),
        "base64": (
            "--report",
            file("text", base64.encodebytes(report)),
            "--vcek",
            file("vcek", base64.b64encode(vcek)),
            "--crl",
            file("crl", base64.b64encode(crl)),
        ),
        "chain with the root": (
            *("--report", plain, "--vcek", vcek_file, "--crl", crl_file),
            *("--chain", file("chain", pem(ark, ask))),
        ),
    }


@pytest.mark.parametrize(
    "form",
    ["behind the report", "a table", "the device's answer", "root first", "base64", "chain with the root"],
)
def test_forms_of_a_report_and_its_certificates(form: str, tmp_path: Path) -> None:
    result = run("snp", *snp_forms(tmp_path)[form], *AT_SNP, "--policy", "chain-only", "--json")
    assert result.exit_code == 0, result.output
    lines = {line["id"]: line["status"] for line in json.loads(result.stdout)["checks"]}
    assert lines["signature"] == lines["chain"] == lines["revoked"] == "pass"


@pytest.mark.parametrize(
    "at", ["2026-05-01", "20260501", "2026-05-01T00:00:00Z", "20260501T020000+0200", "1777593600"]
)
def test_one_moment_in_each_form(at: str) -> None:
    result = run(*snp(), "--at", at, "--policy", "chain-only", "--json")
    assert (result.exit_code, json.loads(result.stdout)["at"]) == (0, 1777593600)


def test_a_shared_keys_report_is_explained_as_such() -> None:
    folder = "sev-snp/coco-trustee"
    papers = ("--report", need(f"{folder}/test-vlek-report.bin"), "--vcek", need(f"{folder}/test-vlek.der"))
    when = ("--at", "2025-06-01")
    assert run("snp", *papers, *when, "--policy", "chain-only").exit_code == 0
    strict = run("snp", *papers, *when)
    assert strict.exit_code == 1
    assert "signing key is a VCEK: VLEK, the certificate is a VLEK's" in strict.stdout
    assert "signed by the root: there is no revocation list" in strict.stdout
    assert (
        "none in the certificate" not in strict.stdout
    )  # the id in the report is masked, which is said first


# Unusable input.


def test_input_that_is_unusable(tmp_path: Path) -> None:
    _, _, report, _, vcek, _, _ = snp()
    secret = tmp_path / "letter.txt"
    secret.write_bytes(b"my dearest, nobody must read this")
    empty, key = tmp_path / "empty", tmp_path / "key.pem"
    empty.touch()
    key.write_bytes(
        b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(b"my dearest") + b"-----END PRIVATE KEY-----\n"
    )
    latin = policy(tmp_path, "")
    latin.write_bytes("version = 1 # é".encode("latin-1"))
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(17 * 1024 * 1024)
    cases = [
        ("snp", "--report", secret, "--vcek", vcek),
        ("snp", "--report", report, "--vcek", secret),
        ("snp", "--report", report, "--vcek", vcek, "--crl", secret),
        ("snp", "--report", report, "--vcek", vcek, "--chain", secret),
        ("snp", "--report", report, "--vcek", report),
        ("snp", "--report", huge, "--vcek", vcek),
        ("snp", "--report", tmp_path / "missing", "--vcek", vcek),
        ("tdx", "--quote", secret, "--collateral", secret),
        (*tdx()[:3], "--collateral", secret),
        (*tdx(), "--event-log", secret),
        (*snp(), "--policy", secret),
        (*snp(), "--policy", "lenient"),
        (*snp(), "--policy", latin),
        (*snp(), "--policy", tmp_path),
        # A file that is given counts, also where the policy could do without it.
        *(
            (*snp(), option, file, "--policy", "chain-only")
            for option in ("--chain", "--crl")
            for file in (empty, key)
        ),
        (*snp(), "--chain", need("sev-snp/crl/milan_crl.der"), "--policy", "chain-only"),
        ("snp", "--report", key, "--vcek", vcek),
        ("snp", "--report", report, "--vcek", key),
        ("snp", "--report", need("tdx/dcap-qvl/tdx_quote"), "--vcek", vcek),
        ("snp", "--report", tmp_path, "--vcek", vcek),
        ("snp", "--report", report, "--vcek", tmp_path),
        ("tdx", "--quote", report, "--collateral", tdx()[4]),
        (*tdx()[:3], "--collateral", empty),
        (*tdx(), "--event-log", empty),
        (*tdx(), "--event-log", tmp_path),
        ("nvidia", "--evidence", empty),
        ("nvidia", "--evidence", tmp_path),
        ("session", empty),
        ("session", tmp_path),
        (
            "tdx",
            "--quote",
            need("tdx/dcap-qvl/sgx_quote"),
            "--collateral",
            need("tdx/dcap-qvl/sgx_quote_collateral.json"),
        ),
        ("session", secret),
        ("live", "tcp://127.0.0.1:1"),
        ("live", "https://example.org"),
        *(
            ("live", f"tcp://{address}")
            for address in ("[::1:80", "localhost", f"{'a' * 64}:1", "127.0.0.1:99999")
        ),
    ]
    for case in cases:
        result = run(*case, home=tmp_path / "home")
        assert result.exit_code == 2, (case, result.output)
        assert "dearest" not in result.output
        assert "sottovoce:" in result.output
        assert "Traceback" not in result.output
    paravisors = need("sev-snp/coco-az-snp-vtpm/hcl-report.bin")
    hint = run("snp", "--report", paravisors, "--vcek", vcek)
    assert hint.exit_code == 2
    assert "sottovoce verify paravisor" in hint.output


# Wrong use.


def test_wrong_use() -> None:
    for case in (
        (),
        ("other",),
        ("snp",),
        snp()[:3],
        ("tdx", "--quote", "-"),
        (*snp(), "--report-data", "ab"),
        (*snp(), "--report-data", "z" * 128),
        (*snp(), "--at", "yesterday"),
        (*snp(), "--at", "99999999999999999999"),
        (*snp(), "--unknown"),
        ("--unknown",),
        (*snp(), "more"),
        (*snp(), "--at", ""),
        (*snp(), "--at", "0001-01-01T00:00+14:00"),
        (*snp(), "--at", "9999-12-31T23:59:59-12:00"),
        ("snp", "--report", "-", "--vcek", "-"),
        ("live", "tcp://127.0.0.1:1", "--role", "king"),
    ):
        result = run(*case, stdin=Path(str(snp()[2])).read_bytes())
        assert result.exit_code == 3, (case, result.output)
        assert "Usage" in result.output
        assert result.stdout == ""


def test_an_error_leaves_standard_output_empty(tmp_path: Path) -> None:
    for words in (("--report", tmp_path), ("--report-data", "ab")):
        result = run(*snp(), *words, "--json")
        assert result.exit_code in {2, 3}
        assert result.stdout == ""
        assert result.stderr


# Policies as files.


def policy(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return path


def test_a_policy_from_a_file(tmp_path: Path) -> None:
    allowed = policy(tmp_path, 'version = 1\nrelax = ["tdx-collateral-dates"]\n')
    result = run(*tdx(), "--at", "2025-08-01", "--policy", allowed, "--json")
    assert result.exit_code == 0
    document = verdict(result)
    assert document["relaxed"] == ["tdx-collateral-dates"]
    assert document["policy"] == str(allowed)
    text = run(*tdx(), "--at", "2025-08-01", "--policy", allowed)
    assert "relaxed by the policy: tdx-collateral-dates" in text.stdout
    tighter = policy(tmp_path, "version = 1\n[tdx]\nevaluation = 18\n")
    assert failed(run(*tdx(), *AT_TDX, "--policy", tighter, "--json")) == {"tdx-evaluation"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 2\n",
        "version = 1\nother = 1\n",
        'version = 1\nrelax = ["tdx-signature"]\n',
        'version = 1\nrelax = ["everything"]\n',
        'version = 1\nrelax = "product"\n',
        'version = 1\ndemand = ["product"]\n',
        "version = 1\n[snp]\nproducts = []\n",
        'version = 1\n[snp]\nproducts = ["Simulated"]\n',
        "version = 1\n[snp.floors.Genoa]\nsnp = 1\n",
        'version = 1\n[snp.floors.Rome]\nbootloader=0\ntee=0\nsnp=0\nmicrocode=0\nsource=""\n',
        'version = 1\n[snp.expect]\nreport_data = "00"\n',
        "version = 1\n[snp.expect]\nmeasurements = []\n",
        "version = 1\n[snp.expect]\nvmpl = 4\n",
        'version = 1\n[tdx]\nstatuses = ["Revoked"]\n',
        "version = 1\n[tdx]\nstatuses = []\n",
        'version = 1\n[tdx]\nadvisories = ["CVE-1"]\n',
        "version = 1\n[tdx]\nevaluation = -1\n",
        "version = 1\n[tdx]\nevaluation = true\n",
        'version = 1\n[tdx.expect]\nrtmr4 = ["00"]\n',
        'version = 1\n[nvidia]\nmodes = ["OFF"]\n',
        "version = 1\nversion = 1\n",
        f"version = {'1' * 5000}\n",
        'version = 1\n"\\u001b[2Jconfig" = 1\n',
    ],
)
def test_a_policy_that_cannot_be(tmp_path: Path, text: str) -> None:
    for command in (snp(), tdx()):
        result = run(*command, "--policy", policy(tmp_path, text))
        assert result.exit_code == 2, result.output
        assert "config" in result.output
        assert "\x1b" not in result.output


def test_what_a_file_lowers_is_part_of_the_verdict(tmp_path: Path) -> None:
    text = """
        version = 1
        relax = ["policy-smt"]
        [snp]
        products = ["Genoa", "Milan"]
        [snp.floors.Milan]
        bootloader = 0
        tee = 0
        snp = 27
        microcode = 219
        source = "mine"
    """
    found = verdict(run(*snp(), *AT_SNP, "--policy", policy(tmp_path, text), "--json"))
    assert found["relaxed"] == ["policy-smt", "product", "tcb-floor"]
    old = tdx("tdx_quote_outdated")
    text = 'version = 1\n[tdx]\nstatuses = ["OutOfDate"]\nadvisories = ["INTEL-SA-00001"]\n'
    found = verdict(run(*old, "--at", "2026-03-01", "--policy", policy(tmp_path, text), "--json"))
    assert found["relaxed"] == ["tdx-advisories", "tdx-tcb-status"]
    shown = run(*old, "--at", "2026-03-01", "--policy", policy(tmp_path, text))
    assert "  relaxed by the policy: tdx-advisories, tdx-tcb-status\n" in shown.stdout


# What is printed, and where.


def test_text_is_whole_where_nobody_watches() -> None:
    result = CliRunner().invoke(cli, ["verify", *map(str, (*snp(), *AT_SNP))], env={"COLUMNS": "40"})
    lines = result.stdout.splitlines()
    document = json.loads(run(*snp(), *AT_SNP, "--json").stdout)
    for line in document["checks"]:
        (whole,) = (one for one in lines if one.endswith(f"[{line['id']}]"))
        assert whole.startswith(
            f"  {line['status']:<11} {line['section']:<5}{line['title']}: {line['found']} ("
        )
        assert f"from: {line['source']})" in whole
        assert f"wanted: {line['wanted']}; " in whole or line["wanted"] == "-"
        gain = f"without it, an attacker could {line['risk']}"
        assert (line["status"] == "fail") is (lines[lines.index(whole) + 1].strip() == gain)


def command(*words: str | Path, output: int, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [sys.executable, "-m", "sottovoce", "verify", *map(str, words)],
        stdout=output,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_output_that_nobody_reads_or_that_cannot_be_written(form: tuple[str, ...]) -> None:
    accepted, refused = (*tdx(), *AT_TDX, *form), (*snp(), *AT_SNP, *form)
    for words, code in ((accepted, 0), (refused, 1)):
        ours, theirs = os.pipe()
        os.close(ours)
        ended = command(*words, output=theirs)
        os.close(theirs)
        assert (ended.returncode, ended.stderr) == (code, b"")
    with Path("/dev/full").open("wb") as full:
        ended = command(*accepted, output=full.fileno())
    assert ended.returncode == 2
    assert ended.stderr == b"sottovoce: the output cannot be written [config]\n  is the disk full?\n"


def test_standard_input_that_is_closed() -> None:
    words = ("-m", "sottovoce", "verify", "snp", "--report", "-", "--vcek", "-")
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" "$@" <&-', sys.executable, *words],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr == b"sottovoce: a file cannot be read [config]\n  looked at -\n"


def test_output_that_cannot_show_every_character() -> None:
    ended = command(*tdx(), *AT_TDX, output=subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert b"ACCEPTED" in ended.stdout
