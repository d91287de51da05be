"""Where a log keeps its files: a folder, or an S3-like store, behind one small interface.

Whoever holds the store is trusted by nobody: they can withhold files or bring back old ones, and cannot change one unseen.
A file is immutable (created once, never changed) or replaceable (only ever replaced whole, by one writer).
"""

import datetime as dt
import fcntl
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from sottovoce.core.errors import ConfigError, SottovoceError
from sottovoce.thirdparty.files import StorageError, write_whole

__all__ = ["Folder", "ImmutableError", "OtherWriterError", "S3Settings", "S3Store", "Store"]

_IMMUTABLE: Final = "tile/"
"""Files under this path never change, so nothing is kept of their versions."""
_LOCK: Final = ".lock"
_RETRY: Final = dt.timedelta(seconds=30)


class ImmutableError(SottovoceError):
    """A file that never changes is there already, with other content."""

    code = "disk.immutable"


class OtherWriterError(SottovoceError):
    """Another process writes to the same store."""

    code = "disk.other-writer"


class Store(Protocol):
    """Files by path (`a/b/c`, relative). Every method blocks until what it says is durable."""

    def read(self, path: str) -> bytes | None:
        """The file; None if there is none.

        Raises:
            StorageError: it cannot be read.
        """

    def holds(self, folder: str) -> bool:
        """Whether there is any file under `folder`.

        Raises:
            StorageError: that cannot be seen.
        """

    def create(self, files: Mapping[str, bytes]) -> None:
        """Create immutable files; one that is there with the same content is left alone.

        Raises:
            ImmutableError: one is there with other content.
            StorageError: they cannot be written; some of them may be there.
        """

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` in the place of the file that this object read or wrote last.

        Raises:
            OtherWriterError: somebody else has replaced it.
            StorageError: it cannot be written; the old or the new content is there.
        """

    def hold(self) -> None:
        """Become the only writer, until `release`.

        Raises:
            OtherWriterError: there is one.
        """

    def release(self) -> None:
        """Let another writer in."""


class Folder:
    """A store in a folder. A web server may serve it as it is, but for `sequencer/`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock: int | None = None

    def read(self, path: str) -> bytes | None:
        """See `Store`."""
        try:
            return (self._folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError:
            raise StorageError("a file cannot be read") from None

    def holds(self, folder: str) -> bool:
        """See `Store`."""
        try:
            return any(path.is_file() for path in (self._folder / folder).rglob("*"))
        except OSError:
            raise StorageError("a folder cannot be read") from None

    def create(self, files: Mapping[str, bytes]) -> None:
        """See `Store`. The files of one call share the waits for their folders."""
        folders = set[Path]()
        for path, data in files.items():
            found = self.read(path)
            if found is not None and found != data:
                raise ImmutableError("an immutable file has other content")
            # One that is there may have been left by a stop before its folder was on the disk.
            folders |= (
                self._link(self._folder / path, data) if found is None else {(self._folder / path).parent}
            )
        for folder in sorted(folders):
            _sync(folder)

    def _link(self, path: Path, data: bytes) -> set[Path]:
        staged = path.with_name(path.name + ".new")
        try:
            made = _make(path.parent)
            with staged.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(staged, path)
        except OSError:
            raise StorageError("a file cannot be written", hint="is the disk full?") from None
        finally:
            with suppress(OSError):
                staged.unlink(missing_ok=True)
        return made | {path.parent}

    def replace(self, path: str, data: bytes) -> None:
        """See `Store`; the lock that `hold` takes keeps others away."""
        write_whole(self._folder / path, data)

    def hold(self) -> None:
        """See `Store`."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            raise StorageError("the folder cannot be written to") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise OtherWriterError("another process writes to the same folder") from None
        self._lock = lock

    def release(self) -> None:
        """See `Store`."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _make(folder: Path) -> set[Path]:
    """Make `folder`; the folders above it whose content has changed."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return {one.parent for one in missing}


def _sync(folder: Path) -> None:
    try:
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)
    except OSError:
        raise StorageError("a file cannot be written", hint="is the disk full?") from None


class S3Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the bucket is. The store must keep to conditional writes (`If-None-Match: *` and `If-Match`)."""

    bucket: str
    endpoint: str
    """URL of the service."""
    region: str
    access_key_id: str
    secret: str
    """File with the secret access key."""
    prefix: str = ""
    """What stands before every path, without a slash at its end."""


class S3Store:
    """A store in an S3-like service. Conditional writes keep files immutable, and a second writer out."""

    def __init__(self, settings: S3Settings) -> None:
        # Imported here: who keeps a log in a folder does not need it.
        import obstore  # noqa: PLC0415
        from obstore.store import S3Store as Client  # noqa: PLC0415

        try:
            secret = Path(settings.secret).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError("the file with the store's secret key cannot be read") from None
        self._store: Any = Client(
            settings.bucket,
            prefix=settings.prefix or None,
            config={
                "endpoint": settings.endpoint,
                "region": settings.region,
                "access_key_id": settings.access_key_id,
                "secret_access_key": secret,
                "conditional_put": "etag",
            },
            client_options={"allow_http": settings.endpoint.startswith("http://"), "timeout": "30s"},
            retry_config={"max_retries": 3, "retry_timeout": _RETRY},
        )
        self._client: Any = obstore
        self._versions: dict[str, str | None] = {}

    def read(self, path: str) -> bytes | None:
        """See `Store`."""
        data, version = self._get(path)
        self._seen(path, version)
        return data

    def _get(self, path: str) -> tuple[bytes | None, str | None]:
        try:
            found = self._client.get(self._store, path)
            return bytes(found.bytes()), found.meta["e_tag"]
        except FileNotFoundError:
            return None, None
        except Exception:  # noqa: BLE001 - the library's errors name the request; none of them is passed on
            raise StorageError("an object cannot be read") from None

    def _seen(self, path: str, version: str | None) -> None:
        if not path.startswith(_IMMUTABLE):
            self._versions[path] = version

    def holds(self, folder: str) -> bool:
        """See `Store`."""
        try:
            return any(self._client.list(self._store, folder, chunk_size=1))
        except Exception:  # noqa: BLE001 - as in `read`
            raise StorageError("the bucket cannot be listed") from None

    def create(self, files: Mapping[str, bytes]) -> None:
        """See `Store`."""
        for path, data in files.items():
            if not self._put(path, data, "create") and self.read(path) != data:
                raise ImmutableError("an immutable object has other content")

    def replace(self, path: str, data: bytes) -> None:
        """See `Store`."""
        if path not in self._versions:
            self.read(path)
        version = self._versions[path]
        mode = "create" if version is None else {"e_tag": version}
        # A request that was answered too late is sent again by the client, and then finds its own first copy.
        if not self._put(path, data, mode):
            found, version = self._get(path)
            if found != data:
                # The version stays what it was: what somebody else has written is never replaced, also not the next time.
                raise OtherWriterError("another process writes to the same bucket")
            self._seen(path, version)

    def _put(self, path: str, data: bytes, mode: Any) -> bool:
        from obstore.exceptions import AlreadyExistsError, PreconditionError  # noqa: PLC0415

        try:
            written = self._client.put(self._store, path, data, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return False
        except Exception:  # noqa: BLE001 - as in `read`
            raise StorageError("an object cannot be written") from None
        self._seen(path, written["e_tag"])
        return True

    def hold(self) -> None:
        """Nothing to do: each replacement is conditional on the one before."""

    def release(self) -> None:
        """Nothing to do."""
