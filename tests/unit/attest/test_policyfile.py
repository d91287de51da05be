"""Policies as files: what each name does, what is refused, and what is left of one in a session."""

import re
from dataclasses import replace
from typing import Any

import pytest

from sottovoce.attest.nvidia.policy import NvidiaPolicy, NvidiaRoots
from sottovoce.attest.nvidia.verify import NVIDIA_RELAXABLE
from sottovoce.attest.paravisor.verify import PARAVISOR_RELAXABLE
from sottovoce.attest.policy import RELAXABLE, Root, SessionPolicy, SnpPolicy, TdxPolicy
from sottovoce.attest.policyfile import VerifierPolicy, built_in, parse_policy
from sottovoce.attest.snp.floors import FLOORS, Floor
from sottovoce.attest.snp.layout import Tcb
from sottovoce.attest.snp.verify import SNP_RELAXABLE, SnpReferences
from sottovoce.attest.tdx.verify import TDX_RELAXABLE, TdxReferences
from sottovoce.attest.vendors import amd_root, amd_roots, intel_root, nvidia_roots
from sottovoce.core.errors import ConfigError, UsageError
from sottovoce.simulator.testing import EvidenceWorld

HINT = "docs/policy.md lists what a policy file may say"
FLOOR = 'bootloader = 10\ntee = 1\nsnp = 28\nmicrocode = 86\nsource = "AMD-SB-1"\n'


def parsed(text: str) -> VerifierPolicy:
    return parse_policy(f"version = 1\n{text}".encode(), name="mine")


def refused(text: str) -> tuple[str, str]:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return str(caught.value), caught.value.hint


def filled(text: str) -> str:
    """`<0a*64>` stands for 64 bytes 0x0a."""
    return re.sub(r"<(..)[*]([0-9]+)>", lambda found: found[1] * int(found[2]), text)


def test_an_empty_file_is_the_strict_policy() -> None:
    assert parsed("") == replace(built_in("strict"), name="mine")


def test_every_name_does_what_it_says() -> None:
    policy = parsed(
        filled(
            """
        relax = ["policy-smt", "tdx-perfmon"]
        demand = ["policy-page-swap"]
        [snp]
        products = ["Milan", "Turin"]
        [snp.floors.Turin]
        fmc = 255
        bootloader = 0
        tee = 1
        snp = 28
        microcode = 255
        source = "AMD-SB-1"
        [snp.expect]
        report_data = "<0a*64>"
        measurements = ["<01*48>", "<02*48>"]
        chips = ["<03*64>"]
        vmpl = 3
        host_data = "<04*32>"
        id_keys = ["<05*48>"]
        guest_svn = 4294967296
        [tdx]
        statuses = ["SWHardeningNeeded"]
        advisories = ["INTEL-SA-00012"]
        evaluation = 17
        [tdx.expect]
        report_data = "<06*64>"
        platforms = ["<07*16>"]
        modules = ["<08*48>"]
        mrtds = ["<09*48>"]
        rtmr0 = ["<10*48>"]
        rtmr3 = ["<13*48>"]
        mr_config_id = "<14*48>"
        mr_owner = "<15*48>"
        mr_owner_config = "<16*48>"
        [nvidia]
        architectures = ["HOPPER"]
        modes = ["PPCIE"]
        revoked = ["%s"]
        """
            % ("ab" * 32)
        )
    )
    turin = Floor(tcb=Tcb(bootloader=0, tee=1, snp=28, microcode=255, fmc=255), source="AMD-SB-1")
    assert policy == VerifierPolicy(
        name="mine",
        relaxed=frozenset({"policy-smt", "tdx-perfmon"}),
        snp=SnpPolicy(
            roots=amd_roots(),
            products=frozenset({"Milan", "Turin"}),
            floors={**FLOORS, "Turin": turin},
            tightened=frozenset({"policy-page-swap"}),
        ),
        snp_references=SnpReferences(
            report_data=b"\x0a" * 64,
            measurements=frozenset({b"\x01" * 48, b"\x02" * 48}),
            chips=frozenset({b"\x03" * 64}),
            vmpl=3,
            host_data=b"\x04" * 32,
            id_keys=frozenset({b"\x05" * 48}),
            guest_svn=1 << 32,
        ),
        tdx=TdxPolicy(
            root=intel_root(),
            statuses=frozenset({"SWHardeningNeeded"}),
            advisories=frozenset({"INTEL-SA-00012"}),
            evaluation=17,
        ),
        tdx_references=TdxReferences(
            report_data=b"\x06" * 64,
            platforms=frozenset({b"\x07" * 16}),
            modules=frozenset({b"\x08" * 48}),
            mrtds=frozenset({b"\x09" * 48}),
            rtmrs=(frozenset({b"\x10" * 48}), None, None, frozenset({b"\x13" * 48})),
            mr_config_id=b"\x14" * 48,
            mr_owner=b"\x15" * 48,
            mr_owner_config=b"\x16" * 48,
        ),
        nvidia=NvidiaPolicy(
            roots=nvidia_roots(),
            architectures=frozenset({"HOPPER"}),
            modes=frozenset({"PPCIE"}),
            revoked=frozenset({"ab" * 32}),
        ),
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("other = 1", "the policy file has an unknown name: other"),
        ("relax = 1", "the policy file has a wrong value for relax"),
        ("relax = [1]", "the policy file has a wrong value for relax"),
        ('relax = ["signature"]', "the policy file: relax has an unknown name: signature"),
        ('relax = ["z", "a"]', "the policy file: relax has an unknown name: a"),
        (f'relax = ["{"x" * 99}"]', f"the policy file: relax has an unknown name: {'x' * 60}"),
        ('demand = ["policy-smt"]', "the policy file: demand has an unknown name: policy-smt"),
        ("snp = 1", "[snp] is not a table"),
        ("[snp]\nother = 1", "[snp] has an unknown name: other"),
        ("[snp]\nproducts = []", "the policy file: a policy needs products and floors"),
        ('[snp]\nproducts = ["Naples"]', "[snp]: products has an unknown name: Naples"),
        ("[snp.floors]\nGenoa = 1", "[snp.floors.Genoa] is not a table"),
        (f"[snp.floors.{'y' * 99}]\nother = 1", f"[snp.floors.{'y' * 60}] has an unknown name: other"),
        (f"[snp.floors.Siena]\n{FLOOR}", "[snp.floors] has an unknown part: Siena"),
        (f"[snp.floors.Genoa]\n{FLOOR}other = 1", "[snp.floors.Genoa] has an unknown name: other"),
        (
            f"[snp.floors.Genoa]\n{FLOOR.replace('86', '256')}",
            "[snp.floors.Genoa] has a wrong value for microcode",
        ),
        (
            f"[snp.floors.Genoa]\n{FLOOR.replace('tee', '#tee')}",
            "[snp.floors.Genoa] needs bootloader, tee, snp, microcode and a source",
        ),
        (
            f"[snp.floors.Genoa]\n{FLOOR.replace('source', '#source')}",
            "[snp.floors.Genoa] needs bootloader, tee, snp, microcode and a source",
        ),
        ("[snp.expect]\nvmpl = 4", "[snp.expect] has a wrong value for vmpl"),
        ("[snp.expect]\nvmpl = -1", "[snp.expect] has a wrong value for vmpl"),
        ("[snp.expect]\nvmpl = true", "[snp.expect] has a wrong value for vmpl"),
        ("[snp.expect]\nguest_svn = 4294967297", "[snp.expect] has a wrong value for guest_svn"),
        ('[snp.expect]\nreport_data = "zz"', "[snp.expect] has a wrong value for report_data"),
        ("[snp.expect]\nreport_data = 1", "[snp.expect] has a wrong value for report_data"),
        ('[snp.expect]\nchips = "aa"', "[snp.expect] has a wrong value for chips"),
        ('[snp.expect]\nchips = ["zz"]', "[snp.expect] has a wrong value for chips"),
        ("[snp.expect]\nchips = [1]", "[snp.expect] has a wrong value for chips"),
        ("[snp.expect]\nother = 1", "[snp.expect] has an unknown name: other"),
        ("[tdx]\nother = 1", "[tdx] has an unknown name: other"),
        ('[tdx]\nstatuses = ["Revoked"]', "[tdx]: statuses has an unknown name: Revoked"),
        ("[tdx]\nstatuses = []", "the policy file: a policy needs a root and an accepted status"),
        ('[tdx]\nadvisories = ["INTEL-SA-1"]', "[tdx] has a wrong value for advisories"),
        ("[tdx]\nadvisories = [1]", "[tdx] has a wrong value for advisories"),
        ("[tdx]\nevaluation = -1", "[tdx] has a wrong value for evaluation"),
        ("[tdx.expect]\nother = 1", "[tdx.expect] has an unknown name: other"),
        ("[nvidia]\nother = 1", "[nvidia] has an unknown name: other"),
        ('[nvidia]\nrevoked = ["AB"]', "[nvidia] has a wrong value for revoked"),
        ('[nvidia]\narchitectures = ["PASCAL"]', "[nvidia]: architectures has an unknown name: PASCAL"),
        ('[nvidia]\nmodes = ["off"]', "[nvidia]: modes has an unknown name: off"),
    ],
)
def test_what_there_is_not(text: str, words: str) -> None:
    assert refused(text) == (words, HINT)


@pytest.mark.parametrize("data", [b"", b"version = 2"])
def test_a_file_of_another_version(data: bytes) -> None:
    with pytest.raises(ConfigError, match="the policy file is of an unknown version") as caught:
        parse_policy(data, name="mine")
    assert caught.value.hint == "it begins with: version = 1"


@pytest.mark.parametrize("data", [b"version", b"\xff", b"a = " + b"[" * 10_000])
def test_a_file_that_is_not_toml(data: bytes) -> None:
    with pytest.raises(ConfigError, match="the policy file is not TOML") as caught:
        parse_policy(data, name="mine")
    assert caught.value.hint == HINT


def test_a_long_file() -> None:
    longest = b"version = 1\n#".ljust(256 * 1024)
    assert parse_policy(longest, name="mine").name == "mine"
    with pytest.raises(ConfigError, match="longer than its limit") as caught:
        parse_policy(longest + b" ", name="mine")
    assert caught.value.hint == HINT


def test_built_in_policies() -> None:
    assert not built_in("strict").chain_only
    assert built_in("chain-only").chain_only
    with pytest.raises(ConfigError, match="no built-in policy") as caught:
        built_in("lax")
    assert caught.value.hint == "there are strict and chain-only"


# What is lower than in the strict policy.


def lowered(text: str) -> frozenset[str]:
    policy = parsed(text)
    return policy.snp.lowered | policy.tdx.lowered | policy.nvidia.lowered


def floor(part: str, **levels: int) -> str:
    tcb = {
        name: getattr(FLOORS[part].tcb, name) or 0
        for name in ("bootloader", "tee", "snp", "microcode", "fmc")
    }
    lines = "".join(f"{name} = {level}\n" for name, level in {**tcb, **levels}.items())
    return f'[snp.floors.{part}]\n{lines}source = "mine"\n'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", set()),
        ('[snp]\nproducts = ["Genoa"]', set()),
        ('[snp]\nproducts = ["Genoa", "Milan"]', {"product"}),
        (floor("Turin"), set()),
        (floor("Turin", fmc=1, snp=5, microcode=255), set()),
        (floor("Turin", fmc=1, snp=3, microcode=255), {"tcb-floor"}),
        (floor("Genoa", microcode=0x55), {"tcb-floor"}),
        ('[tdx]\nstatuses = ["UpToDate"]\nadvisories = []\nevaluation = 17', set()),
        ('[tdx]\nstatuses = ["UpToDate", "OutOfDate"]', {"tdx-tcb-status"}),
        ('[tdx]\nadvisories = ["INTEL-SA-00012"]', {"tdx-advisories"}),
        ('[nvidia]\nmodes = ["SPT"]\narchitectures = ["HOPPER"]', set()),
        ('[nvidia]\nmodes = ["SPT", "PPCIE"]', {"nvidia-mode"}),
    ],
)
def test_what_a_file_lowers_is_known_by_the_checks_name(text: str, names: set[str]) -> None:
    assert lowered(text) == names


def test_a_floor_for_a_part_that_has_none_is_lower_than_none() -> None:
    floors = {"Milan": FLOORS["Milan"], "Rome": FLOORS["Milan"]}
    assert SnpPolicy(roots=amd_roots(), floors=floors).lowered == {"tcb-floor"}


# In a session.

WORLD = EvidenceWorld()
ROOTS = NvidiaRoots(devices=b"d", manifests=b"m", simulated=True)


def pinned(**changes: Any) -> SessionPolicy:
    return WORLD.policy(
        **{
            "tdx": TdxPolicy(root=b"pinned", simulated=True),
            "nvidia": NvidiaPolicy(roots=ROOTS),
            "relaxed": frozenset({"product"}),
            **changes,
        }
    )


def test_in_a_session_the_pinned_roots_stay() -> None:
    mine = parsed(
        'relax = ["policy-smt"]\ndemand = ["policy-page-swap"]\n'
        "[tdx]\nevaluation = 17\n"
        '[nvidia]\nmodes = ["PPCIE"]'
    )
    before = pinned()
    after = mine.for_session(before)
    assert after == replace(
        before,
        snp=SnpPolicy(roots=before.snp.roots, tightened=frozenset({"policy-page-swap"})),
        tdx=TdxPolicy(root=b"pinned", evaluation=17, simulated=True),
        nvidia=NvidiaPolicy(roots=ROOTS, modes=frozenset({"PPCIE"})),
        relaxed=frozenset({"product", "policy-smt"}),
    )


def test_a_file_brings_no_platform_that_is_not_pinned() -> None:
    after = parsed("[tdx]\nevaluation = 17").for_session(pinned(tdx=None, nvidia=None))
    assert (after.tdx, after.nvidia) == (None, None)


def test_all_that_a_session_may_leave_out_may_be_left_out() -> None:
    names = ", ".join(f'"{name}"' for name in sorted(RELAXABLE))
    assert parsed(f"relax = [{names}]").for_session(pinned()).relaxed == RELAXABLE


@pytest.mark.parametrize("text", ['relax = ["tcb-floor"]', 'relax = ["policy-smt", "revoked"]'])
def test_a_session_cannot_do_without(text: str) -> None:
    with pytest.raises(ConfigError, match="leaves out what a session cannot do without") as caught:
        parsed(text).for_session(pinned())
    assert caught.value.hint == HINT


def test_a_session_is_more_than_its_chain() -> None:
    with pytest.raises(ConfigError, match="leaves out what a session cannot do without"):
        built_in("chain-only").for_session(pinned())


@pytest.mark.parametrize("platform", ["snp", "tdx"])
def test_a_session_has_the_reference_values_of_its_release(platform: str) -> None:
    text = filled(f'[{platform}.expect]\nreport_data = "<0a*64>"')
    with pytest.raises(ConfigError, match="reference values from its release") as caught:
        parsed(text).for_session(pinned())
    assert caught.value.hint == HINT


def test_every_check_that_may_be_relaxed_alone_has_a_name() -> None:
    alone = SNP_RELAXABLE | TDX_RELAXABLE | PARAVISOR_RELAXABLE | NVIDIA_RELAXABLE
    names = ", ".join(f'"{name}"' for name in sorted(alone))
    assert parsed(f"relax = [{names}]").relaxed == alone


@pytest.mark.parametrize("status", ["TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"])
def test_what_intels_library_adds_to_its_words_may_be_accepted(status: str) -> None:
    policy = parse_policy(f'version = 1\n[tdx]\nstatuses = ["UpToDate", "{status}"]'.encode(), name="x")
    assert policy.tdx.statuses == {"UpToDate", status}


@pytest.mark.parametrize(("product", "ark"), [("", b"root"), ("Genoa", b"")])
def test_a_root_needs_both(product: str, ark: bytes) -> None:
    with pytest.raises(UsageError, match="a root needs a product and a certificate"):
        Root(product=product, ark_der=ark)


def test_a_check_that_nobody_could_demand() -> None:
    with pytest.raises(UsageError, match="a policy demands a check that there is not"):
        SnpPolicy(roots=amd_roots(), tightened=frozenset({"policy-smt"}))


def test_a_product_without_a_pinned_root() -> None:
    with pytest.raises(UsageError, match="there is no pinned root for this product"):
        amd_root("Naples")
