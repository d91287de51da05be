"""`sottovoce verify paravisor`: the forms of its files, its exit codes, and what it says."""

import base64
import datetime as dt
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fixtures_dir import need
from sottovoce.cli.main import cli
from sottovoce.simulator.paravisor import SimulatedParavisor
from sottovoce.simulator.testing import NOW, vendor

COCO = "sev-snp/coco-az-snp-vtpm"
AT = ("--at", "2026-06-01", "--policy", "chain-only")
CHALLENGE = b"challenge".hex()


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["verify", "paravisor", *map(str, arguments)], env={"COLUMNS": "200"})


def papers() -> tuple[str | Path, ...]:
    return "--report", need(f"{COCO}/hcl-report.bin"), "--vcek", need(f"{COCO}/vcek.pem")


def test_accepted_as_json_and_text() -> None:
    quote = ("--quote", need(f"{COCO}/tpm-quote-v1.json"), "--nonce", CHALLENGE)
    result = run(*papers(), *quote, *AT, "--json")
    assert result.exit_code == 0, result.output
    verdict = json.loads(result.stdout)
    assert (verdict["format"], verdict["platform"], verdict["accepted"]) == (
        "sottovoce-verdict", "paravisor-sev-snp", True,
    )  # fmt: skip
    lines = {check["id"]: check for check in verdict["checks"]}
    assert lines["paravisor-nonce"]["status"] == "pass"
    assert lines["paravisor-trust"]["status"] == "not checked"
    text = run(*papers(), *quote, *AT)
    assert text.exit_code == 0
    assert "who controls the paravisor reads all memory" in text.stdout
    assert "ACCEPTED  paravisor-sev-snp, policy chain-only" in text.stdout


def test_the_strict_policy_refuses_and_says_why() -> None:
    crl = need("sev-snp/crl/milan_crl.der")
    at = dt.datetime(2026, 6, 1, tzinfo=dt.UTC).isoformat()
    result = run(*papers(), "--crl", crl, "--at", at)
    assert result.exit_code == 1
    assert "give commands to the CVM at its serial console" in result.stdout
    assert "REFUSED" in result.stdout


@pytest.mark.parametrize("version", [0, 1, 2])
def test_one_document_holds_everything(version: int) -> None:
    assert run("--report", need(f"{COCO}/evidence-v{version}.json"), *AT).exit_code == 0


def test_message_and_signature_as_files(tmp_path: Path) -> None:
    members = json.loads(need(f"{COCO}/tpm-quote-v1.json").read_bytes())
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(bytes.fromhex(members["message"]))
    signature.write_text(members["signature"])
    files = ("--quote", message, "--signature", signature)
    assert run(*papers(), *files, "--nonce", CHALLENGE, *AT).exit_code == 0
    assert run(*papers(), *files, "--nonce", "00", *AT).exit_code == 1
    other = need(f"{COCO}/tpm-quote.sig")
    assert run(*papers(), "--quote", message, "--signature", other, *AT).exit_code == 1


def test_registers_and_user_data() -> None:
    members = json.loads(need(f"{COCO}/tpm-quote-v1.json").read_bytes())
    quote = ("--quote", need(f"{COCO}/tpm-quote-v1.json"))
    right = ("--pcr", f"0={members['pcrs'][0]}", "--pcr", f"7={members['pcrs'][7]}")
    assert run(*papers(), *quote, *right, *AT).exit_code == 0
    assert run(*papers(), *quote, "--pcr", f"1={members['pcrs'][0]}", *AT).exit_code == 1
    assert run(*papers(), *right, *AT).exit_code == 1  # expected, and there is no quote
    assert run(*papers(), "--user-data", "00" * 64, *AT).exit_code == 0
    assert run(*papers(), "--user-data", "11" * 64, *AT).exit_code == 1


def test_a_policy_file_relaxes_a_setting(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('version = 1\nrelax = ["paravisor-console", "policy-smt"]\n')
    result = run(*papers(), "--crl", need("sev-snp/crl/milan_crl.der"), "--policy", policy, "--json")
    assert result.exit_code == 1
    lines = {check["id"]: check["status"] for check in json.loads(result.stdout)["checks"]}
    assert lines["paravisor-console"] == lines["policy-smt"] == "relaxed"
    for name in ("paravisor-claims", "paravisor-trust", "paravisor-quote-signature"):
        policy.write_text(f'version = 1\nrelax = ["{name}"]\n')
        assert run(*papers(), "--policy", policy).exit_code == 2


@pytest.mark.parametrize(
    "options",
    [
        ("--nonce", ""),
        ("--nonce", "0"),
        ("--nonce", "00" * 65),
        ("--user-data", "00"),
        ("--pcr", "24=" + "00" * 32),
        ("--pcr", "-1=" + "00" * 32),
        ("--pcr", "0" * 5000 + "=" + "00" * 32),
        ("--pcr", "0"),
        ("--pcr", "0=00"),
        ("--pcr", "0=" + "00" * 32, "--pcr", "0=" + "11" * 32),
        ("--signature", "x"),
        ("--policy",),
        ("--at", "noon"),
        ("--unknown",),
    ],
)
def test_wrong_use(options: tuple[str, ...]) -> None:
    assert run("--report", "x", "--vcek", "y", *options).exit_code == 3


def test_a_thing_that_is_missing_or_there_twice() -> None:
    report, vcek = need(f"{COCO}/hcl-report.bin"), need(f"{COCO}/vcek.pem")
    whole, quote = need(f"{COCO}/evidence-v1.json"), need(f"{COCO}/tpm-quote-v1.json")
    assert run("--report", report, *AT).exit_code == 3
    assert run("--report", whole, "--vcek", vcek, *AT).exit_code == 3
    assert run("--report", whole, "--quote", quote, *AT).exit_code == 3
    assert run(*papers(), "--quote", need(f"{COCO}/tpm-quote.msg"), *AT).exit_code == 3
    assert run(*papers(), "--quote", quote, "--signature", quote, *AT).exit_code == 3


def test_unusable_input(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for data in (b"", b"HCLA", b"{}", b"{", bytes(1184)):
        file.write_bytes(data)
        result = run("--report", file, "--vcek", need(f"{COCO}/vcek.pem"), *AT)
        assert result.exit_code == 2, data
        assert "Traceback" not in result.output
    assert run("--report", tmp_path / "none", "--vcek", file).exit_code == 2
    tdx = need("tdx/coco-az-tdx-vtpm/hcl-report.bin")
    result = run("--report", tdx, "--vcek", need(f"{COCO}/vcek.pem"), *AT)
    assert result.exit_code == 2
    assert "TDREPORT" in result.stderr


def test_verify_snp_names_the_right_command() -> None:
    arguments = ["verify", "snp", *map(str, papers())]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert "sottovoce verify paravisor" in result.stderr


def test_a_simulated_chip_leads_to_no_pinned_root(tmp_path: Path) -> None:
    chip = vendor().make_chip(now=NOW)
    document = {
        "hcl_report": base64.urlsafe_b64encode(SimulatedParavisor(chip, bytes(48)).hcl_report()).decode(),
        "vcek": base64.urlsafe_b64encode(chip.vcek).decode(),
    }
    file = tmp_path / "evidence.json"
    file.write_text(json.dumps(document))
    result = run("--report", file, "--at", str(NOW), "--policy", "chain-only", "--json")
    assert result.exit_code == 1
    failed = {check["id"] for check in json.loads(result.stdout)["checks"] if check["status"] == "fail"}
    assert {"chain", "signature"} <= failed
