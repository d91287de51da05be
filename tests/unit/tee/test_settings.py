from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.simulator.testing import EvidenceWorld, settings_of
from sottovoce.tee.settings import Settings, parse_settings, parse_wiring


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    value: dict[str, Any] = msgspec.to_builtins(settings_of(EvidenceWorld(), "predictor"))
    return value


def orchestrator() -> Settings:
    return settings_of(EvidenceWorld(), "orchestrator")


def test_defaults_and_round_trip(document: dict[str, Any]) -> None:
    settings = parse_settings(canonical.encode(document))
    assert (settings.slots, settings.threads, settings.model) == (1, 1, None)
    assert settings.peers == ("orchestrator",)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"role": "router"},
        {"environment": ""},
        {"environment": "a b"},
        {"environment": "../x"},
        {"version": "0.1.0\n"},
        {"platform": "none"},
        {"vendor_roots": []},
        {"vendor_roots": [{"product": "Simulated", "ark": "*"}]},
        {"vendor_roots": [{"product": "Simulated", "ark": "AAA"}]},
        {"witnesses": []},
        {"witnesses": ["not a key", "nor this"]},
        {"quorum": 0},
        {"quorum": 3},
        {"cadence_ms": 0},
        {"sessions": 0},
        {"slots": 0},
        {"threads": "2"},
        {"relaxed": ["signature"]},
        {"platform": "sev-snp"},  # with a root of simulated hardware
        {"model": {"name": "../m", "digest": "0" * 64, "bytes": 1, "purpose": "p"}},
        {"model": {"name": "m", "digest": "0" * 63, "bytes": 1, "purpose": "p"}},
        {"model": {"name": "m", "digest": "0" * 64, "bytes": 0, "purpose": "p"}},
    ],
)
def test_whatever_is_outside_its_grammar_stops_the_boot(
    document: dict[str, Any], change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        parse_settings(canonical.encode(document | change))


@pytest.mark.parametrize(
    "name", ["role", "environment", "platform", "vendor_roots", "log", "witnesses", "quorum"]
)
def test_nothing_required_has_a_default(document: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError):
        parse_settings(canonical.encode({key: value for key, value in document.items() if key != name}))


@given(st.binary(max_size=300))
def test_any_bytes_are_an_error(data: bytes) -> None:
    with pytest.raises(ConfigError):
        parse_settings(data)


def test_a_document_that_is_not_canonical_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="canonical"):
        parse_settings(canonical.encode(document) + b"\n")


def test_a_role_has_only_its_own_peers() -> None:
    with pytest.raises(UsageError):
        orchestrator().peer_policy("orchestrator")


def test_wiring() -> None:
    data = canonical.encode({"predictor": "127.0.0.1:80", "guard": "[::1]:65535"})
    assert parse_wiring(data, orchestrator()) == {"predictor": ("127.0.0.1", 80), "guard": ("::1", 65535)}
    data = canonical.encode({"predictor": "vsock:9100", "guard": "vsock:9101"})
    assert parse_wiring(data, orchestrator()) == {"predictor": ("vsock", 9100), "guard": ("vsock", 9101)}


@pytest.mark.parametrize(
    "address",
    [
        "localhost:80",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "256.0.0.1:80",
        "1.2.3.4:80\n",
        "[::1:80",
        "vsock",
        "vsock:0",
        "vsock:3:9100",
        "[vsock]:9100",
        "xvsock:9100",
        80,
    ],
)
def test_wiring_takes_addresses_only(address: Any) -> None:
    with pytest.raises(ConfigError):
        parse_wiring(canonical.encode({"predictor": address, "guard": "127.0.0.1:80"}), orchestrator())


@pytest.mark.parametrize("names", [[], ["predictor"], ["predictor", "guard", "other"]])
def test_wiring_names_exactly_the_back_ends(names: list[str]) -> None:
    with pytest.raises(ConfigError):
        parse_wiring(canonical.encode(dict.fromkeys(names, "127.0.0.1:80")), orchestrator())


def test_a_back_end_has_no_wiring(document: dict[str, Any]) -> None:
    settings = parse_settings(canonical.encode(document))
    assert parse_wiring(b"{}", settings) == {}
    with pytest.raises(ConfigError):
        parse_wiring(b'{"guard":"127.0.0.1:80"}', settings)
