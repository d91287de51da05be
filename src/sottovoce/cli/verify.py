"""`sottovoce verify`: what evidence says, check by check; exit codes 0 accepted, 1 refused, 2 unusable input, 3 wrong use."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from sottovoce.cli.judging import GOOD, NOT_GOOD, Judging
from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from sottovoce.attest.policyfile import VerifierPolicy
    from sottovoce.attest.verdict import Verdict
    from sottovoce.core.errors import SottovoceError

__all__ = ["verify"]

_LIMIT: Final = 16 * 1024 * 1024
_STDIN: Final = "sottovoce.cli.verify.stdin"
_EXPORT_LIMIT: Final = 256 * 1024 * 1024
"""A device's export holds the evidence of every session."""
_F = TypeVar("_F", bound=Callable[..., Any])


class _Verify(Judging):
    def is_verdict(self, error: "SottovoceError") -> bool:
        """A directory that is refused is the operator's doing, not the file's."""
        return error.code.startswith("directory")


@click.group(cls=_Verify, epilog="Exit codes: 0 accepted, 1 refused, 2 unusable input, 3 wrong use.")
def verify() -> None:
    """Verify evidence and see every check: what was found, what was wanted, and why it matters."""


def _common(command: _F) -> _F:
    for option in (
        click.option(
            "--json", "as_json", is_flag=True, help="The verdict as JSON (docs/verdict.schema.json)."
        ),
        click.option(
            "--policy",
            "policy_name",
            default="strict",
            show_default=True,
            metavar="strict|chain-only|FILE",
            help="What to demand. chain-only looks at signatures and chains, and shows all else as not checked.",
        ),
    ):
        command = option(command)
    return command


def _at(command: _F) -> _F:
    return click.option(
        "--at",
        default=None,
        metavar="TIME",
        help="Judge as of this time (2026-06-01, 2026-06-01T12:00:00Z or unix seconds), not as of now.",
    )(command)


# What a path leads to is found out when it is read: a folder is as unusable as a file that is missing.
_FILE = click.Path(path_type=Path, allow_dash=True, readable=False)


@verify.command()
@click.option("--report", required=True, type=_FILE, help="The report, alone or with certificates behind it.")
@click.option(
    "--vcek", type=_FILE, help="The certificate of the chip's key, where the report's file has none."
)
@click.option("--chain", type=_FILE, help="Intermediate certificates. Those that ship are tried as well.")
@click.option("--crl", type=_FILE, help="The vendor's revocation list.")
@click.option("--report-data", default=None, metavar="HEX", help="The 64 bytes that the report must hold.")
@_at
@_common
def snp(
    *,
    report: Path,
    vcek: Path | None,
    chain: Path | None,
    crl: Path | None,
    report_data: str | None,
    at: str | None,
    policy_name: str,
    as_json: bool,
) -> None:
    """An AMD SEV-SNP report with its certificates.

    Files are binary, DER, PEM, hexadecimal or base64; their content tells which. Certificates may stand in any order.
    """
    from dataclasses import replace

    from sottovoce.attest.snp.verify import SNP_RELAXABLE, verify_report
    from sottovoce.attest.vendors import amd_intermediates
    from sottovoce.cli.snp import gather

    policy, now = _policy(policy_name), _moment(at)
    references = policy.snp_references
    if report_data is not None:
        references = replace(references, report_data=_hex(report_data, "--report-data", 64))
    papers = gather(_read, report=report, vcek=vcek, chain=chain, crl=crl)
    verdict = verify_report(
        papers.report,
        papers.vcek,
        intermediates=(*papers.intermediates, *amd_intermediates()),
        crl=papers.crl,
        policy=policy.snp,
        now=now,
        references=references,
        relaxed=policy.relaxed & SNP_RELAXABLE,
        left_out=policy.snp_left_out,
    )
    _conclude("sev-snp", verdict, policy.name, now, as_json=as_json)


@verify.command()
@click.option(
    "--report",
    required=True,
    type=_FILE,
    help="The paravisor's report (HCLA…), or one JSON document with report, certificate and quote.",
)
@click.option(
    "--vcek", type=_FILE, help="The certificate of the chip's key, where the report's file has none."
)
@click.option("--chain", type=_FILE, help="Intermediate certificates. Those that ship are tried as well.")
@click.option("--crl", type=_FILE, help="The vendor's revocation list.")
@click.option("--quote", type=_FILE, help="The TPM's quote: JSON, or the message alone.")
@click.option("--signature", type=_FILE, help="The quote's signature, where the quote is the message alone.")
@click.option("--nonce", default=None, metavar="HEX", help="What the quote must hold.")
@click.option(
    "--pcr", "pcrs", multiple=True, metavar="N=HEX", help="A register and its value; may be given again."
)
@click.option(
    "--user-data", default=None, metavar="HEX", help="The 64 bytes that the runtime claims must hold."
)
@_at
@_common
def paravisor(*, at: str | None, policy_name: str, as_json: bool, **given: Any) -> None:
    """Evidence of an Azure confidential VM: SNP report in the paravisor's, runtime claims, the virtual TPM's quote.

    No session accepts it: a paravisor's maker can read the VM's memory and sign any quote (docs/adr/0015).
    """
    from sottovoce.attest.paravisor.verify import PARAVISOR_RELAXABLE, verify_paravisor
    from sottovoce.attest.vendors import amd_intermediates
    from sottovoce.cli.paravisor import gather

    policy, now = _policy(policy_name), _moment(at)
    papers = gather(_read, **given)
    verdict = verify_paravisor(
        papers.report,
        papers.vcek,
        quote=papers.quote,
        intermediates=(*papers.intermediates, *amd_intermediates()),
        crl=papers.crl,
        policy=policy.snp,
        now=now,
        references=policy.snp_references,
        expected=papers.expected,
        relaxed=policy.relaxed & PARAVISOR_RELAXABLE,
        left_out=policy.paravisor_left_out,
    )
    _conclude("paravisor-sev-snp", verdict, policy.name, now, as_json=as_json)


@verify.command()
@click.option("--quote", required=True, type=_FILE, help="The quote: bytes, hexadecimal, base64 or PEM.")
@click.option(
    "--collateral", required=True, type=_FILE, help="Intel's collateral, as JSON (docs/verifying.md)."
)
@click.option(
    "--event-log",
    type=_FILE,
    help="The log of what the TD measured (/sys/firmware/acpi/tables/data/CCEL); replayed and compared with RTMR0 to 3.",
)
@click.option("--report-data", default=None, metavar="HEX", help="The 64 bytes that the quote must hold.")
@_at
@_common
def tdx(
    *,
    quote: Path,
    collateral: Path,
    event_log: Path | None,
    report_data: str | None,
    at: str | None,
    policy_name: str,
    as_json: bool,
) -> None:
    """An Intel TDX quote with its collateral. The content of the quote's file tells its form, which may also be JSON with a member `quote`."""
    from dataclasses import replace

    from sottovoce.attest.tdx.forms import read_event_log, read_quote
    from sottovoce.attest.tdx.verify import TDX_RELAXABLE, verify_quote

    policy, now = _policy(policy_name), _moment(at)
    references = policy.tdx_references
    if report_data is not None:
        references = replace(references, report_data=_hex(report_data, "--report-data", 64))
    verdict = verify_quote(
        read_quote(_read(quote)),
        _read(collateral),
        policy=policy.tdx,
        now=now,
        event_log=read_event_log(_read(event_log)) if event_log else b"",
        references=references,
        relaxed=policy.relaxed & TDX_RELAXABLE,
        left_out=policy.tdx_left_out,
    )
    _conclude("tdx", verdict, policy.name, now, as_json=as_json)


@verify.command()
@click.option("--evidence", required=True, type=_FILE, help="The JSON list of the vendor's tools.")
@click.option("--nonce", default=None, metavar="HEX", help="The 32 bytes that the reports must answer.")
@click.option(
    "--rim", "rims", type=_FILE, multiple=True, help="A reference manifest; one for each driver and firmware."
)
@_at
@_common
def nvidia(
    *,
    evidence: Path,
    nonce: str | None,
    rims: tuple[Path, ...],
    at: str | None,
    policy_name: str,
    as_json: bool,
) -> None:
    """NVIDIA GPUs and NVLink switches: reports with their certificates, and the manifests to compare them with."""
    from sottovoce.attest.nvidia.verify import NVIDIA_RELAXABLE, verify_gpus

    policy, now = _policy(policy_name), _moment(at)
    verdict = verify_gpus(
        _read(evidence),
        nonce=None if nonce is None else _hex(nonce, "--nonce", 32),
        rims=tuple(map(_read, rims)),
        policy=policy.nvidia,
        now=now,
        relaxed=policy.relaxed & NVIDIA_RELAXABLE,
        left_out=policy.nvidia_left_out,
    )
    _conclude("nvidia", verdict, policy.name, now, as_json=as_json)


@verify.command()
@click.argument("report", type=_FILE)
@click.option("--id", "report_id", default=None, help="Only the report whose id begins so.")
@click.option(
    "--environment", type=_FILE, default=None, help="The pins to verify with.  [default: this device's]"
)
@_common
@click.pass_obj
def session(
    context: Context,
    *,
    report: Path,
    report_id: str | None,
    environment: Path | None,
    policy_name: str,
    as_json: bool,
) -> None:
    """Reports exported by a device, verified anew from the evidence that they hold, as of their own time."""
    from sottovoce.core.errors import DecodeError
    from sottovoce.device.environment import FILE, Environment
    from sottovoce.device.recheck import is_empty, recheck
    from sottovoce.device.reports import decode_export

    policy = _policy(policy_name)
    pins = Environment.load(environment or context.home / FILE)
    demands = policy.for_session(pins.session_policy())
    exported = decode_export(_read(report, limit=_EXPORT_LIMIT))
    reports = [one for one in exported if one.id.startswith(report_id or "")]
    if not reports:
        raise DecodeError("there is no such report in this file")
    if len(reports) > 1:
        for one in filter(is_empty, reports):
            click.echo(
                f"report {one.id}: left out, as that session had no evidence yet, and sent nothing", err=True
            )
        reports = [one for one in reports if not is_empty(one)] or reports
    verdicts = [(one.id, one.time, recheck(one, pins, demands)) for one in reports]
    with output():
        _show_reports(verdicts, policy.name, simulated=pins.simulated, as_json=as_json)
    sys.exit(GOOD if all(verdict.accepted for _, _, verdict in verdicts) else NOT_GOOD)


def _show_reports(
    verdicts: "list[tuple[str, int, Verdict]]", policy: str, *, simulated: bool, as_json: bool
) -> None:
    if as_json:
        click.echo(
            json.dumps(
                [
                    {
                        "report": name,
                        **_document("session", verdict, policy, time, simulated=simulated),
                    }
                    for name, time, verdict in verdicts
                ],
                indent=2,
            )
        )
    else:
        for name, time, verdict in verdicts:
            click.echo(f"report {name}")
            _print("session", verdict, policy, time, simulated=simulated)


@verify.command()
@click.argument("url")
@click.option(
    "--role",
    type=click.Choice(("orchestrator", "predictor", "guard")),
    default="orchestrator",
    show_default=True,
    help="What the CVM must be.",
)
@_common
@click.pass_obj
def live(
    context: Context,
    *,
    url: str,
    role: str,
    policy_name: str,
    as_json: bool,
) -> None:
    """Open an attested session with the CVM at URL (tcp://HOST:PORT), explain its evidence, and send nothing."""
    import time

    from sottovoce.cli.probe import probe
    from sottovoce.device.environment import FILE, Environment

    policy = _policy(policy_name)
    pins = Environment.load(context.home / FILE)
    now = int(time.time())
    verdict = probe(context.home, pins, url, role=role, policy=policy, now=now)
    _conclude("session", verdict, policy.name, now, as_json=as_json, simulated=pins.simulated)


# What all commands share.


def _read(path: Path, *, limit: int = _LIMIT) -> bytes:
    from sottovoce.core.errors import ConfigError

    try:
        if str(path) == "-":
            data = _stdin(limit)
        else:
            with path.open("rb") as file:
                data = file.read(limit + 1)
    except (OSError, ValueError):  # ValueError: no path has a zero byte
        raise ConfigError("a file cannot be read", hint=f"looked at {path}") from None
    if len(data) > limit:
        raise ConfigError("a file is longer than its limit", hint=f"looked at {path}")
    if not data:
        # Nothing given and something empty given are not the same.
        raise ConfigError("a file is empty", hint=f"looked at {path}")
    return data


def _stdin(limit: int) -> bytes:
    taken = click.get_current_context().meta
    if taken.setdefault(_STDIN, 0):
        raise click.UsageError("standard input (-) can be read once only")
    taken[_STDIN] = 1
    if sys.stdin is None:  # closed by whoever started the program
        raise OSError
    return sys.stdin.buffer.read(limit + 1)


def _policy(name: str) -> "VerifierPolicy":
    from sottovoce.attest.policyfile import BUILT_IN, built_in, parse_policy

    return built_in(name) if name in BUILT_IN else parse_policy(_read(Path(name)), name=name)


def _hex(text: str, option: str, length: int) -> bytes:
    try:
        value = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        value = b""
    if len(value) != length:
        raise click.BadParameter(f"{length} bytes in hexadecimal are expected", param_hint=option)
    return value


def _moment(text: str | None) -> int:
    import datetime as dt
    import time

    if text is None:
        return int(time.time())
    try:
        # Eight digits are a date of ISO 8601 in its basic form: as seconds they would be of 1970.
        if text.isascii() and text.isdigit() and len(text) != len("20260501"):
            moment = dt.datetime.fromtimestamp(int(text), dt.UTC)
        else:
            moment = dt.datetime.fromisoformat(text)
        seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp())
        dt.datetime.fromtimestamp(seconds, dt.UTC)  # a zone can lead out of the years that there are
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter("not a time", param_hint="--at") from None
    return seconds


def _conclude(
    platform: str, verdict: "Verdict", policy: str, now: int, *, as_json: bool, simulated: bool = False
) -> None:
    with output():
        if as_json:
            click.echo(json.dumps(_document(platform, verdict, policy, now, simulated=simulated), indent=2))
        else:
            _print(platform, verdict, policy, now, simulated=simulated)
    sys.exit(GOOD if verdict.accepted else NOT_GOOD)


def _document(platform: str, verdict: "Verdict", policy: str, now: int, *, simulated: bool) -> dict[str, Any]:
    return verdict.document(platform=platform, policy=policy, at=now, simulated=simulated)


def _print(platform: str, verdict: "Verdict", policy: str, now: int, *, simulated: bool) -> None:
    from sottovoce.cli.verdicts import VerdictConsole, banner, show_conclusion, show_verdict

    out = VerdictConsole(highlight=False)
    banner(out, simulated=simulated)
    show_verdict(out, verdict)
    show_conclusion(out, verdict, f"{platform}, policy {policy}, as of {_utc(now)}")


def _utc(seconds: int) -> str:
    import datetime as dt

    try:
        return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):  # a report may say any number
        return f"{seconds} s after 1970"
