"""The operator's access to the log: enter, prove, read. What the log answers is believed only where the reader checks it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from sottovoce.attest.evidence import Logged
from sottovoce.core.errors import DecodeError, LimitError, UnavailableError
from sottovoce.core.limits import LIMITS
from sottovoce.edge.plainhttp import ask, require_url
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.history import History
from sottovoce.tlog.note import Note, SigningKey
from sottovoce.tlog.policy import LogPolicy
from sottovoce.tlog.publication import combine, is_release, sign_release

__all__ = ["LogClient", "NotInLogError"]

_OK, _NOT_FOUND = 200, 404
_BUNDLE: Final = tiles.WIDTH * (tiles.MAX_ENTRY + 2)


class NotInLogError(UnavailableError):
    """The log has no such entry, or none that enough witnesses have seen."""

    code = "unavailable.log"


class LogClient:
    """The log at `url`; `secret` is the operator's. In a simulation it has the keys of both publishers too."""

    def __init__(self, url: str, secret: str, publishers: Sequence[SigningKey] = ()) -> None:
        """Name a log; nothing is asked yet.

        Raises:
            ConfigError: not the URL of one.
        """
        require_url(url)
        self._url = url
        self._secret = secret
        self._publishers = publishers

    def append(self, entry: bytes) -> None:
        """Enter `entry`; one that is there already stays where it is.

        Raises:
            UnavailableError: the log does not take it.
        """
        path, body = "/entries", entry
        if is_release(entry):
            path, body = "/releases", combine(entry, [sign_release(entry, key) for key in self._publishers])
        self._ask("POST", path, body, {"Authorization": f"Bearer {self._secret}"})

    def prove(self, entry: bytes) -> Logged:
        """`entry` with its proof under the newest cosigned checkpoint.

        Raises:
            NotInLogError: the log has no such entry.
            UnavailableError: the log does not answer.
        """
        proof = self._ask("GET", f"/proof?hash={merkle.leaf_hash(entry).hex()}", None, {})
        return Logged(entry=entry, proof=proof)

    def history(self, origin: str, size: int, earlier: Iterable[int]) -> History:
        """The consistency file of the tree head of this size, from the log's own tiles. Whether it is that tree head is the caller's to check.

        Raises:
            UnavailableError, DecodeError: the log's tiles cannot be had, or do not hold what they must.
            LimitError: `size` is greater than `LIMITS.log_entries`.
        """
        tiles.require_count(size)
        leaves: list[bytes] = []
        for index in range(-(-size // tiles.WIDTH)):
            leaves += self._part(0, index, size, tiles.read_tile)
        return History.of(origin, leaves, earlier)

    def entries(self, policy: LogPolicy) -> list[bytes]:
        """All entries under the newest published tree head, which the log has signed and which they give. No witness is asked for.

        Raises:
            UnavailableError, DecodeError: they cannot be had, or are not those of the tree head.
            OriginError, SignatureError: the tree head is of another log, or not signed by it.
            LimitError: more than `LIMITS.log_entries`, or `LIMITS.log_bytes` in all.
        """
        head = policy.signed_head(Note.parse(self._ask("GET", "/checkpoint", None, {})))
        tiles.require_count(head.size)
        found, length = list[bytes](), 0
        for index in range(-(-head.size // tiles.WIDTH)):
            bundle = self._part("entries", index, head.size, tiles.decode_bundle)
            length += sum(map(len, bundle))
            if length > LIMITS.log_bytes:
                raise LimitError("the log's entries are longer than what is read at one time")
            found += bundle
        if merkle.tree_head([merkle.leaf_hash(entry) for entry in found]) != head.root:
            raise UnavailableError("the log's entries are not those of its tree head", party="log")
        return found

    def _part(
        self, level: int | str, index: int, size: int, decode: Callable[[bytes], list[bytes]]
    ) -> list[bytes]:
        """What tile or bundle `index` holds of a log of `size` entries, all of it.

        A full one may have taken the place of a partial one (tlog-tiles, "Partial tiles").
        """
        held = width = min(tiles.WIDTH, size - index * tiles.WIDTH)
        try:
            data = self._ask("GET", f"/{tiles.tile_path(level, index, width)}", None, {})
        except NotInLogError:
            if width == tiles.WIDTH:
                raise
            held, data = tiles.WIDTH, self._ask("GET", f"/{tiles.tile_path(level, index)}", None, {})
        items = decode(data)
        if len(items) != held:
            raise DecodeError("a tile or bundle of the log holds another number of items than it must")
        return items[:width]

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        limit = max(LIMITS.directory, _BUNDLE)
        status, answer = ask(
            self._url, path, party="log", limit=limit, method=method, body=body, headers=headers
        )
        if status == _NOT_FOUND:
            raise NotInLogError("the log has no such entry", party="log")
        if status != _OK:
            raise UnavailableError("the log refuses", party="log", hint=f"it answered {status}")
        return answer
