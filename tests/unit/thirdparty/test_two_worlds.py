"""Two worlds that share their witnesses, one of them forked: real logs, real witnesses, the device's own code, the monitor.

Whoever has the log's key runs a second log with it, for one user. The witnesses saw the first one, and do not sign what does not continue
it. And where they did, or where the user's device asks for none, the fork is named all the same.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import asgi
import edge_kit
from sottovoce.core import asgi as server
from sottovoce.core.errors import SottovoceError
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import EPOCH_SECONDS
from sottovoce.device.directory import LastSeen, LogForked, accept, load_last_seen, save_last_seen
from sottovoce.edge.directories import sign_directory
from sottovoce.simulator.testing import EvidenceWorld
from sottovoce.thirdparty import log as service
from sottovoce.thirdparty import witness
from sottovoce.thirdparty.logreader import LogReader
from sottovoce.thirdparty.monitor import Monitor
from sottovoce.tlog import merkle
from sottovoce.tlog.checkpoint import Checkpoint
from sottovoce.tlog.entries import Directory
from sottovoce.tlog.history import History
from sottovoce.tlog.note import COSIGNATURE, Note, SigningKey
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.proof import Proof, encode_proof

ORIGIN = "log.example/test"
SECRET = "correct horse battery staple"
BEARER = {"Authorization": f"Bearer {SECRET}"}
TODAY = 20_000
NOON = TODAY * EPOCH_SECONDS + EPOCH_SECONDS // 2
HOSTS = [host.encode() for host in EvidenceWorld().hosts.values()]
DIRECTORY_KEY = SigningKey.generate("directory.example")


def directory(issuer: str) -> bytes:
    host = EvidenceWorld().hosts["orchestrator"].members()
    from sottovoce.core import canonical  # noqa: PLC0415

    value = {
        "kind": "directory", "epoch": TODAY, "not_before": TODAY * EPOCH_SECONDS - 3600,
        "not_after": (TODAY + 1) * EPOCH_SECONDS + 3600, "ohttp_key_configs": "AAAA",
        "token_keys": [{"epoch": TODAY, "token_type": 2, "key": "AAAA"}], "issuer": issuer,
        "relays": [{"operator": "r", "url": "https://r.example/ohttp"}], "hosts": [host],
        "revocations": {"releases": [], "hosts": [], "certificates": []},
        "log": {"origin": ORIGIN, "quorum": 2},
    }  # fmt: skip
    return canonical.encode(value)


@dataclass
class Worlds:
    """The log's key, two witnesses at work, and logs with that key."""

    folder: Path
    key: SigningKey
    witnesses: list[SigningKey]
    urls: list[str]
    deaf: set[int] = field(default_factory=set)
    """Witnesses, by number, that take nothing for now."""

    def log(self, name: str, *, witnessed: bool = True) -> asgi.App:
        """One that asks the witnesses, or one that goes on without them."""
        (self.folder / "key").write_text(self.key.secret())
        (self.folder / "secret").write_text(SECRET)
        pairs = zip(self.witnesses, self.urls, strict=True) if witnessed else ()
        addresses = [service.WitnessAddress(key=str(key.verifier), url=url) for key, url in pairs]
        config = service.Config(
            origin=ORIGIN,
            key=str(self.folder / "key"),
            folder=str(self.folder / name),
            secret=str(self.folder / "secret"),
            witnesses=addresses,
            quorum=len(addresses),
        )
        return service.create_app(config, log=EventLog(lambda _: None))

    def source(self, number: int) -> str:
        """What a monitor is given for a witness, as docs/log.md has it."""
        return f"{self.urls[number]}/{hashlib.sha256(ORIGIN.encode()).hexdigest()}"

    def hearing(self, app: asgi.App, number: int) -> asgi.App:
        """The witness, unless it is deaf."""

        async def answer(scope: server.Scope, receive: server.Receive, send: server.Send) -> None:
            if scope["type"] == "http" and scope["method"] == "POST" and number in self.deaf:
                await server.respond(send, 503)
            else:
                await app(scope, receive, send)

        return answer

    def policy(self) -> LogPolicy:
        keys = tuple(key.verifier for key in self.witnesses)
        return LogPolicy(origin=ORIGIN, log_key=self.key.verifier, witnesses=keys, quorum=2)

    def accept(self, entry: bytes, proof: bytes, **more: Any) -> Any:
        note = sign_directory(Directory.parse(entry), DIRECTORY_KEY)
        given: dict[str, Any] = {
            "key": DIRECTORY_KEY.verifier,
            "log": self.policy(),
            "now": NOON,
            "last": None,
        }
        return accept(note, note, proof, **(given | more))


@contextlib.asynccontextmanager
async def worlds(folder: Path) -> AsyncIterator[Worlds]:
    made = Worlds(folder, SigningKey.generate(ORIGIN), [], [])
    async with contextlib.AsyncExitStack() as stack:
        for number in range(2):
            key = SigningKey.generate(f"witness.example/{number}", COSIGNATURE)
            path = folder / f"witness-{number}.key"
            path.write_text(key.secret())
            config = witness.Config(
                key=str(path), state=str(folder / f"state-{number}"), logs=[str(made.key.verifier)]
            )
            app = witness.create_app(config, log=EventLog(lambda _: None), clock=lambda: NOON)
            made.witnesses.append(key)
            made.urls.append(await stack.enter_async_context(edge_kit.serving(made.hearing(app, number))))
        yield made


async def fill(app: asgi.App, *entries: bytes) -> bytes:
    """Append all; the proof of the last one."""
    for entry in entries:
        answer = await asgi.fetch(app, "POST", "/entries", headers=BEARER, body=entry)
        assert answer.status == 200
    leaf = merkle.leaf_hash(entries[-1]).hex()
    return (await asgi.fetch(app, "GET", f"/proof?hash={leaf}")).body


def cosigned(worlds: Worlds, proof: bytes) -> bytes:
    """The proof, cosigned by witnesses who sign whatever they are given."""
    parsed = Proof.parse(proof)
    lines = [key.cosign(parsed.note.text, time=NOON) for key in worlds.witnesses]
    note = Note(text=parsed.note.text, signatures=(parsed.note.signatures[0], *lines))
    return encode_proof(index=parsed.index, path=parsed.path, checkpoint=note)


def test_the_device_and_the_monitor_refuse_and_name_the_fork(tmp_path: Path) -> None:
    ours, theirs = directory("issuer.example"), directory("issuer.evil")

    async def play() -> None:
        async with contextlib.AsyncExitStack() as stack:
            shared = await stack.enter_async_context(worlds(tmp_path))
            first, second = shared.log("first"), shared.log("second", witnessed=False)
            one, other = [await stack.enter_async_context(edge_kit.serving(app)) for app in (first, second)]
            async with LogReader(one) as honest, LogReader(other) as forked:
                proof = await fill(first, *HOSTS, ours)
                accepted = shared.accept(ours, proof)
                # Kept durably: what comes is compared after a restart too.
                save_last_seen(tmp_path / "seen.json", accepted)
                last = load_last_seen(tmp_path / "seen.json")
                watcher = Monitor(tmp_path / "monitor", shared.policy())
                assert (await watcher.round(honest, now=NOON)).findings == ()

                # One size, another root.
                fork = await fill(second, *HOSTS, theirs)
                await unsigned(shared, fork)
                await refused(shared, theirs, fork, last, "it has signed two tree heads of size 4")
                await named(tmp_path, shared, forked, "two tree heads of size 4; they part at entry 3")

                # Larger, and not its continuation.
                more = [entry.replace(b"host-", b"new-host-") for entry in HOSTS]
                fork = await fill(second, *more, theirs.replace(b"evil", b"evol"))
                leaves = await forked.leaves(8)
                history = History.of(ORIGIN, leaves, (4,)).encode()
                await unsigned(shared, fork)
                words = "tree head of size 8 does not continue the one of size 4"
                entry = theirs.replace(b"evil", b"evol")
                await refused(shared, entry, fork, last, words, history=history)
                await named(tmp_path, shared, forked, "size 8 does not continue the one of size 4")

                # The honest one grows on, and is accepted with one more file.
                proof = await fill(first, *more, ours)
                size = len(await honest.leaves(7))
                history = History.of(ORIGIN, await honest.leaves(size), (4,)).encode()
                assert shared.accept(ours, proof, last=last, history=history).checkpoint.size == 7

    async def unsigned(shared: Worlds, proof: bytes) -> None:
        body = b"old 4\n\n" + Proof.parse(proof).note.encode()
        async with aiohttp.ClientSession() as session:
            for url in shared.urls:
                async with session.post(f"{url}/add-checkpoint", data=body) as response:
                    assert response.status == 422, "a witness has signed a fork"

    async def refused(
        shared: Worlds, entry: bytes, proof: bytes, last: LastSeen | None, words: str, **more: Any
    ) -> None:
        for shown in (proof, cosigned(shared, proof)):
            with pytest.raises(LogForked, match=words) as caught:
                shared.accept(entry, shown, last=last, **more)
            assert caught.value.code == "directory.fork"
        # A device that has never seen the log is protected by the witnesses alone.
        with pytest.raises(SottovoceError, match="too few pinned witnesses"):
            shared.accept(entry, proof)

    async def named(folder: Path, shared: Worlds, forked: LogReader, words: str) -> None:
        # Each time a monitor that has just been started.
        report = await Monitor(folder / "monitor", shared.policy()).round(forked, now=NOON)
        found = {finding.code: finding.text for finding in reversed(report.findings)}
        assert any(finding.code == "fork" and words in finding.text for finding in report.findings)
        assert "quorum" in found

    asyncio.run(asyncio.wait_for(play(), 60))


def test_our_own_log_does_not_go_on_when_its_witnesses_saw_another(tmp_path: Path) -> None:
    """So the second log of the other tests is one that does not ask them."""

    async def play() -> None:
        async with worlds(tmp_path) as shared:
            first, second = shared.log("first"), shared.log("second")
            async with edge_kit.serving(first), edge_kit.serving(second):
                await fill(first, *HOSTS)
                answer = await asgi.fetch(second, "POST", "/entries", headers=BEARER, body=HOSTS[-1])
                assert (answer.status, answer.body) == (503, b'{"code": "log.rolled-back"}')

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_monitor_that_looks_at_both_at_once_names_the_fork(tmp_path: Path) -> None:
    async def play() -> None:
        async with worlds(tmp_path) as shared:
            first, second = shared.log("first"), shared.log("second", witnessed=False)
            async with (
                edge_kit.serving(first) as one,
                edge_kit.serving(second) as other,
                LogReader(one) as honest,
                LogReader(other) as forked,
            ):
                await fill(first, *HOSTS)
                await fill(second, *reversed(HOSTS))
                watcher = Monitor(tmp_path / "monitor", shared.policy())
                report = await watcher.round(honest, now=NOON, others=[forked])
        assert "two tree heads of size 3; they part at entry 0" in {f.text for f in report.findings}

    asyncio.run(asyncio.wait_for(play(), 60))


def test_a_monitor_follows_witnesses_that_are_ahead_of_the_log_and_one_that_was_shown_a_fork(
    tmp_path: Path,
) -> None:
    async def play() -> None:
        async with contextlib.AsyncExitStack() as stack:
            shared = await stack.enter_async_context(worlds(tmp_path))
            first, second = shared.log("first"), shared.log("second", witnessed=False)
            one, other = [await stack.enter_async_context(edge_kit.serving(app)) for app in (first, second)]
            urls = (one, other, shared.source(0), shared.source(1))
            log, forked, *seen = [await stack.enter_async_context(LogReader(url)) for url in urls]
            watcher = Monitor(tmp_path / "monitor", shared.policy())
            await fill(first, *HOSTS)
            report = await watcher.round(log, now=NOON, others=seen)
            assert (report.findings, report.size) == ((), 3)

            # One witness has cosigned, the other not yet: nothing is published.
            shared.deaf.add(1)
            body = directory("issuer.example")
            await asgi.fetch(first, "POST", "/entries", headers=BEARER, body=body)
            shown = [Checkpoint.parse((await source.checkpoint()).text).size for source in (log, *seen)]
            assert shown == [3, 4, 3]
            for _ in range(2):
                report = await watcher.round(log, now=NOON, others=seen)
                assert (report.findings, report.size) == ((), 4)
            # A monitor that begins now, at a mirror of what was published, has nothing to find either, yet.
            mirror = Monitor(tmp_path / "mirror", shared.policy())
            await fill(second, *HOSTS)
            report = await mirror.round(forked, now=NOON, others=seen)
            assert {finding.code for finding in report.findings} == {"witness-late", "quorum"}
            assert report.size == 3

            # What the log publishes now is what the witness had.
            shared.deaf.clear()
            await fill(first, body)
            report = await watcher.round(log, now=NOON, others=seen)
            assert (report.findings, report.size) == ((), 4)

            # The mirror's log goes on otherwise: the witness had been shown another history.
            await fill(second, directory("issuer.evil"))
            report = await mirror.round(forked, now=NOON)
            assert "two tree heads of size 4" in {f.text for f in report.findings if f.code == "fork"}

    asyncio.run(asyncio.wait_for(play(), 60))
