"""The simulated vendor of accelerators is the same after a restart of its world."""

from pathlib import Path

import pytest

from sottovoce.attest.nvidia.signatures import verify_chain
from sottovoce.core.errors import ConfigError
from sottovoce.simulator.accelerator import SimulatedGpuVendor
from sottovoce.simulator.testing import NOW


def test_a_vendor_survives_its_files(tmp_path: Path) -> None:
    vendor = SimulatedGpuVendor.create(now=NOW)
    vendor.save(tmp_path / "vendor")
    again = SimulatedGpuVendor.load(tmp_path / "vendor")
    assert again.roots == vendor.roots
    device = again.make_device(now=NOW)
    assert verify_chain(device.chain, vendor.roots.devices)
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "vendor").iterdir())


@pytest.mark.parametrize("text", ["", "{}", "[]", '["AA=="]', "[1]", '["MA=="]'])
def test_a_damaged_file_is_an_error(tmp_path: Path, text: str) -> None:
    SimulatedGpuVendor.create(now=NOW).save(tmp_path)
    (tmp_path / "provisioner.json").write_text(text)
    with pytest.raises(ConfigError, match="simulated authority"):
        SimulatedGpuVendor.load(tmp_path)
    (tmp_path / "provisioner.json").unlink()
    with pytest.raises(ConfigError, match="simulated authority"):
        SimulatedGpuVendor.load(tmp_path)
