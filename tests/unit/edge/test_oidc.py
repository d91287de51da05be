"""ID tokens of a provider of our own, and what is refused of them."""

import asyncio
import base64
import json
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

import asgi
import edge_kit
import token_kit
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.core.tokens import EPOCH_SECONDS, begin
from sottovoce.edge import issuer, oidc
from sottovoce.edge.accounts import enrol
from sottovoce.edge.accountstore import AccountUnknownError
from sottovoce.edge.attesters import Attesters, OidcConfig
from sottovoce.edge.issuer import Config, KeyFile, create_app
from sottovoce.edge.oidc import IdTokenError, OpenIdConnect, ProviderError
from sottovoce.simulator.toml import write_config

NOW = 20000 * EPOCH_SECONDS + 1000
ISSUER, AUDIENCE = "https://login.example", "sottovoce-devices"
CONFIG = OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks="https://login.example/keys")
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "sub": "canary-subject",
    "iat": NOW - 5,
    "exp": NOW + 300,
    "nonce": "n",
}


@cache
def keys() -> dict[str, Any]:
    return {
        "rsa": rsa.generate_private_key(65537, 2048),
        "ec": ec.generate_private_key(ec.SECP256R1()),
        "small": rsa.generate_private_key(65537, 1024),  # noqa: S505 - what is refused
        "p384": ec.generate_private_key(ec.SECP384R1()),
        "other": rsa.generate_private_key(65537, 2048),
    }


def jwk(name: str, **changes: Any) -> dict[str, Any]:
    public = keys()[name].public_key()
    entry = (RSAAlgorithm if isinstance(public, rsa.RSAPublicKey) else ECAlgorithm).to_jwk(
        public, as_dict=True
    )
    return {
        name: value
        for name, value in (entry | {"kid": name, "use": "sig"} | changes).items()
        if value is not None
    }


def jwks(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


def id_token(key: str = "rsa", header: dict[str, Any] | None = None, **changes: Any) -> str:
    claims = {name: value for name, value in (CLAIMS | changes).items() if value is not None}
    algorithm = {"ec": "ES256", "p384": "ES384"}.get(key, "RS256")
    return jwt.encode(claims, keys()[key], algorithm=algorithm, headers={"kid": key} | (header or {}))


class Provider:
    """Gives its keys, and counts how often it was asked."""

    def __init__(self, *entries: dict[str, Any]) -> None:
        self.document = jwks(*(entries or (jwk("rsa"), jwk("ec"))))
        self.asked = 0
        self.down = False

    async def fetch(self) -> bytes:
        self.asked += 1
        if self.down:
            raise ProviderError("x")
        return self.document


def attester(provider: Provider | None = None, **changes: Any) -> OpenIdConnect:
    config = OidcConfig(**({"issuer": ISSUER, "audience": AUDIENCE, "jwks": CONFIG.jwks} | changes))
    return OpenIdConnect(config, fetch=(provider or Provider()).fetch)


def account(bearer: str, where: OpenIdConnect | None = None, now: int = NOW) -> str:
    return asyncio.run((where or attester()).account(bearer, now))


@pytest.mark.parametrize("key", ["rsa", "ec"])
def test_a_good_token_is_an_account_without_a_name(key: str) -> None:
    name = account(id_token(key))
    assert name.startswith("oidc:")
    assert len(name) == 5 + 43
    assert "canary" not in name
    assert account(id_token("rsa", jti="x")) == name
    assert account(id_token(sub="other")) != name
    assert account(id_token(aud=[AUDIENCE], azp=AUDIENCE, nbf=NOW)) == name


def test_the_account_is_of_this_provider_only() -> None:
    other = attester(issuer="https://other.example")
    assert account(id_token(iss="https://other.example"), other) != account(id_token())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"iss": "https://login.example/"}, "another provider"),
        ({"iss": None}, "another provider"),
        ({"aud": "other"}, "somebody else"),
        ({"aud": None}, "somebody else"),
        ({"aud": [AUDIENCE, "other"]}, "somebody else"),
        ({"aud": []}, "somebody else"),
        ({"azp": "other"}, "given to somebody else"),
        ({"exp": NOW - 61}, "expired"),
        ({"exp": None}, "no time in exp"),
        ({"exp": "9999999999"}, "no time in exp"),
        ({"exp": True}, "no time in exp"),
        ({"exp": float("nan")}, "no time in exp"),
        ({"exp": 10**400}, "no time in exp"),
        ({"iat": NOW + 61}, "of the future"),
        ({"iat": NOW - 3661}, "too old"),
        ({"iat": None}, "no time in iat"),
        ({"nbf": NOW + 61}, "not valid yet"),
        ({"nbf": "x"}, "no time in nbf"),
        ({"sub": None}, "no subject"),
        ({"sub": ""}, "no subject"),
        ({"sub": "x" * 256}, "no subject"),
        ({"sub": "ä"}, "no subject"),
    ],
)
def test_claims_that_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(IdTokenError, match=words) as caught:
        account(id_token(**change))
    assert caught.value.code == "refused.account"
    assert "canary" not in str(caught.value)


def test_clocks_may_differ_by_a_minute() -> None:
    account(id_token(exp=NOW - 59))
    account(id_token(iat=NOW + 60, nbf=NOW + 60))
    account(id_token(iat=NOW - 3660))


def test_the_clock_is_the_issuers() -> None:
    with pytest.raises(IdTokenError, match="expired"):
        account(id_token(), now=NOW + 361)


def unsigned(algorithm: str) -> str:
    parts = ({"alg": algorithm, "kid": "rsa"}, CLAIMS)
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
        + ".AA"
    )


def with_public_key_as_secret() -> str:
    return jwt.encode(CLAIMS, "x" * 32, algorithm="HS256", headers={"kid": "rsa"})


def changed() -> str:
    head, _, signature = id_token().split(".")
    body = base64.urlsafe_b64encode(json.dumps(CLAIMS | {"sub": "root"}).encode()).decode().rstrip("=")
    return f"{head}.{body}.{signature}"


FORGED: dict[str, tuple[Callable[[], str], str]] = {
    "none": (lambda: unsigned("none"), "not taken"),
    "hmac": (with_public_key_as_secret, "not taken"),
    "384": (lambda: id_token("p384"), "not taken"),
    "changed": (changed, "does not verify"),
    "another key": (lambda: id_token("other", {"kid": "rsa"}), "does not verify"),
    "unknown key": (lambda: id_token("other"), "no key"),
    "kid of another type": (lambda: id_token(header={"kid": "ec"}), "no key"),
    "no kid, one key": (lambda: id_token("other", {"kid": ""}), "does not verify"),
    "critical": (lambda: id_token(header={"crit": ["x"], "x": 1}), "malformed|does not verify"),
    "access token": (lambda: id_token(header={"typ": "at+jwt"}), "another type"),
    "no base64": (lambda: "a.b.c", "malformed"),
    "no object": (lambda: "W10.W10.AA", "malformed|not taken"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_tokens(name: str) -> None:
    make, words = FORGED[name]
    with pytest.raises(IdTokenError, match=words):
        account(make())


def test_a_token_without_a_key_id_needs_one_key_that_it_can_mean() -> None:
    account(id_token(header={"kid": ""}))
    two = attester(Provider(jwk("rsa"), jwk("other")))
    with pytest.raises(IdTokenError, match="no key"):
        account(id_token(header={"kid": ""}), two)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.one_of(
        st.text(),
        st.from_regex(r"[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{1,40}\.[A-Za-z0-9_-]{0,40}", fullmatch=True),
    )
)
def test_any_bearer_is_an_account_or_a_typed_error(bearer: str) -> None:
    async def ask() -> None:
        await Attesters([attester()]).account(bearer, NOW)

    with pytest.raises(AccountUnknownError):
        asyncio.run(ask())


# The provider's keys


@pytest.mark.parametrize(
    "entry",
    [
        jwk("small"),
        jwk("p384"),
        jwk("rsa", use="enc"),
        jwk("rsa", alg="RS512"),
        jwk("rsa", n="AQAB"),
        jwk("rsa", n=7),
        jwk("rsa", kid=7),
        jwk("ec", crv="P-384"),
        jwk("ec", x="AA"),
        RSAAlgorithm.to_jwk(keys()["rsa"], as_dict=True) | {"kid": "rsa"},
        {"kty": "oct", "k": "AAAA", "kid": "rsa"},
        {"kty": "RSA"},
        {},
    ],
)
def test_keys_that_are_not_used(entry: dict[str, Any]) -> None:
    assert len(oidc.parse_keys(jwks(entry, jwk("other")))) == 1
    with pytest.raises(ProviderError):
        oidc.parse_keys(jwks(entry))


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(st.binary(), st.recursive(st.none() | st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["keys", "kty", "n", "e", "kid", "crv", "x", "y", "alg", "use"]), inner)).map(lambda value: json.dumps(value).encode())))  # fmt: skip
def test_any_bytes_are_keys_or_a_typed_error(data: bytes) -> None:
    with pytest.raises(ProviderError):
        oidc.parse_keys(data)


def test_a_set_of_keys_has_a_limit() -> None:
    with pytest.raises(ProviderError):
        oidc.parse_keys(jwks(jwk("rsa")) + b" " * 65536)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    moment = [time.monotonic()]
    monkeypatch.setattr("sottovoce.edge.oidc.time.monotonic", lambda: moment[0])
    return moment


def test_keys_are_fetched_once_an_hour(clock: list[float]) -> None:
    provider = Provider()
    where = attester(provider)
    for _ in range(3):
        account(id_token(), where)
    assert provider.asked == 1
    clock[0] += 3601
    account(id_token(), where)
    assert provider.asked == 2


def test_who_comes_while_keys_are_fetched_waits_for_them() -> None:
    async def play() -> list[str]:
        provider = Provider()
        slow, going = provider.fetch, asyncio.Event()

        async def fetch() -> bytes:
            await going.wait()
            return await slow()

        where = OpenIdConnect(CONFIG, fetch=fetch)
        asked = [asyncio.ensure_future(where.account(id_token(), NOW)) for _ in range(3)]
        await asyncio.sleep(0)
        going.set()
        names = await asyncio.gather(*asked)
        assert provider.asked == 1
        return list(names)

    assert len(set(asyncio.run(play()))) == 1


def test_a_new_key_is_found_and_a_made_up_one_costs_the_provider_nothing(clock: list[float]) -> None:
    provider = Provider(jwk("rsa"))
    where = attester(provider)
    account(id_token(), where)
    provider.document = jwks(jwk("other"))
    for _ in range(5):
        with pytest.raises(IdTokenError, match="no key"):
            account(id_token("other"), where)
    assert provider.asked == 1
    clock[0] += 61
    account(id_token("other"), where)
    assert provider.asked == 2
    with pytest.raises(IdTokenError):  # the old key is gone
        account(id_token("rsa"), where)


def test_a_provider_that_is_down_is_borne_for_a_day(clock: list[float]) -> None:
    provider = Provider()
    where = attester(provider)
    provider.down = True
    with pytest.raises(ProviderError) as caught:
        account(id_token(), where)
    assert caught.value.code == "unavailable.provider"
    provider.down = False
    clock[0] += 61
    account(id_token(), where)
    provider.down = True
    clock[0] += 24 * 3600 - 1
    account(id_token(), where)
    clock[0] += 62
    with pytest.raises(ProviderError):
        account(id_token(), where)
    provider.down = False
    clock[0] += 61
    account(id_token(), where)


@pytest.mark.parametrize("changes", [{"issuer": ""}, {"audience": ""}, {"jwks": ""}, {"max_age": 0}])
def test_a_configuration_that_is_incomplete(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="incomplete"):
        attester(**changes)


@pytest.mark.parametrize(
    "url", ["http://login.example/keys", "ftp://127.0.0.1/x", "http://192.0.2.1/", "://"]
)
def test_keys_do_not_come_without_tls(url: str) -> None:
    with pytest.raises(ConfigError, match="https"):
        OpenIdConnect(OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks=url))


def test_keys_from_a_file_are_pinned(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    config = OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks=str(file))
    for content in (None, b"", b"{}", jwks(jwk("small"))):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError):
            OpenIdConnect(config)
    file.write_bytes(jwks(jwk("rsa")))
    where = OpenIdConnect(config)
    account(id_token(), where)
    file.write_bytes(jwks(jwk("other")))
    with pytest.raises(IdTokenError, match="no key"):
        account(id_token("other"), where)


# With a provider on a socket, and an issuer


class Login:
    """A provider that serves its keys."""

    def __init__(self) -> None:
        self.status, self.body = 200, jwks(jwk("rsa"))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        headers = [(b"location", b"/keys")] if self.status == 302 else []
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


@pytest.mark.parametrize(("status", "body"), [(500, b""), (302, b""), (200, b"{}"), (200, b" " * 200_000)])
def test_a_provider_that_answers_with_something_else(status: int, body: bytes) -> None:
    async def play() -> None:
        login = Login()
        login.status, login.body = status, body
        async with edge_kit.serving(login) as url:
            where = OpenIdConnect(OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks=url + "/keys"))
            with pytest.raises(ProviderError):
                await where.account(id_token(), NOW)

    asyncio.run(play())


def test_a_provider_that_is_not_there() -> None:
    where = OpenIdConnect(OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks="http://127.0.0.1:1/keys"))
    with pytest.raises(ProviderError):
        account(id_token(), where)


@pytest.mark.parametrize("enrolment", [True, False])
def test_the_issuer_takes_id_tokens_and_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, enrolment: bool
) -> None:
    monkeypatch.setattr(issuer, "load_token_key", lambda _: (token_kit.signer(), token_kit.key()))
    database = str(tmp_path / "accounts.db")
    enrolled = enrol(database, "anna")

    async def play() -> None:
        async with edge_kit.serving(Login()) as url:
            config = Config(
                database=database,
                keys=[KeyFile(epoch=20000, path="-")],
                quota=2,
                enrolment_keys=enrolment,
                oidc=OidcConfig(issuer=ISSUER, audience=AUDIENCE, jwks=url + "/keys"),
            )
            app = create_app(config, log=EventLog(lambda _: None), clock=lambda: NOW)

            async def post(bearer: str) -> tuple[int, str]:
                headers = {
                    "authorization": f"Bearer {bearer}",
                    "content-type": "application/private-token-request",
                }
                body = begin(token_kit.key(), token_kit.CHALLENGE)[0]
                answer = await asgi.fetch(app, "POST", "/token-request", headers=headers, body=body)
                return answer.status, "" if answer.status == 200 else json.loads(answer.body)["code"]

            assert await post(id_token()) == (200, "")
            assert await post(id_token(jti="again")) == (200, "")
            assert await post(id_token()) == (429, "quota")
            assert await post(id_token(sub="other")) == (200, "")
            assert await post(changed()) == (401, "refused.account")
            assert await post(enrolled) == ((200, "") if enrolment else (401, "refused.account"))

    asyncio.run(play())
    content = b"".join(path.read_bytes() for path in tmp_path.glob("accounts.db*"))
    assert b"oidc:" in content
    assert b"canary-subject" not in content


@pytest.mark.parametrize("provider", [None, CONFIG])
def test_a_configuration_is_written_and_read_as_toml(tmp_path: Path, provider: OidcConfig | None) -> None:
    config = Config(database="/a", keys=[], quota=1, oidc=provider)
    write_config(tmp_path / "issuer.toml", config)
    assert msgspec.toml.decode((tmp_path / "issuer.toml").read_bytes(), type=Config) == config


def test_an_issuer_that_knows_nobody_does_not_start() -> None:
    with pytest.raises(ConfigError, match="knows nobody"):
        Attesters([])
