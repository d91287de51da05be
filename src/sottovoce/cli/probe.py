"""An attested session that is opened only to look at its evidence."""

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from sottovoce.attest.policyfile import VerifierPolicy
from sottovoce.attest.verdict import Verdict, VerificationRefused
from sottovoce.attest.verify import Connection, verify_session
from sottovoce.core.errors import ConfigError, UnavailableError
from sottovoce.core.link import LinkReader, encode_turn
from sottovoce.core.tls import ClientHandshake, EvidenceOffer
from sottovoce.device.directory import VerifiedDirectory
from sottovoce.device.directory_fetch import DirectorySource
from sottovoce.device.environment import Environment
from sottovoce.device.transport import Network

__all__ = ["probe"]

_READ: Final = 64 * 1024
_TIMEOUT: Final = 20.0
"""Seconds to connect, and then for the whole flight with the evidence."""


def probe(
    home: Path, environment: Environment, url: str, *, role: str, policy: VerifierPolicy, now: int
) -> Verdict:
    """The verdict on the evidence that the CVM at `url` shows on a fresh connection. Nothing is sent but the handshake.

    Raises:
        ConfigError: the URL is not tcp://HOST:PORT.
        UnavailableError: nobody answers, or not with evidence.
        PeerError: the answer is not allowed.
    """
    host, port = _address(url)
    demands = policy.for_session(environment.session_policy())
    if role != demands.role:
        demands = replace(demands, role=role, require_backends=())
    directory = asyncio.run(_directory(home, environment, now))
    offer = _offer(host, port)
    connection = Connection(
        exporter=offer.exporter,
        spki=offer.spki,
        now=now,
        candidates=None,
        hosts=directory.directory.hosts,
        revocations=directory.directory.revocations,
        seen=directory.checkpoint,
        history=directory.history,
    )
    try:
        return verify_session(offer.evidence, policy=demands, connection=connection).verdict
    except VerificationRefused as refused:
        return refused.verdict


async def _directory(home: Path, environment: Environment, now: int) -> VerifiedDirectory:
    async with Network() as network:
        directory, _ = await DirectorySource(environment, network, home).get(now)
        return directory


def _address(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # what the system's resolver is asked for
    except ValueError:
        parts, host, port = urlsplit(""), None, None
    more = parts.path or parts.query or parts.fragment or "@" in parts.netloc
    if parts.scheme != "tcp" or not host or not port or more:
        raise ConfigError(
            "the address of a CVM is tcp://HOST:PORT", hint="`sottovoce up` prints those of its CVMs"
        )
    return host, port


def _offer(host: str, port: int) -> EvidenceOffer:
    handshake, reader = ClientHandshake(), LinkReader()
    end = time.monotonic() + _TIMEOUT
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT) as sock:
            sock.sendall(encode_turn(handshake.first_flight()))
            while data := _receive(sock, end):
                for message in reader.feed(data):
                    offer = handshake.receive(message) if message else None
                    if offer is not None:
                        return offer
    except OSError:
        raise UnavailableError("the CVM does not answer", party="orchestrator") from None
    raise UnavailableError("the CVM ended the connection without evidence", party="orchestrator")


def _receive(sock: socket.socket, end: float) -> bytes:
    """What comes before `end`, a moment of the monotonic clock: who sends a byte now and then is not waited for."""
    sock.settimeout(max(0.001, end - time.monotonic()))
    data = sock.recv(_READ)
    if time.monotonic() >= end:
        raise TimeoutError
    return data
