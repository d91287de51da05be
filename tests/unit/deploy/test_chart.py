"""The chart for Kubernetes: its values and their schema, and what it renders, held against Kubernetes' own types and checks and the project's own configurations.

Helm and the validator are Go programs that `make peers` builds; without them the tests of what is rendered are skipped, and say so.
"""

import copy
import json
import subprocess
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import jsonschema
import msgspec
import pytest

from image_kit import firmware
from peers import golang
from sottovoce.attest.snp.policy import _GUEST, _GUEST_KNOWN, _GUEST_RESERVED_ONE
from sottovoce.cli.process import load_config
from sottovoce.core.events import EventLog
from sottovoce.edge import gateway, hostside, issuer, router
from sottovoce.edge.attesters import OidcConfig
from sottovoce.edge.storeurl import parse_store_url
from sottovoce.image.build import COMMAND_LINE, COUNTS
from sottovoce.image.launch import PROCESSORS
from sottovoce.simulator.emulator import Emulator, Launch, Programs
from sottovoce.thirdparty import log, relay

pytest.importorskip("yaml", reason="needs PyYAML")

ROOT: Final = Path(__file__).parents[3]
CHART: Final = ROOT / "deploy/helm/sottovoce"
EXAMPLES: Final = ROOT / "deploy/helm/examples"
NAMES: Final = ("operator", "relay", "log")
KUBERNETES: Final = "1.29.0"
"""The oldest that the chart is for."""
CONFIGS: Final[Mapping[str, type[msgspec.Struct]]] = {
    "gateway.toml": gateway.Config,
    "router.toml": router.Config,
    "issuer.toml": issuer.Config,
    "relay.toml": relay.Config,
    "log.toml": log.Config,
    "host.toml": hostside.Config,
}
LEFT_OUT: Final = {
    # Keys are in the key folder.
    "gateway.toml": {"ohttp_keys", "token_keys", "batch_token_keys", "unsafe_benchmark_echo"},
    "issuer.toml": {"keys", "batch_keys"},
    "log.toml": {"s3"},
    "host.toml": {"cid"},
}
"""Settings that the chart does not know of. A new one belongs there or here."""


def yaml(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.yaml.decode(path.read_bytes())
    return found


SCHEMA: Final = json.loads((CHART / "values.schema.json").read_text())
VALUES: Final = yaml(CHART / "values.yaml")


def merged(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """As Helm does it: tables are merged, anything else is replaced."""
    found = copy.deepcopy(dict(values))
    for name, value in over.items():
        both = isinstance(value, dict) and isinstance(found.get(name), dict)
        found[name] = merged(found[name], value) if both else copy.deepcopy(value)
    return found


def example(name: str) -> dict[str, Any]:
    return merged(VALUES, yaml(EXAMPLES / f"{name}.yaml"))


def changed(name: str, path: str, value: object) -> dict[str, Any]:
    """The values of the example `name` with another one at `path`, as in "cvm.machines.0.role"; DROP takes it away."""
    values = example(name)
    at: Any = values
    *steps, last = (int(step) if step.isdecimal() else step for step in path.split("."))
    for step in steps:
        at = at[step]
    if value is DROP:
        del at[last]
    else:
        at[last] = value
    return values


DROP: Final = object()


def is_valid(values: object) -> bool:
    return bool(jsonschema.Draft7Validator(SCHEMA).is_valid(values))


# Values and their schema.


def test_the_schema_is_one() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("values", [VALUES, *map(example, NAMES)], ids=["defaults", *NAMES])
def test_the_values_that_are_here_are_valid(values: dict[str, Any]) -> None:
    jsonschema.validate(values, SCHEMA, jsonschema.Draft7Validator)


def test_nothing_is_on_by_default_and_no_image_has_a_default() -> None:
    assert not [name for name, part in VALUES.items() if isinstance(part, dict) and part.get("enabled")]
    assert set(VALUES["images"].values()) == {""}


def tables(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if isinstance(value, dict):
        yield path
        for name, one in value.items():
            yield from tables(one, (*path, name))
    if isinstance(value, list):
        for at, one in enumerate(value):
            yield from tables(one, (*path, at))


FREE: Final = {"matchLabels", "nodeLabels"}
"""Labels have any name."""


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_value_is_refused_wherever_it_stands(name: str) -> None:
    values = example(name)
    for path in tables(values):
        if path and path[-1] in FREE:
            continue
        one = copy.deepcopy(values)
        at: Any = one
        for step in path:
            at = at[step]
        at["unknown"] = "x"
        assert not is_valid(one), path


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_value_is_refused_where_it_has_no_default(name: str) -> None:
    for top, part in VALUES.items():
        if not isinstance(part, dict):
            continue
        for one in part:
            if one != "resources" and (top, one) != ("cvm", "nodeLabels"):
                values = example(name)
                del values[top][one]
                assert not is_valid(values), (top, one)


REFUSED: Final = [
    # Images by their digest, and those that are needed.
    ("operator", "images.services", "registry.example/sottovoce:latest"),
    ("operator", "images.services", ""),
    ("operator", "images.machine", ""),
    ("relay", "images.services", ""),
    # Who runs what (protocol section 1).
    ("operator", "relay.enabled", True),
    ("operator", "log.enabled", True),
    ("relay", "gateway.enabled", True),
    ("relay", "router.enabled", True),
    ("relay", "issuer.enabled", True),
    ("relay", "cvm.enabled", True),
    ("log", "router.enabled", True),
    ("operator", "router.enabled", False),
    # An empty rule of a NetworkPolicy is for everybody.
    ("operator", "gateway.from", []),
    ("operator", "gateway.from", [{}]),
    ("operator", "gateway.store.to", []),
    ("operator", "issuer.from", []),
    ("relay", "relay.from", []),
    ("relay", "relay.to", []),
    ("log", "log.to", []),
    ("operator", "network.dns", []),
    # What ends in a file of TOML.
    ("operator", "gateway.service", 'gateway.example"\nunsafe_benchmark_echo = true #'),
    ("operator", "gateway.service", "gateway\\example"),
    ("operator", "gateway.environment", ""),
    ("log", "log.publishers", ['x"]']),
    # Stores elsewhere, with TLS, without a password.
    ("operator", "gateway.spent", "redis://gateway@store.example/0"),
    ("operator", "gateway.spent", "/var/lib/sottovoce/spent.sqlite"),
    ("operator", "gateway.spent", "postgresql://gateway:secret@store.example/sottovoce"),
    ("operator", "issuer.database", "rediss://store.example/0"),
    ("operator", "issuer.oidc", {"issuer": "https://login.example"}),
    ("operator", "issuer.oidc.jwks", "http://login.example/keys"),
    ("relay", "relay.gateway", "http://gateway.example/ohttp"),
    ("relay", "relay.directorySeconds", 0),
    # Secrets by name only.
    ("operator", "gateway.keysSecret", ""),
    ("operator", "gateway.keysSecret", "-----BEGIN PRIVATE KEY-----"),
    # Machines.
    ("operator", "cvm.machines", []),
    ("operator", "cvm.devices", []),
    ("operator", "cvm.devices", ["kvm"]),
    ("operator", "cvm.images.claim", ""),
    ("operator", "cvm.user", 0),
    ("operator", "cvm.machineType", "q35"),
    ("operator", "cvm.machines.0.role", "router"),
    ("operator", "cvm.machines.0.backEnds", DROP),
    ("operator", "cvm.machines.2.backEnds", {"predictor": "predictor-1", "guard": "guard-1"}),
    ("operator", "cvm.machines.0.processor", "EPYC-v4"),
    ("operator", "cvm.machines.0.processors", 3),
    ("operator", "cvm.machines.0.memory", 128),
    ("operator", "cvm.machines.0.image", "../other"),
    ("operator", "cvm.machines.0.image", "/image"),
    ("operator", "cvm.machines.0.papers", "a/../b"),
    ("operator", "cvm.machines.2.volume", "model"),
    ("operator", "cvm.machines.0.name", "Orchestrator_1"),
    ("operator", "gateway.replicas", 0),
    ("operator", "gateway.replicas", "3"),
]


@pytest.mark.parametrize(("name", "path", "value"), REFUSED)
def test_a_wrong_value_is_refused(name: str, path: str, value: object) -> None:
    assert not is_valid(changed(name, path, value))


def test_types_of_machines_are_those_that_a_release_has_digests_for() -> None:
    machine = SCHEMA["definitions"]["machine"]["properties"]
    assert machine["processor"]["enum"] == list(PROCESSORS)
    assert machine["processors"]["enum"] == list(COUNTS)


def test_the_command_line_is_the_images() -> None:
    assert VALUES["cvm"]["commandLine"] == COMMAND_LINE


def test_the_guest_policy_is_what_devices_demand() -> None:
    value = int(VALUES["cvm"]["policy"], 16)
    wanted = sum(bit_value << bit for _, bit, bit_value in _GUEST) | _GUEST_RESERVED_ONE
    assert value == wanted
    assert not value & ~_GUEST_KNOWN


def test_defaults_are_those_of_the_services() -> None:
    defaults: Mapping[type[msgspec.Struct], Mapping[str, object]] = {
        gateway.Config: {"connections": VALUES["gateway"]["connections"]},
        router.Config: {"max_sessions": VALUES["router"]["maxSessions"]},
        issuer.Config: {"enrolment_keys": VALUES["issuer"]["enrolmentKeys"]},
        relay.Config: {
            "directory_seconds": VALUES["relay"]["directorySeconds"],
            "connections": VALUES["relay"]["connections"],
        },
        log.Config: {"refresh": VALUES["log"]["refresh"]},
    }
    for kind, given in defaults.items():
        fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
        assert {name: fields[name] for name in given} == given


# What it renders.


def helm(*words: str | Path, values: object = None) -> "subprocess.CompletedProcess[str]":
    program = golang.program("helm")
    given = json.dumps(values) if values is not None else ""
    return subprocess.run(
        [program, *words, "--kube-version", KUBERNETES, *(("-f", "-") if given else ())],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": "/nonexistent"},
    )


def decoded(text: str) -> list[dict[str, Any]]:
    """Documents, each decoded strictly and validated by the code of Kubernetes' API server."""
    done = subprocess.run(
        [golang.program("chartpeer")], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@cache
def rendered(name: str) -> tuple[dict[str, Any], ...]:
    done = helm("template", "demo", CHART, values=yaml(EXAMPLES / f"{name}.yaml"))
    assert done.returncode == 0, done.stderr
    return tuple(decoded(done.stdout))


def of_kind(name: str, *kinds: str) -> list[dict[str, Any]]:
    return [document for document in rendered(name) if document["kind"] in kinds]


def pods(name: str) -> dict[str, dict[str, Any]]:
    """Part → the template of its pods."""
    found = of_kind(name, "Deployment", "StatefulSet")
    return {part(one["spec"]["selector"]["matchLabels"]): one["spec"]["template"] for one in found}


def part(labels: Mapping[str, str]) -> str:
    return labels["app.kubernetes.io/component"]


def containers(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    spec = template["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


peer = pytest.mark.peer


@peer
@pytest.mark.parametrize("name", NAMES)
def test_helm_finds_nothing_to_complain_of(name: str) -> None:
    done = helm("lint", CHART, "--strict", values=yaml(EXAMPLES / f"{name}.yaml"))
    assert done.returncode == 0, done.stdout


@peer
def test_defaults_render_nothing() -> None:
    done = helm("template", "demo", CHART)
    assert done.returncode == 0, done.stderr
    assert not decoded(done.stdout)


@peer
def test_helm_refuses_by_the_schema_too() -> None:
    done = helm("template", "demo", CHART, values=changed("relay", "gateway.enabled", True))
    assert done.returncode != 0
    assert "schema" in done.stderr


@peer
@pytest.mark.parametrize(
    "document",
    [
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 1, target: 2}]}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: http}]}\n",
        "apiVersion: v1\nkind: Servicce\nmetadata: {name: x}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: x, a: x}\n",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: X}\n",
        "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {ports: [{port: 70000}]}\n",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\n",
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\nspec: {policyTypes: [Both]}\n",
    ],
)
def test_the_validator_is_strict(document: str) -> None:
    done = subprocess.run(
        [golang.program("chartpeer")], input=document, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


@peer
def test_each_party_has_its_documents() -> None:
    parts = {name: set(pods(name)) for name in NAMES}
    machines = {"orchestrator-1", "orchestrator-2", "predictor-1", "guard-1"}
    assert parts == {
        "operator": {"gateway", "router", "issuer"} | machines,
        "relay": {"relay"},
        "log": {"log"},
    }
    assert {document["kind"] for name in NAMES for document in rendered(name)} == {
        "ConfigMap",
        "Deployment",
        "StatefulSet",
        "Service",
        "PodDisruptionBudget",
        "NetworkPolicy",
    }
    names = [(one["kind"], one["metadata"]["name"]) for one in rendered("operator")]
    assert len(names) == len(set(names))


@peer
@pytest.mark.parametrize("name", NAMES)
def test_configurations_are_what_the_services_take(name: str) -> None:
    for document in of_kind(name, "ConfigMap"):
        for file, text in document["data"].items():
            kind = CONFIGS[file]
            load_config(kind, text.encode())
            known = {field.encode_name for field in msgspec.structs.fields(kind)}
            # Only an orchestrator has back ends, and not every issuer a provider.
            left = known - set(tomllib.loads(text)) - {"wiring", "oidc"}
            assert left == LEFT_OUT.get(file, set()), file


def config(name: str, document: str, file: str, kind: type[Any]) -> Any:
    (found,) = [one for one in of_kind(name, "ConfigMap") if one["metadata"]["name"] == f"demo-{document}"]
    return load_config(kind, found["data"][file].encode())


@peer
def test_configurations_say_what_the_values_say() -> None:
    here = config("operator", "gateway", "gateway.toml", gateway.Config)
    assert (here.environment, here.service, here.issuer_name) == (
        "production",
        "gateway.example",
        "issuer.example",
    )
    assert here.router == "http://demo-router:8080"
    assert parse_store_url(here.spent).password_file == "/run/sottovoce/store/password"
    routed = config("operator", "router", "router.toml", router.Config)
    assert [(one.id, one.address) for one in routed.hosts] == [
        ("host-1", "demo-orchestrator-1:9000"),
        ("host-2", "demo-orchestrator-2:9000"),
    ]
    router.create_app(routed, log=EventLog(lambda _: None))
    issued = config("operator", "issuer", "issuer.toml", issuer.Config)
    assert issued.oidc == OidcConfig(
        issuer="https://login.example", audience="sottovoce-devices", jwks="https://login.example/keys"
    )
    assert parse_store_url(issued.database).kind == "postgresql"
    relayed = config("relay", "relay", "relay.toml", relay.Config)
    assert (relayed.gateway, relayed.mirror) == ("https://gateway.example/ohttp", "https://mirror.example")
    logged = config("log", "log", "log.toml", log.Config)
    assert (logged.origin, logged.quorum, len(logged.witnesses), len(logged.publishers)) == (
        "log.example/production",
        2,
        2,
        2,
    )
    host = config("operator", "orchestrator-1", "host.toml", hostside.Config)
    assert host.wiring == {"predictor": "demo-predictor-1:9000", "guard": "demo-guard-1:9000"}
    assert config("operator", "guard-1", "host.toml", hostside.Config).wiring == {}
    hostside.HostSide(host, write=lambda _: None)


@peer
@pytest.mark.parametrize("name", NAMES)
def test_pods_are_as_closed_as_they_can_be(name: str) -> None:
    for template in pods(name).values():
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "serviceAccountName"} & set(spec)
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for one in containers(template):
            context = one["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["privileged"] is False
            assert context["runAsNonRoot"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["seccompProfile"] == {"type": "RuntimeDefault"}
            assert "@sha256:" in one["image"]
            assert not {"env", "envFrom", "stdin", "tty", "lifecycle"} & set(one)
            assert "memory" in one["resources"]["limits"]
            assert one["command"][0] in {"sottovoce", "vhost-device-vsock", "qemu-system-x86_64"}


@peer
@pytest.mark.parametrize("name", NAMES)
def test_secrets_are_named_and_never_in_a_machines_pod(name: str) -> None:
    for who, template in pods(name).items():
        kinds = {kind for volume in template["spec"]["volumes"] for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "emptyDir", "persistentVolumeClaim"}
        if "-" in who:
            assert kinds == {"configMap", "emptyDir", "persistentVolumeClaim"}
    assert not of_kind(name, "Secret")


@peer
@pytest.mark.parametrize("name", NAMES)
def test_volumes_mounts_ports_and_selectors_fit_together(name: str) -> None:
    for template in pods(name).values():
        volumes = [volume["name"] for volume in template["spec"]["volumes"]]
        mounted = {mount["name"] for one in containers(template) for mount in one["volumeMounts"]}
        assert mounted == set(volumes)
        assert len(volumes) == len(set(volumes))
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(name, "ConfigMap")}
    for template in pods(name).values():
        (given,) = [one["configMap"]["name"] for one in template["spec"]["volumes"] if "configMap" in one]
        (command,) = [one["command"] for one in containers(template) if one["command"][0] == "sottovoce"]
        assert [Path(command[command.index("--config") + 1]).name] == list(maps[given])
    for service in of_kind(name, "Service"):
        template = pods(name)[part(service["spec"]["selector"])]
        assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        (port,) = service["spec"]["ports"]
        offered = [one for container in containers(template) for one in container.get("ports", [])]
        assert port["targetPort"] in {offer[key] for offer in offered for key in ("name", "containerPort")}
        (listen,) = [one["command"][-1] for one in containers(template) if one["command"][0] == "sottovoce"]
        assert listen == f"0.0.0.0:{port['port']}"
    for one in of_kind(name, "PodDisruptionBudget", "NetworkPolicy", "Deployment", "StatefulSet"):
        selector = one["spec"].get("selector") or one["spec"]["podSelector"]
        labels = pods(name)[part(selector["matchLabels"])]["metadata"]["labels"]
        assert selector["matchLabels"].items() <= labels.items()


def peers_of(rules: list[dict[str, Any]], way: str) -> set[tuple[str, int]]:
    """(who, port) of each rule; a part of this release by its name, anybody else as JSON."""
    found = set()
    for rule in rules:
        assert rule[way], "a rule without peers is for everybody"
        assert rule["ports"], "a rule without ports is for all of them"
        for one in rule[way]:
            labels = one.get("podSelector", {}).get("matchLabels", {})
            ours = labels.get("app.kubernetes.io/instance") == "demo"
            who = part(labels) if ours else json.dumps(one, sort_keys=True)
            found |= {(who, port["port"]) for port in rule["ports"]}
    return found


ARROWS: Final = {
    ("gateway", "router", 8080),
    ("router", "orchestrator-1", 9000),
    ("router", "orchestrator-2", 9000),
    ("orchestrator-1", "predictor-1", 9000),
    ("orchestrator-1", "guard-1", 9000),
    ("orchestrator-2", "predictor-1", 9000),
    ("orchestrator-2", "guard-1", 9000),
}
"""Who speaks to whom within an operator's cluster (protocol section 2)."""


@peer
def test_networks_allow_the_arrows_of_the_protocol_and_no_other() -> None:
    policies = {
        part(one["spec"]["podSelector"]["matchLabels"]): one["spec"]
        for one in of_kind("operator", "NetworkPolicy")
    }
    assert set(policies) == set(pods("operator"))
    out, into = set(), set()
    for who, policy in policies.items():
        assert policy["policyTypes"] == ["Ingress", "Egress"]
        out |= {(who, *one) for one in peers_of(policy["egress"], "to") if one[0] in policies}
        into |= {(one[0], who, one[1]) for one in peers_of(policy["ingress"], "from") if one[0] in policies}
    assert out == into == ARROWS
    # From outside only gateway and issuer are spoken to, and by nobody but whom the values name.
    outside = {
        who
        for who, policy in policies.items()
        if any(one not in policies for one, _ in peers_of(policy["ingress"], "from"))
    }
    assert outside == {"gateway", "issuer"}
    # Back ends speak to nobody at all, not even to ask for a name.
    assert policies["predictor-1"]["egress"] == policies["guard-1"]["egress"] == []


@peer
@pytest.mark.parametrize("name", ["relay", "log"])
def test_networks_of_others_parties(name: str) -> None:
    (policy,) = of_kind(name, "NetworkPolicy")
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert {port for _, port in peers_of(policy["spec"]["ingress"], "from")} == {8080}
    assert {port for _, port in peers_of(policy["spec"]["egress"], "to")} == {53, 443}


@peer
def test_a_machine_is_on_its_node_with_the_devices_of_a_plugin() -> None:
    for who, template in pods("operator").items():
        if "-" not in who:
            continue
        spec = template["spec"]
        terms = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        (term,) = terms["nodeSelectorTerms"]
        wanted = {one["key"]: one["values"] for one in term["matchExpressions"]}
        assert wanted["feature.node.kubernetes.io/cpu-security.sev.snp.enabled"] == ["true"]
        assert len(wanted["kubernetes.io/hostname"]) == 1
        (machine,) = spec["containers"]
        assert machine["resources"]["limits"] == machine["resources"]["requests"]
        assert {name for name in machine["resources"]["limits"] if "/" in name} == {
            "devices.example/kvm",
            "devices.example/sev",
        }
        assert [one["restartPolicy"] for one in spec["initContainers"]] == ["Always", "Always"]
        host = spec["initContainers"][1]
        health = config("operator", who, "host.toml", hostside.Config).health
        assert health == f"0.0.0.0:{host['readinessProbe']['tcpSocket']['port']}"


def words(command: list[str]) -> list[tuple[str, str]]:
    """Options of QEMU with their values."""
    single = {"-nodefaults", "-no-user-config", "-no-reboot"}
    rest = iter(command[1:])
    return [(word, "" if word in single else next(rest)) for word in rest]


@peer
def test_a_machine_is_started_as_the_emulated_one_but_for_the_hardware(tmp_path: Path) -> None:
    given = words(pods("operator")["orchestrator-1"]["spec"]["containers"][0]["command"])
    options = dict(given)
    assert options["-accel"] == "kvm"
    assert options["-append"] == COMMAND_LINE
    objects = [value for option, value in given if option == "-object"]
    snp = dict(word.partition("=")[::2] for word in objects[1].split(","))
    assert snp["kernel-hashes"] == "on"
    assert int(snp["policy"], 16) >> 19 & 1 == 0
    assert [value for option, value in given if option == "-device"] == ["vhost-user-vsock-pci,chardev=vsock"]
    launch = Launch(kernel=b"", initrd=b"", command_line=COMMAND_LINE, firmware=firmware())
    emulated = words(["", *Emulator(launch, Programs(qemu="", vsock=""))._words(tmp_path)])
    # The table of hashes and QEMU's own channel are the emulator's; memory, processor and machine differ in their values.
    assert {option for option, _ in emulated} - {option for option, _ in given} == {"-qmp"}
    machine = dict(emulated)["-machine"].split(",")
    assert {"smm=off", "vmport=off", "memory-backend=memory"} <= set(machine)
    assert set(options["-machine"].split(",")) - set(machine) == {
        "pc-q35-10.0",
        "confidential-guest-support=sev0",
    }


@peer
def test_a_volume_is_a_disk_that_cannot_be_written() -> None:
    given = words(pods("operator")["predictor-1"]["spec"]["containers"][0]["command"])
    assert ("-drive", "if=none,id=volume,format=raw,readonly=on,file=/image/volume") in given
    assert ("-device", "virtio-blk-pci,drive=volume,disable-legacy=on") in given


def twice(values: dict[str, Any]) -> None:
    values["cvm"]["machines"][1]["name"] = "orchestrator-1"


def taken(values: dict[str, Any]) -> None:
    values["cvm"]["machines"][3]["name"] = "router"


def wrong_back_end(values: dict[str, Any]) -> None:
    values["cvm"]["machines"][0]["backEnds"]["guard"] = "predictor-1"


def hostless(values: dict[str, Any]) -> None:
    del values["cvm"]["machines"][:2]


def far(values: dict[str, Any]) -> None:
    values["router"]["hosts"] = [{"id": "host-9", "address": "192.0.2.9:9000"}]


def providerless(values: dict[str, Any]) -> None:
    values["issuer"]["to"] = []


@peer
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (twice, "taken"),
        (taken, "taken"),
        (wrong_back_end, "is no guard"),
        (hostless, "no host"),
        (far, "router.to"),
        (providerless, "OpenID"),
    ],
)
def test_what_does_not_fit_together_is_said(change: Callable[[dict[str, Any]], None], says: str) -> None:
    values = example("operator")
    change(values)
    assert is_valid(values)
    done = helm("template", "demo", CHART, values=values)
    assert done.returncode != 0
    assert says in done.stderr


@peer
def test_a_quorum_of_more_than_all_is_said() -> None:
    done = helm("template", "demo", CHART, values=changed("log", "log.quorum", 3))
    assert "quorum" in done.stderr
