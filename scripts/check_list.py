"""Makes docs/checks.md: every check of every verdict, from the rules themselves.

python scripts/check_list.py > docs/checks.md
"""

from collections.abc import Iterator, Mapping
from typing import Final

from sottovoce.attest.nvidia.rules import GPU_RULES, LIST_RULES, SWITCH_RULES
from sottovoce.attest.nvidia.verify import NVIDIA_RELAXABLE
from sottovoce.attest.paravisor.rules import PARAVISOR_RULES
from sottovoce.attest.paravisor.verify import PARAVISOR_RELAXABLE
from sottovoce.attest.policy import RELAXABLE
from sottovoce.attest.rules import SESSION_RULES
from sottovoce.attest.snp.rules import SNP_OPTIONAL_RULES, SNP_REFERENCE_RULES, SNP_RULES
from sottovoce.attest.snp.verify import SNP_RELAXABLE
from sottovoce.attest.tdx.rules import TDX_OPTIONAL_RULES, TDX_REFERENCE_RULES, TDX_RULES
from sottovoce.attest.tdx.verify import TDX_RELAXABLE
from sottovoce.attest.verdict import Rule

SECTIONS: Final[Mapping[str, Mapping[str, Rule]]] = {
    "Any session": SESSION_RULES,
    "AMD SEV-SNP": SNP_RULES,
    "AMD SEV-SNP, where a policy demands it": SNP_OPTIONAL_RULES,
    "AMD SEV-SNP, where a reference value is given": SNP_REFERENCE_RULES,
    "A paravisor around SEV-SNP": PARAVISOR_RULES,
    "Intel TDX": TDX_RULES,
    "Intel TDX, where a policy demands it": TDX_OPTIONAL_RULES,
    "Intel TDX, where a reference value is given": TDX_REFERENCE_RULES,
    "NVIDIA, each GPU": GPU_RULES,
    "NVIDIA, each switch": SWITCH_RULES,
    "NVIDIA, all devices together": LIST_RULES,
}
ALONE: Final = SNP_RELAXABLE | TDX_RELAXABLE | NVIDIA_RELAXABLE | PARAVISOR_RELAXABLE
HEAD: Final = """# Checks

Made by `python scripts/check_list.py` from the rules that the verifier runs by. A verdict has one line for each check: what was found, what was
wanted, and one of `pass`, `fail`, `relaxed` (failed, and the policy lets that pass) or `not checked`, which proves nothing. A check
that could not be reached has failed.

The last column says who may relax it: *session* means that a policy may do so for sessions and for evidence on its own, *alone* that it may for
evidence on its own only. The others are never relaxed.
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    for title, rules in SECTIONS.items():
        yield f"## {title}\n"
        yield "| check | protocol | holds | without it, an attacker could | source | relaxed |"
        yield "|---|---|---|---|---|---|"
        for check, rule in rules.items():
            who = "session" if check in RELAXABLE else "alone" if check in ALONE else ""
            cells = (f"`{check}`", rule.section, rule.title, rule.risk, rule.source, who)
            yield "| " + " | ".join(cells) + " |"
        yield ""


def main() -> None:
    """Print the page."""
    print("\n".join(page()).rstrip())


if __name__ == "__main__":
    main()
