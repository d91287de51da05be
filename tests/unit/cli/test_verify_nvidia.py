"""`sottovoce verify nvidia`: exit codes 0 accepted, 1 refused, 2 unusable input, 3 wrong use; text and JSON."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nvidia_kit import SDK, SWITCH_RIM, fixture
from sottovoce.cli.main import cli

NONCE = "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb"
AT = ("--at", "2026-06-01")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["verify", "nvidia", *arguments])


@pytest.fixture
def switch() -> tuple[str, ...]:
    return "--evidence", str(fixture(f"{SDK}/switch_evidence_ls10.json"))


@pytest.fixture
def rim() -> tuple[str, ...]:
    return "--rim", str(fixture(SWITCH_RIM))


def test_accepted(switch: tuple[str, ...], rim: tuple[str, ...]) -> None:
    result = run(*switch, *rim, *AT, "--nonce", NONCE, "--json")
    assert result.exit_code == 0
    document = json.loads(result.output)
    assert (document["platform"], document["policy"], document["accepted"]) == ("nvidia", "strict", True)
    lines = {line["id"]: line["status"] for line in document["checks"]}
    assert lines["switch-0/nvidia-measurements"] == "pass"
    assert lines["switch-0/nvidia-revocation-service"] == "not checked"
    text = run(*switch, *rim, *AT)
    assert text.exit_code == 0
    assert "ACCEPTED" in text.output


def test_refused(switch: tuple[str, ...], rim: tuple[str, ...]) -> None:
    wrong = run(*switch, *AT, "--nonce", "00" * 32)
    assert wrong.exit_code == 1
    assert "show a report from before it changed the GPU's firmware" in wrong.output.replace("\n", " ")
    late = run(*switch, *rim, "--at", "2029-01-01", "--json")
    assert late.exit_code == 1
    assert [line["id"] for line in json.loads(late.output)["checks"] if line["status"] == "fail"] == [
        "switch-0/nvidia-vbios-rim-dates"
    ]


def test_policies(switch: tuple[str, ...], rim: tuple[str, ...], tmp_path: Path) -> None:
    assert run(*switch, *AT, "--policy", "chain-only").exit_code == 0
    relaxed = tmp_path / "policy.toml"
    relaxed.write_text('version = 1\nrelax = ["nvidia-vbios-rim-dates"]\n')
    result = run(*switch, *rim, "--at", "2029-01-01", "--policy", str(relaxed), "--json")
    assert result.exit_code == 0
    assert json.loads(result.output)["relaxed"] == ["switch-0/nvidia-vbios-rim-dates"]
    only = tmp_path / "only.toml"
    only.write_text('version = 1\n[nvidia]\narchitectures = ["BLACKWELL"]\n')
    assert run(*switch, *AT, "--policy", str(only)).exit_code == 1
    digest = "afe8d01ab79b451fc6401a00bd8d3cba283e67339bd902e14bb41171eacb99d1"
    listed = tmp_path / "listed.toml"
    listed.write_text(f'version = 1\n[nvidia]\nrevoked = ["{digest}"]\nmodes = ["SPT"]\n')
    result = run(*switch, *AT, "--policy", str(listed), "--json")
    assert result.exit_code == 0
    lines = {line["id"]: line["status"] for line in json.loads(result.output)["checks"]}
    assert lines["switch-0/nvidia-revoked"] == "pass"


@pytest.mark.parametrize(
    "text",
    [
        'version = 1\nrelax = ["nvidia-signature"]',
        'version = 1\n[nvidia]\nmodes = ["OFF"]',
        "version = 1\n[nvidia]\nmodes = []",
        'version = 1\n[nvidia]\nrevoked = ["short"]',
        "version = 1\n[nvidia]\nother = 1",
    ],
)
def test_policies_that_cannot_be(text: str, switch: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    assert run(*switch, *AT, "--policy", str(path)).exit_code == 2


def test_unusable_input(switch: tuple[str, ...], tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.write_bytes(b"[]")
    assert run("--evidence", str(bad), *AT).exit_code == 2
    assert run("--evidence", str(tmp_path / "missing"), *AT).exit_code == 2
    assert run(*switch, "--rim", str(bad), *AT).exit_code == 2


def test_wrong_use(switch: tuple[str, ...]) -> None:
    assert run().exit_code == 3
    assert run(*switch, "--nonce", "00").exit_code == 3
    assert run(*switch, "--at", "never").exit_code == 3
