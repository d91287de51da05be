"""The TLS lines of deploy/relay as they are, connected with: nginx and HAProxy with certificates that are made here."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

import edge_kit
import relay_kit
from http_kit import Upstream, reply, upstream

KINDS = [kind for kind in relay_kit.KINDS if kind != "ours"]
NOT_PASSED_ON = {"nginx": 502, "haproxy": 503}
PLAIN, PLAIN_ANSWER = "message/ohttp-req", "message/ohttp-res"
NOTE = "/directory/directory-7.note"
NEW, OLD = ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if lack := relay_kit.missing(name):
        pytest.skip(lack)
    return name


class Authority:
    """Signs certificates of servers. Its own is in `file`, signed by `above` or, as a root, by itself."""

    def __init__(self, folder: Path, name: str, above: "Authority | None" = None) -> None:
        self._folder, self._name = folder, _name(name)
        self._key = ec.generate_private_key(ec.SECP256R1())
        key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        signer = above or self
        certificate = (
            _certificate(signer._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(key_id, critical=False)
            .sign(signer._key, hashes.SHA256())
            .public_bytes(Encoding.PEM)
        )
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(certificate)
        self._chain: bytes = certificate + above._chain if above else b""

    def sign(self, host: str, *, valid_for: timedelta = timedelta(days=1)) -> Path:
        """A certificate for `host` with its key, and those between it and the root."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _certificate(self._name, _name(host), key.public_key(), valid_for)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        file = self._folder / f"{certificate.serial_number}.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(certificate.public_bytes(Encoding.PEM) + self._chain + private)
        return file


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    issuer: x509.Name,
    subject: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid_for: timedelta = timedelta(days=1),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    serial = x509.random_serial_number()
    return x509.CertificateBuilder(issuer, subject, key, serial, now - timedelta(days=2), now + valid_for)


@dataclass(kw_only=True)
class Party:
    """A gateway or mirror that speaks TLS, and what it saw of those who came."""

    certificate: Path
    versions: tuple[ssl.TLSVersion, ssl.TLSVersion] = (OLD, NEW)
    asked_for: list[str | None] = field(default_factory=list)
    """The names that clients said they want (SNI), whether or not they went on."""
    spoken: list[str | None] = field(default_factory=list)
    """The version of TLS of each request."""

    @contextlib.asynccontextmanager
    async def serve(self, body: bytes, **headers: str) -> AsyncIterator[Upstream]:
        """It, answering `body`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        context.minimum_version, context.maximum_version = self.versions
        context.sni_callback = lambda _, name, __: self.asked_for.append(name)
        says = reply(200, body, **headers)

        async def answer(there: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.spoken.append(writer.get_extra_info("ssl_object").version())
            await says(there, reader, writer)

        async with upstream(answer, context) as there:
            yield there


@dataclass(kw_only=True)
class Place:
    """A relay between a gateway and a mirror; `authority` is the one that it, and its clients, trust."""

    kind: str
    url: str
    authority: Authority
    gateway: Upstream
    mirror: Upstream

    @contextlib.asynccontextmanager
    async def client(self, *, newest: ssl.TLSVersion = NEW) -> AsyncIterator[edge_kit.Raw]:
        """A client that has connected with relay.example, if that is who answers."""
        context = ssl.create_default_context(cafile=self.authority.file)
        context.minimum_version, context.maximum_version = OLD, newest
        context.set_alpn_protocols(["h2", "http/1.1"])
        port = int(self.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="relay.example"
        )
        client = edge_kit.Raw(reader, writer)
        try:
            yield client
        finally:
            client.close()

    async def post(self) -> edge_kit.Raw:
        """A client that has sent a message and read the answer's head."""
        async with self.client() as client:
            await client.start("POST", "/ohttp", content_type=PLAIN)
            await client.send(b"sealed")
            await client.send(b"")
            if await client.head() == 200:
                assert await client.rest() == b"answer"
            return client

    async def get(self) -> edge_kit.Raw:
        """A client that has asked for the directory and read the answer's head."""
        async with self.client() as client:
            client.writer.write(f"GET {NOTE} HTTP/1.1\r\nhost: relay.example\r\n\r\n".encode())
            if await client.head() == 200:
                assert await client.rest() == b"note"
            return client


@contextlib.asynccontextmanager
async def place(kind: str, authority: Authority, gateway: Party, mirror: Party) -> AsyncIterator[Place]:
    tls = relay_kit.Tls(certificate=authority.sign("relay.example"), authority=authority.file)
    log: list[str] = []
    async with (
        asyncio.timeout(20),
        gateway.serve(b"answer", content_type=PLAIN_ANSWER) as there,
        mirror.serve(b"note") as files,
        relay_kit.relay(kind, gateway=there.url, mirror=files.url, tls=tls, log=log) as url,
    ):
        yield Place(kind=kind, url=url, authority=authority, gateway=there, mirror=files)
    # Nothing of a failed handshake either.
    assert not any("127.0.0.1" in line or ".example" in line for line in log)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "trusted")


def test_tls_of_today_on_both_sides(kind: str, authority: Authority) -> None:
    gateway = Party(certificate=authority.sign("gateway.example"))
    mirror = Party(certificate=authority.sign("mirror.example"))

    async def test() -> None:
        async with place(kind, authority, gateway, mirror) as there:
            async with there.client() as client:
                shown = client.writer.get_extra_info("ssl_object")
                assert (shown.version(), shown.selected_alpn_protocol()) == ("TLSv1.3", "http/1.1")
            assert (await there.post()).status == 200
            assert there.gateway.bodies == [b"sealed"]
            assert there.gateway.headers()["host"] == "gateway.example"
            assert there.mirror.heads == []
            assert (await there.get()).status == 200
            assert there.mirror.headers()["host"] == "mirror.example"
            assert len(there.gateway.heads) == len(there.mirror.heads) == 1

    asyncio.run(test())
    # Both of them take the TLS of before as well: it is the relay that wants the newer one.
    assert gateway.spoken == mirror.spoken == ["TLSv1.3"]
    assert (gateway.asked_for, mirror.asked_for) == (["gateway.example"], ["mirror.example"])


def test_authorities_between_a_root_and_a_server(kind: str, authority: Authority, tmp_path: Path) -> None:
    """Public ones have one at least, and two while a new root is not known everywhere."""
    last = Authority(tmp_path, "second", Authority(tmp_path, "first", authority))
    gateway = Party(certificate=last.sign("gateway.example"))
    mirror = Party(certificate=last.sign("mirror.example"))

    async def test() -> None:
        async with place(kind, authority, gateway, mirror) as there:
            assert (await there.post()).status == 200
            assert (await there.get()).status == 200

    asyncio.run(test())


@pytest.mark.parametrize("fault", ["name", "authority", "date", "version"])
def test_whoever_cannot_show_who_it_is_gets_nothing(
    kind: str, authority: Authority, tmp_path: Path, fault: str
) -> None:
    def party(host: str) -> Party:
        signer = Authority(tmp_path, "another") if fault == "authority" else authority
        valid_for = timedelta(days=-1 if fault == "date" else 1)
        certificate = signer.sign("other.example" if fault == "name" else host, valid_for=valid_for)
        return Party(certificate=certificate, versions=(OLD, OLD if fault == "version" else NEW))

    gateway, mirror = party("gateway.example"), party("mirror.example")

    async def test() -> None:
        async with place(kind, authority, gateway, mirror) as there:
            assert (await there.post()).status == NOT_PASSED_ON[kind]
            assert (await there.get()).status == NOT_PASSED_ON[kind]
        # Whatever was under way has arrived: the relay is gone. nginx looks at a certificate after the handshake, so one may be complete.
        assert there.gateway.heads == there.mirror.heads == []

    asyncio.run(test())
    assert gateway.spoken == mirror.spoken == []
    # The relay did come to both, and once. Where there is no common version, nobody gets as far as a name.
    came = [] if fault == "version" else [["gateway.example"], ["mirror.example"]]
    assert [names for names in (gateway.asked_for, mirror.asked_for) if names] == came


def test_a_client_of_older_tls_is_refused(kind: str, authority: Authority) -> None:
    gateway = Party(certificate=authority.sign("gateway.example"))
    mirror = Party(certificate=authority.sign("mirror.example"))

    async def test() -> None:
        async with place(kind, authority, gateway, mirror) as there:
            with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
                async with there.client(newest=OLD):
                    pass
            async with there.client():
                pass

    asyncio.run(test())
