"""`sottovoce log`: what the log holds, proofs and tree heads; and its other commands; exit codes as `sottovoce verify` has them."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from sottovoce.cli.judging import NOT_GOOD, Judging
from sottovoce.cli.logfiles import FILE, LIMIT, at_url, log_policy, pinned, read_file, with_reader, write_file
from sottovoce.cli.logmonitor import monitor
from sottovoce.cli.logpublish import artifact, keygen, publish, sign
from sottovoce.cli.main import Context
from sottovoce.cli.output import output

if TYPE_CHECKING:
    from sottovoce.core.errors import SottovoceError
    from sottovoce.thirdparty.logreader import LogReader
    from sottovoce.tlog.policy import LogPolicy

__all__ = ["log"]

_CODES: Final = (
    "Exit codes: 0 nothing found, 1 something found or a proof refused, 2 unusable input, 3 wrong use."
)
_SHOWN: Final = 100


class _Log(Judging):
    def is_verdict(self, error: "SottovoceError") -> bool:
        """A proof that does not verify is the log's doing."""
        from sottovoce.core.errors import CryptoError

        return isinstance(error, CryptoError)


@click.group(cls=_Log, epilog=_CODES)
def log() -> None:
    """Look into the public log, prove and publish entries, or watch it as a monitor."""


for _command in (keygen, sign, publish, artifact, monitor):
    log.add_command(_command)


@log.command()
@at_url
@pinned
@click.option("--from", "start", type=click.IntRange(min=0), default=None, help="First entry to show.")
@click.option(
    "--count",
    type=click.IntRange(min=0, max=10_000),
    default=10,
    show_default=True,
    help="How many entries to show.",
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.pass_obj
def show(
    context: Context,
    /,
    *,
    url: str,
    environment: Path | None,
    start: int | None,
    count: int,
    as_json: bool,
) -> None:
    """Show the newest tree head with its witnesses, and entries; the last ones, if --from does not say.

    Entries are shown only if all of the log's gives the signed tree head.
    """
    policy, now = log_policy(context, environment), int(time.time())

    async def work(reader: "LogReader") -> dict[str, Any]:
        return await _look(reader, policy, now, start=start, count=count)

    shown = with_reader(url, work)
    with output():
        click.echo(json.dumps(shown, indent=2) if as_json else _shown_text(shown))
    if shown["fault"]:
        sys.exit(NOT_GOOD)


async def _look(
    reader: "LogReader", policy: "LogPolicy", now: int, *, start: int | None, count: int
) -> dict[str, Any]:
    from sottovoce.core.errors import PeerError
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog import merkle
    from sottovoce.tlog.history import NotListedError

    note = await reader.checkpoint()
    head, fault = signed_head(note, policy), ""
    try:
        policy.verify_checkpoint(note, now=now)
    except PeerError as error:
        fault = str(error)
    first = max(0, head.size - count) if start is None else start
    leaves = await reader.leaves(head.size)
    if merkle.tree_head(leaves) != head.root:
        raise NotListedError("the log's files do not give its signed tree head")
    last = min(head.size, first + count)
    entries = await reader.entries(first, last) if first < last else []
    if [merkle.leaf_hash(entry) for entry in entries] != leaves[first:last]:
        raise NotListedError("the log's entries are not those of its signed tree head")
    return {
        "log": head.origin,
        "size": head.size,
        "root": head.root.hex(),
        "fault": fault,
        "witnesses": [{"name": key.name, "cosigned": note.cosigned_at(key)} for key in policy.witnesses],
        "entries": [
            {"index": first + number, "leaf": merkle.leaf_hash(entry).hex(), "entry": _entry(entry)}
            for number, entry in enumerate(entries)
        ],
    }


def _entry(entry: bytes) -> Any:
    from sottovoce.core import canonical
    from sottovoce.core.errors import DecodeError

    try:
        return canonical.decode(entry, limit=LIMIT)
    except DecodeError:
        return None


def _shown_text(shown: dict[str, Any]) -> str:
    from sottovoce.attest.verdict import printable

    lines = [f"{shown['log']}: {shown['size']} entries, root {shown['root']}"]
    for witness in shown["witnesses"]:
        when = "has not cosigned it" if witness["cosigned"] is None else f"cosigned at {witness['cosigned']}"
        lines.append(f"  {witness['name']} {when}")
    if shown["fault"]:
        lines.append(f"  NOT ACCEPTED: {shown['fault']}")
    for item in shown["entries"]:
        text = "not canonical JSON" if item["entry"] is None else json.dumps(item["entry"])
        lines.append(f"{item['index']:>8}  {text[:_SHOWN]}{'…' if len(text) > _SHOWN else ''}")
    return "\n".join(map(printable, lines))


@log.command()
@click.argument("entry", type=FILE)
@at_url
@pinned
@click.option("--out", required=True, type=FILE, help="Where to write the proof.")
@click.pass_obj
def prove(context: Context, /, entry: Path, *, url: str, environment: Path | None, out: Path) -> None:
    """Make a proof (C2SP tlog-proof) that ENTRY is in the log, from the log's public files, and verify it."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog import merkle
    from sottovoce.tlog.proof import encode_proof, verify_proof

    policy, data, now = log_policy(context, environment), read_file(entry), int(time.time())

    async def work(reader: "LogReader") -> bytes:
        note = await reader.checkpoint()
        leaves = await reader.leaves(signed_head(note, policy).size)
        leaf = merkle.leaf_hash(data)
        if leaf not in leaves:
            raise ConfigError("the log has no such entry")
        index = leaves.index(leaf)
        return encode_proof(index=index, path=merkle.inclusion_proof(leaves, index), checkpoint=note)

    proof = with_reader(url, work)
    logged = verify_proof(proof, data, policy, now=now)
    write_file(out, proof)
    click.echo(f"entry {logged.index} of {logged.checkpoint.size}, seen by {policy.quorum} witnesses or more")


@log.command()
@click.argument("entry", type=FILE)
@pinned
@click.option("--proof", required=True, type=FILE, help="The proof (C2SP tlog-proof).")
@click.option("--any-age", is_flag=True, help="Also if witnesses saw the log more than a day ago.")
@click.pass_obj
def check(context: Context, /, entry: Path, *, environment: Path | None, proof: Path, any_age: bool) -> None:
    """Check a proof that ENTRY is in the log, without a network."""
    from sottovoce.tlog.proof import verify_proof

    policy = log_policy(context, environment)
    now = None if any_age else int(time.time())
    logged = verify_proof(read_file(proof), read_file(entry), policy, now=now)
    click.echo(f"entry {logged.index} of {logged.checkpoint.size}, seen by {policy.quorum} witnesses or more")


@log.command()
@click.option("--out", required=True, type=FILE, help="Where to write the tree head.")
@click.pass_obj
def export(context: Context, /, *, out: Path) -> None:
    """Write the tree head that this device holds, for another device or a monitor to compare."""
    from sottovoce.device.gossip import exported

    write_file(out, exported(context.home / "directory.json"))


@log.command()
@click.argument("checkpoint", type=FILE)
@at_url
@pinned
@click.pass_obj
def compare(context: Context, /, checkpoint: Path, *, url: str, environment: Path | None) -> None:
    """Compare another device's tree head (CHECKPOINT) with the last one of this device; 1 if the log is forked."""
    from sottovoce.core.errors import ConfigError
    from sottovoce.device.directory import load_last_seen
    from sottovoce.device.gossip import compare as compare_heads
    from sottovoce.device.gossip import signed_head
    from sottovoce.tlog.note import Note

    policy = log_policy(context, environment)
    other = signed_head(Note.parse(read_file(checkpoint)), policy)
    last = load_last_seen(context.home / "last-directory.json")
    if last is None:
        raise ConfigError("this device has seen no tree head yet")
    if last.checkpoint.origin != policy.origin:
        raise ConfigError(
            "this device has seen another log last than the one that is pinned",
            hint="two logs cannot be compared; after a refill it has seen this one",
        )
    size = max(other.size, last.checkpoint.size)
    same = other.size == last.checkpoint.size
    leaves: list[bytes] = [] if same else with_reader(url, lambda reader: reader.leaves(size))
    click.echo(compare_heads(other, last, leaves))
