"""What a device pins, read from its file."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sottovoce.attest.policy import SIMULATED_NVIDIA_PRODUCTS
from sottovoce.core.errors import ConfigError
from sottovoce.device.environment import Environment, VendorRoot
from sottovoce.tlog.note import COSIGNATURE, ED25519, SigningKey


def pin(product: str, der: bytes = b"root") -> VendorRoot:
    return VendorRoot(product=product, ark=base64.b64encode(der).decode())


LOG, WITNESS = SigningKey.generate("log", ED25519), SigningKey.generate("witness", COSIGNATURE)
GPUS = [pin(product) for product in SIMULATED_NVIDIA_PRODUCTS]
ENVIRONMENT = Environment(
    name="test",
    simulated=True,
    log_origin=LOG.verifier.name,
    log_key=str(LOG.verifier),
    witnesses=[str(WITNESS.verifier)],
    quorum=1,
    directory_key=str(LOG.verifier),
    vendor_roots=[pin("Simulated"), *GPUS],
    manifests=[base64.b64encode(b"<manifest/>").decode()],
    mirrors=["http://127.0.0.1:1"],
    relays=["http://127.0.0.1:2"],
    issuer="http://127.0.0.1:3",
    issuer_name="issuer",
    service="service",
    minimum_security_version=1,
)


def load(folder: Path, environment: Environment) -> Environment:
    path = folder / "environment.json"
    path.write_bytes(msgspec.json.encode(environment))
    return Environment.load(path)


def test_what_it_pins_is_demanded(tmp_path: Path) -> None:
    policy = load(tmp_path, ENVIRONMENT).session_policy()
    assert [root.product for root in policy.snp.roots] == ["Simulated"]
    assert policy.tdx is None
    assert policy.nvidia is not None
    assert policy.nvidia.roots.simulated
    assert policy.manifests == (b"<manifest/>",)


def test_without_accelerators(tmp_path: Path) -> None:
    plain = msgspec.structs.replace(ENVIRONMENT, vendor_roots=[pin("Simulated")], manifests=[])
    policy = load(tmp_path, plain).session_policy()
    assert (policy.nvidia, policy.manifests) == (None, ())


@pytest.mark.parametrize(
    "change",
    [
        {"manifests": ["no base64"]},
        {"vendor_roots": GPUS},
        {"vendor_roots": [pin("Simulated"), GPUS[0]]},
        {"vendor_roots": [pin("Simulated"), pin("Simulated")]},
        {"simulated": False},
        {"log_key": "nobody"},
        {"quorum": 2},
    ],
)
def test_what_cannot_be_is_an_error(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="environment file is wrong"):
        load(tmp_path, msgspec.structs.replace(ENVIRONMENT, **change))


@pytest.mark.parametrize(
    "spoil",
    [lambda data: data[:-1], lambda data: b"[" * 100_000 + data, lambda data: b" " * (1 << 20) + data],
)
def test_what_is_malformed_is_an_error(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "environment.json"
    path.write_bytes(spoil(msgspec.json.encode(ENVIRONMENT)))
    with pytest.raises(ConfigError):
        Environment.load(path)
    with pytest.raises(ConfigError, match="no environment"):
        Environment.load(tmp_path / "none.json")
