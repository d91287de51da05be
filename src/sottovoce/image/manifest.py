"""What is published of an image, so that anybody can rebuild it and compute its launch digests.

    {"format": "sottovoce-image", "version": 1, "role", "command_line", "settings": base64,
     "machine": what it is for (`image/machines.py`), "registers": {PCR: hex, ...} of a machine with a TPM that UEFI starts (`image/uki.py`),
     "volume": {"name", "size", "root"} or null, "lock": SHA-256 of the lock file, "engine": that of the engine's or "", "source": SHA-256 of our own code, "commit": its commit or "", "artifacts": {file: SHA-256}, "digests": {"EPYC-Milan/1": hex, ...}}

Canonical JSON. The settings are public: they hold no secret, as each of them is measured.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, DecodeError
from sottovoce.image.build import Image
from sottovoce.image.files import Files, archive
from sottovoce.image.lock import Lock
from sottovoce.image.machines import Machine
from sottovoce.image.uki import registers
from sottovoce.tee.settings import parse_settings
from sottovoce.tee.volume import Volume
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.entries import Release

__all__ = ["COMMIT", "Manifest", "source_digest"]

COMMIT = r"\A([0-9a-f]{40}|[0-9a-f]{64})?\Z"
_FORMAT = "sottovoce-image"
_VERSION = 1


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The manifest of an image."""

    format: str
    version: int
    role: str
    command_line: str
    settings: str
    machine: Machine
    volume: Volume | None
    lock: str
    engine: str
    source: str
    commit: Annotated[str, msgspec.Meta(pattern=COMMIT)]
    artifacts: dict[str, str]
    digests: dict[str, str]
    registers: dict[str, str]

    @classmethod
    def of(
        cls,
        image: Image,
        *,
        role: str,
        settings: bytes,
        machine: Machine,
        lock: Lock,
        engine: Lock | None = None,
        code: Files,
        commit: str = "",
    ) -> "Manifest":
        """The manifest of an image that was made of these."""
        return cls(
            format=_FORMAT,
            version=_VERSION,
            role=role,
            command_line=image.command_line,
            settings=base64.b64encode(settings).decode(),
            machine=machine,
            volume=image.volume,
            lock=hashlib.sha256(lock.to_toml()).hexdigest(),
            engine=hashlib.sha256(engine.to_toml()).hexdigest() if engine else "",
            source=source_digest(code),
            commit=commit,
            artifacts={name: hashlib.sha256(data).hexdigest() for name, data in image.files().items()},
            digests=image.digests(),
            registers={str(number): value.hex() for number, value in registers(image).items()},
        )

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read a manifest.

        Raises:
            DecodeError: it is none of this version, or not in canonical form.
        """
        try:
            found = msgspec.json.decode(data, type=cls)
            base64.b64decode(found.settings, validate=True)
        except (msgspec.MsgspecError, UnicodeError, binascii.Error, ValueError):
            raise DecodeError("this is no manifest of an image") from None
        if (found.format, found.version) != (_FORMAT, _VERSION) or found.encode() != data:
            raise DecodeError("this is no manifest of an image, or of another version")
        return found

    def encode(self) -> bytes:
        """The manifest as canonical JSON."""
        return canonical.encode(msgspec.to_builtins(self))

    def release(
        self, artifacts: Sequence[ArtifactEntry], *, security_version: int, issued: int, expires: int
    ) -> Release:
        """The log entry that has devices accept this image, signed by nobody yet; `artifacts` are those of its settings, `issued` and `expires` unix seconds.

        Raises:
            ConfigError: the settings are none, for another role, or name other artifacts.
            DecodeError: a release cannot live so long.
        """
        settings = parse_settings(base64.b64decode(self.settings))
        if settings.role != self.role:
            raise ConfigError("the image's settings are for another role than its manifest")
        named = {settings.model.digest} if settings.model else set()
        if {one.digest for one in artifacts} != named | ({settings.prompts} if settings.prompts else set()):
            raise ConfigError(
                "the artifacts are not those of the image's settings",
                hint="`sottovoce log artifact` makes an entry of each",
            )
        return Release(
            role=self.role,
            version=settings.version,
            security_version=security_version,
            platform=settings.platform,
            measurements=tuple(sorted(set(self.digests.values()))),
            vmpl=0,
            artifacts=tuple(one.listed() for one in artifacts),
            accelerators=(),
            issued=issued,
            expires=expires,
        )

    def differences(self, other: "Manifest") -> list[str]:
        """What another image has otherwise, in words: empty for the same image."""
        found = [
            f"{name}: {_short(getattr(self, name))} here, {_short(getattr(other, name))} there"
            for name in ("role", "settings", "machine", "volume", "lock", "engine", "source")
            if getattr(self, name) != getattr(other, name)
        ]
        if self.command_line != other.command_line:
            words = self.command_line.split(), other.command_line.split()
            ours, theirs = (" ".join(one for one in words[at] if one not in words[1 - at]) for at in (0, 1))
            found.append(f"command_line: {ours or '-'} here, {theirs or '-'} there")
        for kind in ("artifacts", "digests", "registers"):
            found += _differences(kind, getattr(self, kind), getattr(other, kind))
        return found


def source_digest(code: Files) -> str:
    """SHA-256 over our own files as an archive, in hex."""
    return hashlib.sha256(archive(code)).hexdigest()


def _differences(kind: str, ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    return [
        f"{kind} {name}: {_short(ours.get(name, '-'))} here, {_short(theirs.get(name, '-'))} there"
        for name in sorted({*ours, *theirs})
        if ours.get(name) != theirs.get(name)
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 16 else text[:16] + "\u2026"  # noqa: PLR2004 - enough to tell two apart
