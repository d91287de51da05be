"""What the documents say of checks and policies is what the code does."""

import re
from pathlib import Path

import pytest

from script_kit import DOCS, ROOT, script
from sottovoce.attest.nvidia.evidence import ARCHITECTURES
from sottovoce.attest.nvidia.opaque import MODES
from sottovoce.attest.policy import ACCEPTED_PRODUCTS, SIMULATED_PRODUCT
from sottovoce.attest.policyfile import BUILT_IN, parse_policy
from sottovoce.attest.snp.floors import PARTS
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES
from sottovoce.core.errors import ConfigError


def test_the_list_of_checks_is_current() -> None:
    assert (DOCS / "checks.md").read_text() == "\n".join(script("check_list").page()).rstrip() + "\n"


POLICY = (DOCS / "policy.md").read_text()
ROWS = {
    row[0]: row[2] for row in (line.strip("| ").split(" | ") for line in POLICY.splitlines()) if len(row) == 3
}


def test_built_in_policies_are_described() -> None:
    assert all(f"**`{name}`**" in POLICY for name in BUILT_IN)


def test_names_are_described() -> None:
    assert set(re.findall(r"`([a-z-]+)`", ROWS["`demand`"])) == SNP_OPTIONAL_RULES.keys()
    assert set(re.findall(r"`([A-Za-z -]+)`", ROWS["`snp.floors.PART`"].split("Parts:")[1])) == PARTS - {
        SIMULATED_PRODUCT
    }
    products = set(re.findall(r"`([A-Za-z]+)`", ROWS["`snp.products`"].split(";")[0]))
    assert products - {"Milan"} == ACCEPTED_PRODUCTS - {SIMULATED_PRODUCT}
    assert set(re.findall(r"`([A-Z0-9]+)`", ROWS["`nvidia.architectures`"])) == set(ARCHITECTURES)
    assert set(re.findall(r"`([A-Z]+)`", ROWS["`nvidia.modes`"])) == set(MODES.values())


def known_to_the_parser(name: str) -> bool:
    """Whether a file with this name is refused for its value at most, not for the name."""
    table, _, leaf = name.rpartition(".")
    head = f"[{table}]\n" if table else ""
    try:
        parse_policy(f"version = 1\n{head}{leaf} = true\n".encode(), name="test")
    except ConfigError as error:
        return "unknown name" not in str(error)
    return True


def test_every_name_in_the_table_is_one_that_the_parser_knows() -> None:
    names = [name for cell in ROWS for name in re.findall(r"`([a-z_.0-9]+)`", cell)]
    assert len(names) > 20
    prefix = ""
    for name in names:
        prefix = name.rpartition(".")[0] if "." in name else prefix
        full = name if "." in name or name in ("version", "relax", "demand") else f"{prefix}.{name}"
        assert known_to_the_parser(full), full
    assert not known_to_the_parser("snp.expect.other")


def test_the_example_is_a_policy_but_for_its_digests() -> None:
    example = POLICY.split("## A file")[1].split("## Names")[0]
    text = re.sub(r'"…[^"]*"', f'"{"ab" * 48}"', "\n".join(line[4:] for line in example.splitlines()))
    policy = parse_policy(text.encode(), name="example")
    assert policy.relaxed == {"policy-smt", "platform-smt"}
    assert policy.snp.tightened == {"policy-page-swap"}
    assert policy.tdx.evaluation == 17
    assert "PPCIE" in policy.nvidia.modes


BLOCKS = re.findall(r"```python\n(.*?)```", (DOCS / "verifying.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_examples_run(number: int) -> None:
    exec(compile(BLOCKS[number], f"docs/verifying.md, example {number}", "exec"), {})  # noqa: S102 - our own text


def test_every_module_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:simulator|attest)\.[a-z_.]+)`", (DOCS / "verifying.md").read_text())
    for name in named:
        path = ROOT / "src" / "sottovoce" / Path(*name.split("."))
        assert path.with_suffix(".py").exists() or path.parent.with_suffix(".py").exists(), name
