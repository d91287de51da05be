"""The device: asks for a summary or for other wordings, and tells what it does on the way.

    settings ─▶ directory ─▶ token ─▶ session with evidence ─▶ every check ─▶ request ─▶ answer ─▶ report

    async with Client(home) as client:
        async for event in client.summarize(chat, count=40):
            ...

The user's settings come first, before anything is connected; the report comes last, whatever happened.
"""

import base64
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

import msgspec

from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.attest.verify import Connection, VerifiedSession, verify_session
from sottovoce.core.errors import SottovoceError, UnavailableError, UsageError
from sottovoce.core.hpke import OpenError
from sottovoce.core.limits import LIMITS
from sottovoce.core.tokens import authorization_value
from sottovoce.device.answers import AnswerEvent
from sottovoce.device.chats import Chat, Message, chat_id, unread
from sottovoce.device.directory import VerifiedDirectory, draw_candidates
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.environment import FILE, Environment
from sottovoce.device.http import Body, Head, Over, TooMuchError
from sottovoce.device.issuance import refill
from sottovoce.device.ohttp_client import CandidatesRefusedError, OhttpClient
from sottovoce.device.reports import CheckLine, Report, ReportNotWritten, ReportStore, new_report_id
from sottovoce.device.session import Request, Session
from sottovoce.device.settings import SettingsStore
from sottovoce.device.transport import (
    AlreadyArrivedError,
    GatewayKeyError,
    Network,
    NotSentError,
    RelayClient,
)
from sottovoce.device.wallet import Schedule, Stock, Wallet, WalletError

__all__ = ["CONTEXT", "Attested", "Client", "ClientEvent", "Kept", "NotKept", "RawEvent", "Step", "Unread"]

Feature = Literal["summary", "rewrite", "chat"]
_CHATS: Final = 5
HOME: Final = Path("~/.sottovoce")
COUNT: Final = 40
"""Messages of a chat that are summarised where nothing else is said."""
CONTEXT: Final = 6
"""Messages of a chat that are sent with a draft, at most, and only where the user says so."""
_E = TypeVar("_E")
_Read = Callable[[Session, VerifiedSession, Request], AsyncGenerator[_E, None]]
"""How the answer is read, once everything is verified."""
_OUT_OF_DATE: Final = frozenset({"host", "release-log-seen", "host-log-seen", "log-fork"})
"""Checks that fail when the directory is older than what the service shows, or came with a wrong consistency file. A fresh one is tried once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something was done: what, in how many seconds, and what came of it."""

    name: str
    seconds: float
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """Every check has passed, or is relaxed by the environment; only now is anything sent."""

    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """The report is on the disk."""

    report_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotKept:
    """The report could not be kept. An error follows."""

    error: ReportNotWritten


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Unread:
    """The last `count` messages of `chat`. `reader` is the name under which the user sends in it: what is asked of the user is then marked."""

    chat: Chat
    count: int
    reader: str = ""

    def __repr__(self) -> str:
        return f"<Unread {self.count}>"


ClientEvent = Step | Attested | Kept | NotKept | AnswerEvent
RawEvent = Step | Attested | Kept | NotKept | Head | Body | Over


@dataclass(slots=True, kw_only=True, repr=False)
class _Job:
    """One request, and what its report will say."""

    feature: Feature
    request: Request
    messages: tuple[str, ...]
    count: int
    chats: tuple[str, ...] = ()
    """Their ids for the settings."""
    id: str = field(default_factory=new_report_id)
    time: int = field(default_factory=lambda: int(time.time()))
    relay: str = ""
    failed: set[str] = field(default_factory=set)
    """URLs of relays that have failed this request."""
    candidates: tuple[str, ...] = ()
    session: Session | None = None
    verdict: Verdict | None = None
    verified: VerifiedSession | None = None
    sent: bool = False


class _Timer:
    def __init__(self) -> None:
        self._since = time.perf_counter()

    def step(self, name: str, detail: str) -> Step:
        """The step that ends now; the next begins."""
        now = time.perf_counter()
        step = Step(name=name, seconds=now - self._since, detail=detail)
        self._since = now
        return step


class Client:
    """A device whose state is in `home`, `~/.sottovoce` by default."""

    def __init__(self, home: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        home = HOME.expanduser() if home is None else home
        self._home = home
        self._clock = clock
        self._settings = SettingsStore(home)
        self._reports = ReportStore(home)
        self._network = Network()

    async def __aenter__(self) -> Self:
        await self._network.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._network.__aexit__(kind, error, trace)

    @property
    def environment(self) -> Environment:
        """What this device pins.

        Raises:
            ConfigError: there is none, or it is wrong.
        """
        return Environment.load(self._home / FILE)

    def summarize(
        self, *chats: Chat | Unread, count: int = COUNT, reader: str = "", quick: bool = False
    ) -> AsyncGenerator[ClientEvent, None]:
        """A summary of the last messages of each of `chats`, up to five, as it comes; with fewer lines, if `quick`.

        `count` and `reader` are those of each that is no `Unread`.

        Raises (when it is iterated):
            NotEnabled, ChatIsPrivate: the user's settings; nothing was connected.
            UsageError, TooMuchError: nothing to summarise, or too much of it; nothing was connected.
            ReportsCorrupt, DiskError: no report could be kept; nothing was connected.
            VerificationRefused: a check failed; nothing was sent.
            SottovoceError: as the parties, the wallet and the answer say.
        """
        parts = [
            one if isinstance(one, Unread) else Unread(chat=one, count=count, reader=reader) for one in chats
        ]
        return self._run(lambda: self._summary_job(parts, quick=quick), _told)

    def rewrite(
        self, draft: str, style: str, *, context: Chat | None = None, count: int = CONTEXT
    ) -> AsyncGenerator[ClientEvent, None]:
        """Up to three other wordings of `draft`; raises as `summarize`.

        Only where `context` is given, the last `count` messages of it are sent as well, six at most: the model then sees what the draft answers.
        """
        return self._run(lambda: self._rewrite_job(draft, style, context, count), _told)

    def complete(
        self, target: str, body: bytes = b"", *, method: str = "POST"
    ) -> AsyncGenerator[RawEvent, None]:
        """The answer of a resource that speaks for itself, as it comes: `/v1/chat/completions` or `/v1/models`; raises as `summarize`.

        An error of the service is an answer too: it has another status than 200.
        """
        return self._run(
            lambda: _Job(feature="chat", request=Request(target, body, method=method), messages=(), count=0),
            _raw,
        )

    async def refill_wallet(self, *, only_if_due: bool) -> int:
        """Fetch a batch of tokens; how many came. 0 where none is due.

        Raises:
            SottovoceError: as `issuance.refill` and `DirectorySource.get`.
        """
        environment, now = self.environment, int(self._clock())
        with self._wallet(environment) as wallet:
            if only_if_due and not wallet.due(now):
                return 0
            directory, _ = await self._directory(environment).get(now)
            return await refill(
                wallet,
                environment=environment,
                network=self._network,
                directory=directory,
                account=self._home / "account.key",
                now=now,
            )

    async def refresh_directory(self) -> bool:
        """Fetch the directory, if its plan says so; whether it was fetched.

        For whatever runs beside the user (the wallet's refills do): then a fetch does not wait for the next use, whose time it would tell.

        Raises:
            SottovoceError: as `DirectorySource.get`.
        """
        _, fetched = await self._directory(self.environment).get(int(self._clock()))
        return fetched

    def stock(self) -> tuple[Stock, int]:
        """What the wallet holds, and when the next refill is planned (unix seconds)."""
        now = int(self._clock())
        with self._wallet(self.environment) as wallet:
            return wallet.stock(now), wallet.next_refill(now)

    def _summary_job(self, parts: Sequence[Unread], *, quick: bool) -> _Job:
        for one in parts:
            self._settings.require_allowed(chat_id(one.chat.title, one.chat.messages))
        if not 1 <= len(parts) <= _CHATS:
            raise UsageError(f"a summary is of one chat or of up to {_CHATS}")
        # Media and deleted messages have no words to summarise.
        spoken = [
            [message for message in unread(one.chat, one.count) if message.text.strip()] for one in parts
        ]
        if not all(spoken):
            raise UsageError("there is nothing to summarise: none of the messages of a chat has words")
        if sum(map(len, spoken)) > LIMITS.messages:
            raise TooMuchError("more messages than the limits allow", hint=f"at most {LIMITS.messages}")
        if any(len(one.text.encode()) > LIMITS.message_text for messages in spoken for one in messages):
            raise TooMuchError(
                "a message is longer than the limits allow", hint="choose fewer unread messages"
            )
        # Titles stay here: the answer names chats by their number.
        sent = [
            [_sent(one, number if len(parts) > 1 else 0) for one in messages]
            for number, messages in enumerate(spoken, 1)
        ]
        document = {
            "chats": [
                {"messages": messages, "reader": one.reader}
                for one, messages in zip(parts, sent, strict=True)
            ],
            "detail": "quick" if quick else "full",
        }
        ids = tuple(message["id"] for messages in sent for message in messages)
        return _Job(
            feature="summary",
            request=Request("/v1/summaries", msgspec.json.encode(document)),
            messages=ids,
            count=len(ids),
            chats=tuple(chat_id(one.chat.title, one.chat.messages) for one in parts),
        )

    def _rewrite_job(self, draft: str, style: str, context: Chat | None, count: int) -> _Job:
        before = self._before(context, count) if context is not None else []
        draft = draft.strip()
        if not draft:
            raise UsageError("the draft is empty")
        if len(draft.encode()) > LIMITS.draft:
            raise TooMuchError(
                "the draft is longer than the limits allow", hint=f"at most {LIMITS.draft} bytes"
            )
        document: dict[str, Any] = {"draft": draft, "style": style}
        if before:
            document["context"] = before
        ids = tuple(message["id"] for message in before)
        return _Job(
            feature="rewrite",
            request=Request("/v1/rewrites", msgspec.json.encode(document)),
            messages=ids,
            count=len(ids),
            chats=(chat_id(context.title, context.messages),) if context is not None else (),
        )

    def _before(self, chat: Chat, count: int) -> list[dict[str, str]]:
        """The messages before a draft, as they are sent."""
        self._settings.require_allowed(chat_id(chat.title, chat.messages))
        if not 1 <= count <= CONTEXT:
            raise UsageError(f"of the chat before a draft 1 to {CONTEXT} messages are sent")
        spoken = [one for one in unread(chat, count) if one.text.strip()]
        if any(len(one.text.encode()) > LIMITS.message_text for one in spoken):
            raise TooMuchError("a message is longer than the limits allow", hint="send fewer of the chat")
        return [_sent(one, 0) for one in spoken]

    async def _run(
        self, make: Callable[[], _Job], read: _Read[_E]
    ) -> AsyncGenerator[Step | Attested | Kept | NotKept | _E, None]:
        self._settings.require_enabled()
        job = make()
        environment = self.environment
        self._reports.check()
        try:
            async with aclosing(self._attempts(job, environment, read)) as events:
                async for event in events:
                    yield event
        except SottovoceError as error:
            try:
                self._keep(job, environment, _outcome(error))
            except ReportNotWritten as lost:
                yield NotKept(error=lost)
            raise
        except BaseException:
            # Interrupted: the report says so, and if it cannot be written there is nobody left to tell.
            with contextlib.suppress(ReportNotWritten):
                self._keep(job, environment, "interrupted")
            raise
        self._keep(job, environment, "done")
        yield Kept(report_id=job.id)

    async def _attempts(
        self, job: _Job, environment: Environment, read: _Read[_E]
    ) -> AsyncGenerator[Step | Attested | _E, None]:
        """One attempt; a second where a fresh directory, or another relay, may do what the first did not."""
        source, timer = self._directory(environment), _Timer()
        directory, fetched = await source.get(int(self._clock()))
        yield timer.step("directory", _directory_detail(directory, fetched=fetched))
        try:
            async with aclosing(self._open(job, environment, directory, timer)) as events:
                async for event in events:
                    yield event
        except (GatewayKeyError, CandidatesRefusedError, VerificationRefused) as error:
            if fetched or not _may_be_out_of_date(error):
                raise
            directory, _ = await source.get(int(self._clock()), fresh=True)
            yield timer.step(
                "directory", _directory_detail(directory, fetched=True) + ", as the kept one was out of date"
            )
            async with aclosing(self._open(job, environment, directory, timer)) as events:
                async for event in events:
                    yield event
        except (AlreadyArrivedError, OpenError):
            # The gateway has spent the token, and a relay lost or spoilt the answer. Nothing of the user's was in the message.
            yield timer.step(
                "relay", "the answer was lost on the way; once more, by another one if there is one"
            )
            async with aclosing(self._open(job, environment, directory, timer)) as events:
                async for event in events:
                    yield event
        async with aclosing(self._answer(job, timer, read)) as answer:
            async for said in answer:
                yield said

    async def _open(
        self, job: _Job, environment: Environment, directory: VerifiedDirectory, timer: _Timer
    ) -> AsyncGenerator[Step | Attested, None]:
        now = int(self._clock())
        job.session = job.verdict = None
        hosts = directory.hosts("orchestrator")
        # Drawn once a request: who could have them drawn again by a refusal could steer.
        if not job.candidates or not {host.id for host in hosts}.issuperset(job.candidates):
            job.candidates = draw_candidates(hosts)
        operators = {
            relay.url.rstrip("/").removesuffix("/ohttp"): relay.operator
            for relay in directory.directory.relays
        }
        flights = [relay.url for relay in directory.directory.relays if not relay.streams]
        relay = RelayClient(self._network, list(operators), flights=flights, avoid=job.failed)
        ohttp = OhttpClient(relay, directory.ohttp_config, clock=self._clock)
        with self._wallet(environment) as wallet:
            token = wallet.take(now)
            yield timer.step("token", "one anonymous token, gone from the wallet")
            try:
                job.session = await Session.open(
                    ohttp, authorization=authorization_value(token), candidates=job.candidates
                )
            except NotSentError:
                # Where it cannot be kept, the next one that is taken tells why.
                with contextlib.suppress(WalletError):
                    wallet.put_back(token)
                raise
            except OpenError:
                job.failed.add(relay.used)
                raise
            finally:
                job.failed |= relay.failed
                job.relay = operators.get(relay.used, "")
        size = len(job.session.offer.evidence)
        yield timer.step("first trip", f"TLS, {size} bytes of evidence, {job.relay}")
        self._verify(job, environment, directory, now)
        if job.verdict is not None:
            yield timer.step("verification", f"{len(job.verdict.checks)} checks")
            yield Attested(verdict=job.verdict)

    @staticmethod
    def _verify(job: _Job, environment: Environment, directory: VerifiedDirectory, now: int) -> None:
        if job.session is None:
            raise UsageError("there is no session to verify")
        offer = job.session.offer
        connection = Connection(
            exporter=offer.exporter,
            spki=offer.spki,
            now=now,
            candidates=job.candidates,
            hosts=directory.directory.hosts,
            revocations=directory.directory.revocations,
            seen=directory.checkpoint,
            history=directory.history,
        )
        try:
            job.verified = verify_session(
                offer.evidence, policy=environment.session_policy(), connection=connection
            )
        except VerificationRefused as refused:
            job.verdict = refused.verdict
            raise
        job.verdict = job.verified.verdict

    async def _answer(self, job: _Job, timer: _Timer, read: _Read[_E]) -> AsyncGenerator[Step | _E, None]:
        if job.session is None or job.verified is None:
            raise UsageError("there is no verified session")
        # Asked again: the user may have said no since the request began, in another program too.
        settings = self._settings.load()
        settings.require_enabled()
        for chat in job.chats:
            settings.require_allowed(chat)
        job.sent, begun = True, False
        async with aclosing(read(job.session, job.verified, job.request)) as answer:
            async for event in answer:
                if not begun:
                    begun = True
                    sent = f"{job.request.size_class} bytes sent, padded"
                    yield timer.step("first line", f"second trip; {sent}")
                yield event
        yield timer.step("whole answer", "the session is over, its keys are gone")

    def _directory(self, environment: Environment) -> DirectorySource:
        return DirectorySource(environment, self._network, self._home)

    @contextlib.contextmanager
    def _wallet(self, environment: Environment) -> Iterator[Wallet]:
        with contextlib.closing(
            Wallet(self._home / "wallet.sqlite", schedule=Schedule(age=environment.token_age))
        ) as wallet:
            yield wallet

    def _keep(self, job: _Job, environment: Environment, outcome: str) -> None:
        offer = job.session.offer if job.session else None
        lines = job.verdict.to_json() if job.verdict else []
        indexes = job.verified.log_indexes if job.verified else (None, None)
        self._reports.add(
            Report(
                id=job.id,
                time=job.time,
                feature=job.feature,
                outcome=outcome,
                environment=environment.name,
                simulated=environment.simulated,
                relay=job.relay,
                size_class=job.request.size_class if job.sent else 0,
                messages=job.messages if job.sent else (),
                message_count=job.count if job.sent else 0,
                candidates=job.candidates,
                evidence=_base64(offer.evidence if offer else b""),
                exporter=_base64(offer.exporter if offer else b""),
                spki=_base64(offer.spki if offer else b""),
                verdict=tuple(CheckLine(**line) for line in lines),
                release_index=indexes[0],
                host_index=indexes[1],
            )
        )


def _sent(message: Message, chat: int) -> dict[str, str]:
    return {
        "id": f"{chat}:{message.id}" if chat else message.id,
        "sender": message.sender,
        "text": message.text,
        "time": message.time.isoformat(timespec="minutes"),
    }


def _told(session: Session, verified: VerifiedSession, request: Request) -> AsyncGenerator[AnswerEvent, None]:
    return session.ask(verified, request)


def _raw(
    session: Session, verified: VerifiedSession, request: Request
) -> AsyncGenerator[Head | Body | Over, None]:
    return session.exchange(verified, request)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _directory_detail(directory: VerifiedDirectory, *, fetched: bool) -> str:
    how = "fetched by two ways" if fetched else "kept from before"
    return f"epoch {directory.directory.epoch}, log entry {directory.index}, {how}"


def _outcome(error: SottovoceError) -> str:
    return f"{error.code}.{error.party}" if isinstance(error, UnavailableError) else error.code


def _may_be_out_of_date(error: SottovoceError) -> bool:
    if not isinstance(error, VerificationRefused):
        return True
    return {check.id for check in error.verdict.failed} <= _OUT_OF_DATE
