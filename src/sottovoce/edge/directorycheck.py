"""Whether a directory would lock devices out, or tell them apart: what the operator's tool looks at before it signs and publishes.

A fault is found in the document and its predecessor alone (`document_faults`), or against what runs and what the log holds
(`surrounding_faults`). A device makes its own checks; these are the ones that it could only answer by refusing.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from sottovoce.core.authscheme import from_base64url
from sottovoce.core.errors import DecodeError, SottovoceError, UsageError
from sottovoce.core.ohttp import KeyConfig, decode_key_configs, select_config
from sottovoce.core.privatetokens import PublicTokenKey
from sottovoce.core.tokens import EPOCH_SECONDS, GRACE, PRIVATE_TOKEN_TYPE, TOKEN_TYPE, TokenKey
from sottovoce.tlog.entries import Directory, Release
from sottovoce.tlog.members import kind_of
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.tiles import MAX_ENTRY

__all__ = ["DirectoryFaultyError", "Fault", "document_faults", "surrounding_faults"]

_ROLE = "orchestrator"


class DirectoryFaultyError(SottovoceError):
    """The directory would lock devices out: nothing was signed and nothing published."""

    code = "directory.faults"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong: its name, and what to do."""

    code: str
    text: str


def document_faults(new: Directory, current: Directory | None, *, gap: bool = False) -> list[Fault]:
    """What is wrong with `new` as the successor of `current`; None for the first directory of an environment.

    With `gap`, days may be missing between the two: there was no directory on them, for anybody.
    """
    found = [
        *_validity(new),
        *_token_keys(new),
        *_token_key_forms(new),
        *_ohttp_keys(new),
        *_listed(new),
    ]
    if current is not None:
        found += _succession(new, current, gap=gap)
    return found


def _validity(new: Directory) -> Iterator[Fault]:
    start = new.epoch * EPOCH_SECONDS
    if (new.not_before, new.not_after) != (start - GRACE, start + EPOCH_SECONDS + GRACE):
        yield Fault(
            code="validity", text="it is valid for another time than its day and an hour on each side"
        )
    length = len(new.encode())
    if length > MAX_ENTRY:
        yield Fault(
            code="size",
            text=f"it has {length} bytes, and the log takes no entry of more than {MAX_ENTRY}: list fewer hosts",
        )


def _token_keys(new: Directory) -> Iterator[Fault]:
    for epoch in (new.epoch, new.epoch + 1):
        if not any((key.token_type, key.epoch) == (TOKEN_TYPE, epoch) for key in new.token_keys):
            yield Fault(code="token-keys", text=f"no token key of type 2 for epoch {epoch}")
    batch = {key.epoch for key in new.token_keys if key.token_type == PRIVATE_TOKEN_TYPE}
    if batch and not batch.issuperset((new.epoch, new.epoch + 1)):
        yield Fault(code="token-keys", text="token keys of type 5 for one of its two epochs only")
    for key in new.token_keys:
        if key.epoch not in {new.epoch, new.epoch + 1}:
            yield Fault(
                code="token-keys",
                text=f"a token key of epoch {key.epoch}, which is neither its own nor the next",
            )
    names = Counter((key.token_type, key.epoch) for key in new.token_keys)
    if any(count > 1 for count in names.values()):
        yield Fault(code="token-keys", text="two token keys of one type for one epoch")


def _token_key_forms(new: Directory) -> Iterator[Fault]:
    ids = list[tuple[int, int]]()
    for key in new.token_keys:
        try:
            data = base64.b64decode(key.key, validate=True)
            if key.token_type == TOKEN_TYPE:
                ids.append((TOKEN_TYPE, TokenKey.parse(data).truncated_id))
            elif key.token_type == PRIVATE_TOKEN_TYPE:
                ids.append((PRIVATE_TOKEN_TYPE, PublicTokenKey(encoded=data).truncated_id))
            else:
                yield Fault(code="token-keys", text=f"a token key of the unknown type {key.token_type}")
        except (DecodeError, UsageError, ValueError):
            yield Fault(code="token-keys", text=f"the token key of epoch {key.epoch} is malformed")
    if len(set(ids)) < len(ids):
        yield Fault(code="token-keys", text="two token keys share their truncated id: have one made again")


def _ohttp_keys(new: Directory) -> Iterator[Fault]:
    try:
        configs = _configs(new)
        select_config(configs)
    except SottovoceError:
        yield Fault(code="ohttp-keys", text="no OHTTP key configuration in it can be used")
        return
    if len({_name(config) for config in configs}) < len(configs):
        yield Fault(code="ohttp-keys", text="two OHTTP keys share their id")


def _listed(new: Directory) -> Iterator[Fault]:
    if not any(host.role == _ROLE and host.id not in new.revocations.hosts for host in new.hosts):
        yield Fault(code="hosts", text="no orchestrator's host that is not revoked")
    if len({relay.operator for relay in new.relays}) < len(new.relays):
        yield Fault(code="relays", text="two relays of one operator")


def _succession(new: Directory, current: Directory, *, gap: bool) -> Iterator[Fault]:
    if new.epoch != current.epoch + 1 and not (gap and new.epoch > current.epoch):
        yield Fault(code="epoch", text=f"its epoch is {new.epoch}; the next one is {current.epoch + 1}")
    if new.log_origin != current.log_origin:
        yield Fault(code="log", text="it names another log than the one before")
    if new.issuer != current.issuer:
        yield Fault(
            code="issuer",
            text="it names another issuer: the tokens that devices hold are bound to the old one",
        )
    before = {(key.token_type, key.epoch): key.key for key in current.token_keys}
    after = {(key.token_type, key.epoch): key.key for key in new.token_keys}
    for (token_type, epoch), key in before.items():
        if epoch == new.epoch and after.get((token_type, epoch)) != key:
            yield Fault(
                code="token-keys",
                text=f"another token key of type {token_type} for epoch {epoch} than announced: devices hold tokens of it",
            )
    for kind, listed, kept in (
        ("releases", current.revocations.releases, new.revocations.releases),
        ("hosts", current.revocations.hosts, new.revocations.hosts),
        ("certificates", current.revocations.certificates, new.revocations.certificates),
    ):
        if not listed <= kept:
            yield Fault(code="revocations", text=f"revoked {kind} of the one before are missing in it")
    try:
        taken = {_name(config): config.public_key for config in _configs(current)}
        clash = any(taken.get(_name(one), one.public_key) != one.public_key for one in _configs(new))
    except SottovoceError:
        return  # said above
    if clash:
        yield Fault(
            code="ohttp-keys",
            text="an OHTTP key has the id of another one that is still in use: a gateway could not tell them apart",
        )


def surrounding_faults(
    new: Directory,
    current: Directory | None,
    *,
    policy: LogPolicy,
    entries: Collection[bytes],
    gateways: Mapping[str, bytes],
    issuer: bytes | None,
    now: int,
) -> list[Fault]:
    """What is wrong with `new` beside what there is.

    `entries` are the log's; `gateways` what each gives as `/ohttp-keys`, by its URL; `issuer` its directory of keys (RFC 9578 section 4),
    None where it was not asked. `now` is unix seconds.
    """
    # Past its grace nobody uses the keys of the one before, and a gateway drops them.
    in_use = current if current is not None and now < current.not_after else None
    return [
        *_log(new, policy),
        *_entered(new, frozenset(entries)),
        *_second(new, entries),
        *(fault for url, answer in gateways.items() for fault in _gateway(new, in_use, url, answer)),
        *(() if issuer is None else _issuer(new, issuer)),
    ]


def _log(new: Directory, policy: LogPolicy) -> Iterator[Fault]:
    if new.log_origin != policy.origin:
        yield Fault(code="log", text="it names another log than devices pin")
    if not policy.quorum <= new.log_quorum <= len(policy.witnesses):
        yield Fault(
            code="quorum",
            text=f"its quorum is {new.log_quorum}; devices ask for {policy.quorum} of {len(policy.witnesses)} witnesses",
        )


def _entered(new: Directory, entries: frozenset[bytes]) -> Iterator[Fault]:
    for host in new.hosts:
        if host.encode() not in entries:
            yield Fault(code="hosts", text=f"the host {host.id} is not in the log, or not as it stands here")
    releases = dict(_releases(entries))
    for digest in sorted(new.revocations.releases - releases.keys()):
        yield Fault(code="revocations", text=f"no release in the log has the revoked digest {digest[:16]}…")
    revoked = new.revocations
    for role in sorted({host.role for host in new.hosts if host.id not in revoked.hosts}):
        platforms = {
            host.platform for host in new.hosts if host.role == role and host.id not in revoked.hosts
        }
        good = {
            release.platform
            for digest, release in releases.items()
            if release.role == role and digest not in revoked.releases and release.expires >= new.not_after
        }
        for platform in sorted(platforms - good):
            yield Fault(
                code="releases",
                text=f"no release of {role} on {platform} that the log has is good until its day is over: enter one",
            )


def _second(new: Directory, entries: Collection[bytes]) -> Iterator[Fault]:
    """Another document of its epoch in the log, though no mirror has it: monitors see two, for good."""
    for entry in entries:
        if entry != new.encode() and _epoch(entry) == new.epoch:
            yield Fault(
                code="epoch", text="the log has another directory for its day already: publish that one"
            )


def _epoch(entry: bytes) -> int | None:
    try:
        return Directory.parse(entry).epoch if kind_of(entry) == "directory" else None
    except DecodeError:
        return None


def _releases(entries: Collection[bytes]) -> Iterator[tuple[str, Release]]:
    for entry in entries:
        try:
            yield hashlib.sha256(entry).hexdigest(), Release.parse(entry)
        except DecodeError:
            continue


def _gateway(new: Directory, current: Directory | None, url: str, answer: bytes) -> Iterator[Fault]:
    try:
        taken = {config.encode() for config in decode_key_configs(answer)}
        wanted = {config.encode() for config in _configs(new)}
        before = {config.encode() for config in _configs(current)} if current is not None else set()
    except SottovoceError:
        yield Fault(code="gateway", text=f"the gateway at {url} gives no list of its keys")
        return
    if not wanted <= taken:
        yield Fault(
            code="gateway",
            text=f"the gateway at {url} does not have an OHTTP key of it yet: have it read its folder",
        )
    if not before <= taken:
        yield Fault(
            code="gateway",
            text=f"the gateway at {url} has dropped an OHTTP key of the current directory, whose grace is not over",
        )


class _IssuerKey(msgspec.Struct, frozen=True, rename="kebab"):
    token_type: int
    token_key: str


class _IssuerDirectory(msgspec.Struct, frozen=True, rename="kebab"):
    token_keys: list[_IssuerKey]


def _issuer(new: Directory, answer: bytes) -> Iterator[Fault]:
    """The issuer shows the keys that sign now, so of the next epoch at most its first one."""
    try:
        shown = msgspec.json.decode(answer, type=_IssuerDirectory).token_keys
        keys = {(key.token_type, from_base64url(key.token_key.encode())) for key in shown}
    except (msgspec.DecodeError, UnicodeError, RecursionError, DecodeError):
        yield Fault(code="issuer", text="the issuer gives no list of its keys")
        return
    for key in new.token_keys:
        if key.epoch == new.epoch and (key.token_type, base64.b64decode(key.key)) not in keys:
            yield Fault(
                code="issuer",
                text=f"the issuer does not sign with the key of type {key.token_type} for epoch {key.epoch}",
            )


def _configs(directory: Directory) -> Sequence[KeyConfig]:
    try:
        return decode_key_configs(base64.b64decode(directory.ohttp_key_configs, validate=True))
    except ValueError:
        raise DecodeError("the OHTTP keys are not base64") from None


def _name(config: KeyConfig) -> tuple[int, int]:
    return config.key_id, config.kem_id
