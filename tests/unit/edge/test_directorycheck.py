"""Each way in which a directory could lock devices out is found, by its name; and a right one has none."""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

import directory_kit as kit
import log_kit
import token_kit
from directory_kit import TODAY, directory, gateway_key, issuer_keys
from sottovoce.core.authscheme import to_base64url
from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.core.ohttp import GatewayKey, encode_key_configs
from sottovoce.edge.directories import Changes, Plan, next_directory
from sottovoce.edge.directorycheck import document_faults, surrounding_faults
from sottovoce.tlog.entries import Directory, Relay, Revocations, TokenKey
from sottovoce.tlog.tiles import decode_bundle, encode_bundle

NOW, NEXT = directory(TODAY), directory(TODAY + 1)


def changed(**fields: Any) -> Directory:
    return dataclasses.replace(NEXT, **fields)


def configs(*keys: GatewayKey) -> str:
    return base64.b64encode(encode_key_configs([key.config() for key in keys])).decode()


def key(epoch: int, number: int, token_type: int = 2) -> TokenKey:
    return TokenKey(
        epoch=epoch, token_type=token_type, key=base64.b64encode(token_kit.key(number).spki).decode()
    )


def test_with_a_right_one_nothing_is_wrong() -> None:
    assert document_faults(NEXT, NOW) == []
    assert document_faults(NEXT, None) == []


TOMORROW, AFTER = NEXT.token_keys
CLASH = GatewayKey(key_id=gateway_key(TODAY).key_id, private_key=gateway_key(TODAY + 1).private_key)


@pytest.mark.parametrize(
    ("new", "code", "says"),
    [
        (directory(TODAY + 2), "epoch", f"the next one is {TODAY + 1}"),
        (directory(TODAY - 1), "epoch", ""),
        (changed(not_after=NEXT.not_after - 3600), "validity", ""),
        (changed(not_before=NEXT.not_before - 1), "validity", ""),
        (changed(token_keys=(TOMORROW,)), "token-keys", f"for epoch {TODAY + 2}"),
        (changed(token_keys=(AFTER,)), "token-keys", f"for epoch {TODAY + 1}"),
        (changed(token_keys=(key(TODAY + 1, 99), AFTER)), "token-keys", "devices hold tokens of it"),
        (changed(token_keys=(TOMORROW, AFTER, key(TODAY + 3, 98))), "token-keys", "neither its own nor the next"),
        (changed(token_keys=(TOMORROW, AFTER, key(TODAY + 2, 97))), "token-keys", "two token keys of one type"),
        (changed(token_keys=(TOMORROW, key(TODAY + 2, TODAY + 1))), "token-keys", "truncated id"),
        (changed(token_keys=(TOMORROW, AFTER, key(TODAY + 1, 1, 3))), "token-keys", "unknown type 3"),
        (changed(token_keys=(TOMORROW, AFTER, key(TODAY + 1, 1, 5))), "token-keys", "one of its two epochs only"),
        (changed(token_keys=(TOMORROW, TokenKey(epoch=TODAY + 2, token_type=2, key="AAAA"))), "token-keys", "malformed"),
        (changed(ohttp_key_configs=""), "ohttp-keys", "can be used"),
        (changed(ohttp_key_configs="AAAA"), "ohttp-keys", "can be used"),
        (changed(ohttp_key_configs=configs(CLASH)), "ohttp-keys", "still in use"),
        (changed(ohttp_key_configs=configs(gateway_key(7), gateway_key(263))), "ohttp-keys", "share their id"),
        (changed(hosts=kit.HOSTS[2:]), "hosts", "no orchestrator"),
        (changed(revocations=Revocations(hosts=frozenset({"host-1", "host-2"}))), "hosts", "no orchestrator"),
        (changed(relays=(*kit.RELAYS, Relay(operator="One", url="https://two.example/ohttp"))), "relays", "one operator"),
        (changed(issuer="other.example"), "issuer", "bound to the old one"),
        (changed(log_origin="other.example/log"), "log", "another log"),
    ],
)  # fmt: skip
def test_faults_of_the_document(new: Directory, code: str, says: str) -> None:
    found = document_faults(new, NOW)
    assert [fault for fault in found if fault.code == code and says in fault.text], found
    # No other rule is broken with it, but those of the days beside a wrong epoch.
    assert code == "epoch" or {fault.code for fault in found} == {code}, found


@pytest.mark.parametrize("kind", ["releases", "hosts", "certificates"])
def test_no_revocation_is_taken_back(kind: str) -> None:
    revoked = dataclasses.replace(NOW, revocations=Revocations(**{kind: frozenset({"ab" * 32})}))
    assert [fault.code for fault in document_faults(NEXT, revoked)] == ["revocations"]
    kept = changed(revocations=Revocations(**{kind: frozenset({"ab" * 32, "cd" * 32})}))
    assert document_faults(kept, revoked) == []


def test_missing_days_are_a_fault_until_one_says_so() -> None:
    later = directory(TODAY + 3)
    assert [fault.code for fault in document_faults(later, NOW)] == ["epoch"]
    assert document_faults(later, NOW, gap=True) == []
    for old in (directory(TODAY), directory(TODAY - 1)):
        assert "epoch" in {fault.code for fault in document_faults(old, NOW, gap=True)}


# Beside what runs.


def issuer_directory(*epochs: int) -> bytes:
    keys = [
        {"token-type": 2, "token-key": to_base64url(token_kit.key(epoch).spki).decode(), "not-before": 0}
        for epoch in epochs
    ]
    return json.dumps({"issuer-request-uri": "/token-request", "token-keys": keys}).encode()


def around(new: Directory = NEXT, **changes: Any) -> list[str]:
    """The codes and texts of what is found."""
    given: dict[str, Any] = {
        "policy": log_kit.FilesLog().policy(),
        "entries": kit.entries(),
        "gateways": {
            "https://g.example": base64.b64decode(configs(gateway_key(TODAY), gateway_key(TODAY + 1)))
        },
        "issuer": issuer_directory(TODAY, TODAY + 1),
        "now": NOW.not_after - 1,
    } | changes
    return [f"{fault.code}: {fault.text}" for fault in surrounding_faults(new, NOW, **given)]


def test_with_everything_in_place_nothing_is_wrong() -> None:
    assert around() == []
    assert around(issuer=None) == []


def without(number: int) -> list[bytes]:
    return [entry for at, entry in enumerate(kit.entries()) if at != number]


SOON = kit.release("guard", expires=NEXT.not_after - 1).encode()
GUARD = hashlib.sha256(kit.entries()[6]).hexdigest()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"entries": without(0)}, "hosts: the host host-1 is not in the log"),
        ({"entries": without(6)}, "releases: no release of guard on sev-snp"),
        ({"entries": [*without(6), SOON]}, "releases: no release of guard on sev-snp"),
        ({"gateways": {"u": base64.b64decode(configs(gateway_key(TODAY)))}}, "gateway: the gateway at u does not have"),
        ({"gateways": {"u": base64.b64decode(configs(gateway_key(TODAY + 1)))}}, "gateway: the gateway at u has dropped"),
        ({"gateways": {"u": b"x"}}, "gateway: the gateway at u gives no list"),
        ({"issuer": issuer_directory(TODAY)}, "issuer: the issuer does not sign"),
        ({"issuer": b"{}"}, "issuer: the issuer gives no list"),
        ({"issuer": b'{"token-keys": [{"token-type": 2, "token-key": "!"}]}'}, "issuer: the issuer gives no list"),
        ({"policy": log_kit.FilesLog(origin="other.example").policy()}, "log: it names another log"),
    ],
)  # fmt: skip
def test_faults_beside_what_runs(changes: dict[str, Any], found: str) -> None:
    faults = around(**changes)
    assert len(faults) == 1
    assert faults[0].startswith(found)


@pytest.mark.parametrize(
    ("new", "found"),
    [
        (changed(log_quorum=1), "quorum: its quorum is 1; devices ask for 2"),
        (changed(log_quorum=3), "quorum: its quorum is 3"),
        (changed(revocations=Revocations(releases=frozenset({"ab" * 32}))), "revocations: no release in the log"),
        (changed(revocations=Revocations(releases=frozenset({GUARD}))), "releases: no release of guard"),
        (changed(hosts=(dataclasses.replace(kit.HOSTS[0], product="Turin"), *kit.HOSTS[1:])), "hosts: the host host-1"),
        (changed(hosts=(dataclasses.replace(kit.HOSTS[0], platform="tdx"), *kit.HOSTS[1:])), "hosts: the host host-1"),
    ],
)  # fmt: skip
def test_faults_of_a_document_beside_what_runs(new: Directory, found: str) -> None:
    assert [fault for fault in around(new) if fault.startswith(found)]


def test_a_release_that_expires_with_the_day_is_good_until_then() -> None:
    last = kit.release("guard", expires=NEXT.not_after).encode()
    assert around(entries=[*without(6), last]) == []


# Preparing.


def plan(**fields: Any) -> Plan:
    given: dict[str, Any] = {
        "epoch": TODAY + 1,
        "current": NOW,
        "changes": Changes(),
        "keys": [kit.gateway_keys(TODAY + 1), issuer_keys(TODAY + 2)],
    }
    return Plan(**(given | fields))


def test_the_next_one_is_the_one_before_with_new_keys() -> None:
    made = next_directory(plan())
    assert made == NEXT


RELAYS = (
    Relay(operator="Two", url="https://two.example/ohttp"),
    Relay(operator="Three", url="https://three.example/ohttp", streams=False),
)


def test_what_changes_is_changed_and_revocations_only_grow() -> None:
    revoked = dataclasses.replace(NOW, revocations=Revocations(hosts=frozenset({"host-9"})))
    changes: Changes = convert(
        {
            "relays": [relay.members() for relay in RELAYS],
            "revocations": {"hosts": ["host-2"]},
        }
    )
    made = next_directory(plan(current=revoked, changes=changes))
    assert made.relays == RELAYS
    assert made.revocations.hosts == {"host-2", "host-9"}
    assert made.hosts == NOW.hosts
    assert document_faults(made, revoked) == []


def convert(data: object) -> Changes:
    import msgspec  # noqa: PLC0415

    return msgspec.convert(data, Changes)


FIRST: dict[str, Any] = {
    "issuer": "issuer.example",
    "relays": [{"operator": "One", "url": "https://one.example/ohttp"}],
    "hosts": [dataclasses.asdict(host) for host in kit.HOSTS],
    "log": {"origin": log_kit.ORIGIN, "quorum": 2},
}


def test_the_first_one_of_all() -> None:
    keys = [kit.gateway_keys(TODAY), issuer_keys(TODAY), issuer_keys(TODAY + 1)]
    first = plan(epoch=TODAY, current=None, changes=convert(FIRST), keys=keys)
    assert next_directory(first) == NOW
    for missing in FIRST:
        changes = convert({name: value for name, value in FIRST.items() if name != missing})
        with pytest.raises(ConfigError, match="nothing to keep"):
            next_directory(dataclasses.replace(first, changes=changes))


@pytest.mark.parametrize(
    "keys",
    [
        [issuer_keys(TODAY + 2)],
        [kit.gateway_keys(TODAY), issuer_keys(TODAY + 2)],
        [kit.gateway_keys(TODAY + 1), kit.gateway_keys(TODAY + 2), issuer_keys(TODAY + 2)],
    ],
)
def test_it_needs_the_gateways_keys_of_its_day(keys: list[Any]) -> None:
    with pytest.raises(ConfigError, match="gateway's public keys"):
        next_directory(plan(keys=keys))


BAD: list[Callable[[dict[str, Any]], object]] = [
    lambda data: data["relays"][0].update(url="ftp://x"),
    lambda data: data["relays"][0].update(operator=""),
    lambda data: data["hosts"].append(data["hosts"][0]),
    lambda data: data["hosts"][0].update(hardware_id="king"),
    lambda data: data.update(hosts=[]),
    lambda data: data.update(revocations={"releases": ["xyz"]}),
]


@pytest.mark.parametrize("spoil", BAD)
def test_changes_that_no_device_could_read(spoil: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(json.dumps(FIRST))
    spoil(data)
    with pytest.raises(ConfigError, match="no directory can be made of this"):
        next_directory(plan(changes=convert(data)))


def test_past_its_grace_the_gateway_need_not_have_the_old_keys() -> None:
    only_new = {"https://g.example": base64.b64decode(configs(gateway_key(TODAY + 1)))}
    assert around(gateways=only_new)[0].startswith("gateway: ")
    assert around(gateways=only_new, now=NOW.not_after) == []


def test_a_document_of_its_day_that_is_only_in_the_log_is_a_second_one() -> None:
    other = changed(log_quorum=NEXT.log_quorum + 1)
    assert other.epoch == NEXT.epoch
    found = around(entries=[*kit.entries(), other.encode(), b"no entry", NEXT.encode()])
    assert found == ["epoch: the log has another directory for its day already: publish that one"]


def of_length(length: int) -> Directory:
    """One with as many hosts as there is room for, whose document has this length."""
    hosts = [dataclasses.replace(kit.HOSTS[0], id=f"host-{number:03}") for number in range(200)]
    missing = length - len(changed(hosts=tuple(hosts)).encode())
    for number, host in enumerate(hosts):
        more = min(missing, 100)
        hosts[number] = dataclasses.replace(host, id=host.id + "x" * more)
        missing -= more
    return changed(hosts=tuple(hosts))


def test_the_longest_one_that_the_log_takes_has_no_fault_and_the_next_has() -> None:
    longest, longer = of_length(65_535), of_length(65_536)
    assert (len(longest.encode()), len(longer.encode())) == (65_535, 65_536)
    assert document_faults(longest, NOW) == []
    assert decode_bundle(encode_bundle([longest.encode()])) == [longest.encode()]
    (fault,) = document_faults(longer, NOW)
    assert fault.code == "size"
    assert "65536 bytes" in fault.text
    with pytest.raises(UsageError):
        encode_bundle([longer.encode()])


def test_keys_that_are_no_base64_are_a_fault_and_no_exception() -> None:
    assert "ohttp-keys" in {fault.code for fault in document_faults(changed(ohttp_key_configs="A"), NOW)}
