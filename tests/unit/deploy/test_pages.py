"""What the pages for operators show is what the code and the chart take."""

import json
import re
import shlex
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sottovoce.cli.process import load_config
from sottovoce.edge.hostside import PAPERS, Config
from sottovoce.image.build import COUNTS
from sottovoce.image.launch import PROCESSORS
from sottovoce.tee.settings import EngineSettings

pytest.importorskip("yaml", reason="needs PyYAML")

ROOT: Final = Path(__file__).parents[3]
OPERATING: Final = (ROOT / "docs/operating.md").read_text()
KUBERNETES: Final = (ROOT / "docs/kubernetes.md").read_text()
CHART: Final = ROOT / "deploy/helm/sottovoce"


def line() -> dict[str, list[str]]:
    """The line that starts a CVM: option → its values."""
    found = re.search(r"^ +qemu-system-x86_64 (?:.*\\\n)+.*$", OPERATING, re.MULTILINE)
    assert found is not None
    words = shlex.split(found[0].replace("\\\n", " "))[1:]
    single = {"-nodefaults", "-no-user-config", "-no-reboot"}
    options: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        options.setdefault(word, []).append("" if word in single else next(rest))
    return options


def test_the_line_is_the_charts() -> None:
    values: Any = msgspec.yaml.decode((CHART / "values.yaml").read_bytes())["cvm"]
    options = line()
    template = (CHART / "templates/cvm.yaml").read_text()
    assert {word for word in options if f"- {word}\n" not in template} == set()
    snp = options["-object"][1].split(",")
    assert f"policy={values['policy']}" in snp
    assert f"cbitpos={values['cbitpos']}" in snp
    assert f"reduced-phys-bits={values['reducedPhysBits']}" in snp
    assert "kernel-hashes=on" in snp
    machine = options["-machine"][0].split(",")
    assert machine[0] == values["machineType"]
    assert ",".join(machine[1:]) in template
    assert options["-cpu"][0] in PROCESSORS
    assert int(options["-smp"][0]) in COUNTS
    assert options["-append"] == ["$(cat image/command-line)"]


def test_the_hosts_side_takes_the_configuration_of_the_page() -> None:
    found = re.search(r"```toml\n# host.toml\n(.*?)```", OPERATING, re.DOTALL)
    assert found is not None
    config = load_config(Config, found[1].encode())
    assert config.cid == int(line()["-device"][0].partition("guest-cid=")[2])
    for name in PAPERS:
        assert f"`{name}`" in OPERATING


def test_the_engine_of_the_page_is_one_that_settings_take() -> None:
    found = re.search(r'`"engine": ({.*?})`', KUBERNETES)
    assert found is not None
    assert msgspec.convert(json.loads(found[1]), EngineSettings).kind == "vllm"
