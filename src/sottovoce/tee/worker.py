"""A session's process: made by fork for one session, and ended with it (protocol section 8).

Order matters: everything that needs a file, a socket or executable memory comes first; then the sandbox closes; only
then the connection is taken, so the first byte from outside meets a process that can do nothing but compute and answer.
"""

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from sottovoce.attest.binding import session_leaf
from sottovoce.core.errors import (
    PeerError,
    ProtocolError,
    UnavailableError,
    VerificationError,
)
from sottovoce.core.events import Event, EventLog
from sottovoce.core.limits import LIMITS
from sottovoce.core.tls import AttestationWanted, ServerConnection
from sottovoce.tee.attestation import Appraisal, Attester, appraisal_of
from sottovoce.tee.backend import Backend, connect, establish
from sottovoce.tee.channel import ProcessChannel
from sottovoce.tee.conversation import Conversation
from sottovoce.tee.http import ASGIApp
from sottovoce.tee.logfilter import BackendLost, Party, SessionClosed, SessionOpened, code_of
from sottovoce.tee.roles import Connects, Role, Session
from sottovoce.tee.sandbox import die_with_parent, seal
from sottovoce.tee.settings import Settings

__all__ = ["Machine", "run_process"]

_Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
_CONNECT: Final = 5.0
"""Seconds for each step of the way to a back end."""
_PATIENCE: Final = 5.0
"""Seconds for which a back end that does not answer is tried again."""
_PAUSE: Final = 0.1
_HUNG: Final = 3
"""Exit status of a process in which something hangs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What all processes of a CVM share."""

    role: Role
    settings: Settings
    attester: Attester
    wiring: Mapping[str, tuple[str, int]]
    lock_memory: bool


def run_process(machine: Machine, sock: socket.socket, parent: int) -> NoReturn:
    """Be a session's process: `sock` is its end of the channel. Called right after fork; never returns."""
    code = 1
    try:
        die_with_parent(parent)
        channel = ProcessChannel(_only(sock))
        _Process(machine, channel).run()
        code = 0
    except BaseException:  # noqa: BLE001, S110 - a traceback would hold content; the exit status says enough
        pass
    finally:
        os._exit(code)


def _only(sock: socket.socket) -> socket.socket:
    # Whatever the parent has open is not this process's: other channels, the listener, the security processor.
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    fd = sock.detach()
    if fd != 3:  # noqa: PLR2004 - the first descriptor after standard error
        os.dup2(fd, 3)
    os.closerange(4, 1 << 20)
    return socket.socket(fileno=3)


async def _without_backends(
    _scope: MutableMapping[str, Any],
    _receive: _Receive,
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    # The application of a session whose device has seen in the evidence that a back end is missing.
    body = json.dumps({"code": UnavailableError.code}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _ChannelLog(EventLog):
    """A session's log: it goes through the parent's filter."""

    def __init__(self, channel: ProcessChannel) -> None:
        super().__init__(lambda _: None)
        self._channel = channel

    def emit(self, entry: Event) -> None:
        self._channel.log(entry)


class _Process:
    def __init__(self, machine: Machine, channel: ProcessChannel) -> None:
        self._machine = machine
        self._channel = channel
        self._party = Party(machine.settings.role)
        self._appraisals: list[Appraisal] = []
        self._is_back_end = machine.settings.role != "orchestrator"

    def run(self) -> None:
        backends = self._establish_all()
        complete = len(backends) == len(self._machine.role.backends) and self._connected()
        loop = asyncio.new_event_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        tls = ServerConnection()
        app = self._app(backends) if complete else _without_backends
        seal(lock_memory=self._machine.lock_memory)
        self._channel.ready(complete=complete)
        sock = self._channel.connection(backend.fileno() for backend in backends.values())
        if sock is None:
            return
        self._channel.attach(loop)
        loop.run_until_complete(self._serve(sock, tls, app))

    def _app(self, backends: Mapping[str, Backend]) -> ASGIApp:
        session = Session(
            settings=self._machine.settings,
            log=_ChannelLog(self._channel),
            backends=backends,
            slot=self._channel.slot,
            give_up=lambda: os._exit(_HUNG),
        )
        return self._machine.role.app(session)

    async def _serve(self, sock: socket.socket, tls: ServerConnection, app: ASGIApp) -> None:
        began, cpu = time.monotonic(), time.process_time()
        conversation = Conversation(
            sock,
            tls=tls,
            app=app,
            evidence=self._evidence,
            admit=self._admit,
            cadence=self._machine.settings.cadence_ms / 1000,
            steady=not self._is_back_end,
            # An orchestrator's connection is made ahead, and may have to wait as long as its session lasts.
            idle=LIMITS.peer_total if self._is_back_end else LIMITS.session_idle,
            total=LIMITS.peer_total if self._is_back_end else LIMITS.session_total,
        )
        opened = asyncio.ensure_future(self._log_opened(conversation, began))
        code = await conversation.run()
        opened.cancel()
        self._channel.log(
            SessionClosed(
                role=self._party,
                code=code,
                requests=conversation.requests,
                duration_ms=_ms(began),
                cpu_ms=round(1000 * (time.process_time() - cpu), 1),
                received_bits=conversation.received.bit_length(),
                sent_bits=conversation.sent.bit_length(),
            )
        )

    async def _log_opened(self, conversation: Conversation, began: float) -> None:
        await conversation.open.wait()
        self._channel.log(SessionOpened(role=self._party, handshake_ms=_ms(began)))

    async def _evidence(self, wanted: AttestationWanted) -> bytes:
        quote = await self._channel.quote_soon(session_leaf(wanted.exporter, wanted.spki))
        return self._machine.attester.evidence(quote, backends=tuple(self._appraisals))

    def _admit(self, wanted: AttestationWanted, shown: bytes) -> None:
        if self._is_back_end:
            self._machine.attester.verify_peer(
                "orchestrator", shown, exporter=wanted.exporter, spki=wanted.spki, from_client=True
            )
        elif shown:
            raise ProtocolError("a device proves nothing about itself")

    # The back ends, before the sandbox closes.

    def _establish_all(self) -> dict[str, Backend]:
        deadline = time.monotonic() + _PATIENCE
        found = {role: self._establish(role, deadline) for role in self._machine.role.backends}
        return {role: backend for role, backend in found.items() if backend is not None}

    def _connected(self) -> bool:
        """Whether the role has what its sessions need inside this CVM."""
        role = self._machine.role
        try:
            if isinstance(role, Connects):
                role.connect()
        except UnavailableError as error:
            self._channel.log(BackendLost(party=Party.OTHER, code=code_of(error)))
            return False
        return True

    def _establish(self, role: str, deadline: float) -> Backend | None:
        while True:
            try:
                return self._try(role)
            except (PeerError, VerificationError, UnavailableError) as error:
                if not isinstance(error, UnavailableError) or time.monotonic() >= deadline:
                    self._channel.log(BackendLost(party=Party(role), code=code_of(error)))
                    return None
            time.sleep(_PAUSE)

    def _try(self, role: str) -> Backend:
        attester = self._machine.attester
        sock = connect(self._machine.wiring[role], party=role, timeout=_CONNECT)
        backend, verified = establish(
            sock,
            party=role,
            appraise=lambda shown, *, exporter, spki: attester.verify_peer(
                role, shown, exporter=exporter, spki=spki, from_client=False
            ),
            own_evidence=lambda leaf: attester.evidence(self._channel.quote(leaf)),
        )
        self._appraisals.append(appraisal_of(verified))
        return backend


def _ms(since: float) -> int:
    return round((time.monotonic() - since) * 1000)
