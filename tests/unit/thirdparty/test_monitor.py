import asyncio
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from log_kit import Files, FilesLog, blobs
from sottovoce.core import canonical
from sottovoce.core.errors import ConfigError, LimitError, UnavailableError
from sottovoce.simulator.testing import NOW, EvidenceWorld
from sottovoce.thirdparty import monitor as monitor_module
from sottovoce.thirdparty.files import StorageError
from sottovoce.thirdparty.findings import CODES, Use
from sottovoce.thirdparty.monitor import Monitor, Report
from sottovoce.thirdparty.monitor_page import render
from sottovoce.tlog import merkle, tiles
from sottovoce.tlog.artifactentries import ArtifactEntry
from sottovoce.tlog.artifacts import File, Tree
from sottovoce.tlog.note import Note, SigningKey, sign_note

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "docs" / "monitor.schema.json").read_text())
WORLD = EvidenceWorld()
RELEASES = {role: release.encode() for role, release in WORLD.releases.items()}
HOSTS = [host.encode() for host in WORLD.hosts.values()]
PROMPTS = {"a.json": b"one", "b.json": b"two"}
PUBLIC = ArtifactEntry.of(
    Tree.of(
        File(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
        for path, data in PROMPTS.items()
    ),
    name="prompts",
    purpose="prompts",
    public=True,
)
GOOD = [*RELEASES.values(), *HOSTS, PUBLIC.encode()]


@dataclasses.dataclass
class Place:
    """A log that is followed, and the monitor's folder."""

    folder: Path
    log: FilesLog = dataclasses.field(default_factory=lambda: FilesLog(entries=list(GOOD)))
    now: int = NOW

    def monitor(self) -> Monitor:
        """Started anew on the same folder."""
        return Monitor(self.folder, self.log.policy())

    def look(self, reader: Files | None = None, **more: Any) -> Report:
        """One round of a monitor that has just been started."""
        given: dict[str, Any] = {"now": self.now, "artifacts": Files(blobs(PROMPTS.values()))}
        return asyncio.run(self.monitor().round(reader or self.log.reader(now=self.now), **(given | more)))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "monitor")


def codes(report: Report) -> list[str]:
    jsonschema.validate(report.to_json(), SCHEMA)
    assert all(finding.code in render(report) for finding in report.findings)
    return [finding.code for finding in report.findings]


def texts(report: Report) -> str:
    return "\n".join(finding.text for finding in report.findings)


def test_a_good_log_has_no_findings_and_every_start_goes_on(place: Place) -> None:
    report = place.look()
    assert codes(report) == []
    assert (report.size, report.new, report.artifacts) == (len(GOOD), len(GOOD), 1)
    assert report.counts == {"release": 3, "host": 3, "artifact": 1}
    assert [line.time for line in report.witnesses] == [NOW, NOW]
    place.log.add(*(canonical.encode({**json.loads(HOSTS[0]), "id": f"h-{n}"}) for n in range(600)))
    reader = place.log.reader(now=NOW)
    report = place.look(reader)
    assert (codes(report), report.new, report.size) == ([], 600, 607)
    # Each new file once, and nothing twice: what is kept is not fetched again.
    assert len(set(reader.asked)) == len(reader.asked)
    assert place.look().new == 0


# Shows 2: two worlds that share witnesses, one of them forked


def test_more_entries_than_a_bundle_are_remembered(place: Place) -> None:
    hosts = [HOSTS[0].replace(b"host-", b"host-%d-" % number) for number in range(2 * tiles.WIDTH)]
    place.log.add(*hosts)
    assert codes(place.look()) == []
    report = place.look()
    assert (codes(report), report.size, report.new) == ([], len(GOOD) + len(hosts), 0)


def test_a_fork_at_one_size_is_named_for_ever_and_both_heads_are_kept(place: Place) -> None:
    place.look()
    fork = place.log.fork(3, *reversed(GOOD[3:]))
    for report in (place.look(fork.reader(now=NOW)), place.look(), place.look()):
        assert codes(report) == ["fork"]
        assert texts(report) == "two tree heads of size 7; they part at entry 3"
    kept = {path.name: Note.parse(path.read_bytes()) for path in place.folder.glob("*.note")}
    assert len(kept) == 2
    assert {note.text for note in kept.values()} == {
        log.checkpoint(now=NOW).text for log in (place.log, fork)
    }


def test_a_larger_fork_is_named_with_the_entry_where_it_parts(place: Place) -> None:
    place.look()
    fork = place.log.fork(2, *HOSTS, *RELEASES.values(), *HOSTS)
    assert texts(place.look(fork.reader(now=NOW))) == (
        "the tree head of size 11 does not continue the one of size 7; they part at entry 2"
    )
    assert place.monitor().size == 7


def test_a_smaller_fork_is_named(place: Place) -> None:
    place.look()
    assert texts(place.look(place.log.fork(2, b"x").reader(now=NOW))) == (
        "the tree head of size 3 is not the beginning of the one of size 7; they part at entry 2"
    )


def test_a_fork_that_no_witness_signed_and_without_files_is_one_too(place: Place) -> None:
    place.look()
    fork = place.log.fork(3, *reversed(GOOD[3:]))
    fork.cosigning = 0
    bare = Files({"checkpoint": fork.checkpoint(now=NOW).encode()})
    found = place.look(others=[bare])
    assert codes(found) == ["fork"]
    assert texts(found) == "two tree heads of size 7"


def test_what_somebody_else_was_shown_is_compared(place: Place) -> None:
    fork, larger = place.log.fork(3, *reversed(GOOD[3:])), place.log.fork(7, b"x")
    for log, wanted in (
        (place.log, []),
        (place.log.fork(3), []),
        (larger, ["checkpoint-unproved"]),
        (fork, ["fork"]),
    ):
        assert codes(place.look(brought=[log.checkpoint(now=NOW)])) == wanted
    assert codes(place.look()) == ["fork"]


def test_a_rolled_back_log_is_no_fork(place: Place) -> None:
    before = place.log.reader(now=NOW)
    place.log.add(HOSTS[0].replace(b"host-orchestrator", b"host-more"))
    place.look()
    report = place.look(before)
    assert codes(report) == ["rolled-back"]
    assert report.size == 8
    # From another source it may be a slow mirror.
    assert codes(place.look(others=[before])) == []


# Witnesses as sources: a tree head, and no files

AHEAD = [HOSTS[0].replace(b"host-orchestrator", b"host-%d" % number) for number in range(8)]


def witness(log: FilesLog, *, now: int = NOW) -> Files:
    """What the first witness shows to monitors: the last tree head that it cosigned."""
    note = log.checkpoint(now=now)
    return Files({"checkpoint": Note(text=note.text, signatures=note.signatures[:2]).encode()})


def cosigning(place: Place, *entries: bytes) -> Files:
    """The log between the witnesses' signatures and publishing: new files, and the tree head of before."""
    before = place.log.files(now=NOW)
    place.log.add(*entries)
    return Files({**before, **place.log.files(now=NOW), "checkpoint": before["checkpoint"]})


@pytest.mark.parametrize("is_new", [True, False])
def test_a_witness_that_is_ahead_of_what_the_log_publishes_is_no_finding(place: Place, is_new: bool) -> None:
    if not is_new:
        place.look()
    reader = cosigning(place, *AHEAD[:2])
    ahead = witness(place.log)
    report = place.look(reader, others=[ahead])
    assert (codes(report), report.size) == ([], 9)
    assert report.root == merkle.tree_head(place.log.leaves)
    # As long as it lasts, and in whatever order: the log has never shown what the witness has.
    for report in (place.look(reader, others=[ahead]), place.look(reader), place.look(others=[ahead])):
        assert (codes(report), report.size) == ([], 9)
    # The last look was at the published tree head, so the log is held to it.
    assert codes(place.look(reader, others=[ahead])) == ["rolled-back"]


def test_a_log_is_held_to_each_tree_head_that_it_has_shown(place: Place) -> None:
    place.look()
    seven = place.log.reader(now=NOW)
    eight = cosigning(place, AHEAD[0])
    eight.files["checkpoint"] = place.log.checkpoint(now=NOW).encode()
    cosigning(place, AHEAD[1])
    nine = Files({**place.log.files(now=NOW), "checkpoint": seven.files["checkpoint"]})
    assert codes(place.look(nine, others=[witness(place.log)])) == []
    assert place.monitor().size == 9
    assert codes(place.look(eight)) == []
    assert texts(place.look(seven)) == "a tree head of size 7 is shown, after one of size 8"
    assert codes(place.look(eight)) == []


def test_a_mirror_has_files_and_shows_what_the_log_has_shown(place: Place) -> None:
    before = place.log.reader(now=NOW)
    place.log.add(AHEAD[0])
    report = place.look(before, others=[place.log.reader(now=NOW)])
    assert (codes(report), report.size) == ([], 8)
    assert codes(place.look(before)) == ["rolled-back"]


@pytest.mark.parametrize("down", [False, True])
def test_a_source_without_its_files_is_read_from_the_log(place: Place, down: bool) -> None:
    class Bare(Files):
        async def get(self, path: str, *, limit: int) -> bytes:
            self.down = down and path != "checkpoint"
            return await super().get(path, limit=limit)

    reader = cosigning(place, AHEAD[0])
    report = place.look(reader, others=[Bare(witness(place.log).files)])
    assert (codes(report), report.size) == ([], 8)


@pytest.mark.parametrize("lost", ["tile/entries/000.p/8", "tile/0/000.p/8"])
def test_a_tree_head_without_files_is_a_finding_after_five_minutes(place: Place, lost: str) -> None:
    place.look()
    reader = cosigning(place, AHEAD[0])
    data = reader.files.pop(lost)
    ahead = [witness(place.log)]
    for later, wanted in ((0, []), (299, []), (300, ["checkpoint-unproved"]), (-1, ["checkpoint-unproved"])):
        place.now = NOW + later
        report = place.look(reader, others=ahead)
        assert (codes(report), report.size) == (wanted, 7)
        # The same tree head, signed again.
        ahead = [witness(place.log, now=NOW + later), witness(place.log)]
    assert texts(report) == "nobody has the files of a tree head of size 8, shown beside one of size 7"
    # It is remembered when nobody shows it any more, and forgotten when the log has caught up.
    place.now = NOW + 300
    assert codes(place.look(reader)) == ["checkpoint-unproved"]
    reader.files[lost] = data
    assert (codes(place.look(reader)), place.monitor().size) == ([], 8)
    assert codes(place.look()) == []


def test_a_log_that_publishes_in_time_leaves_nothing_behind(place: Place) -> None:
    before = place.log.reader(now=NOW)
    place.look(before)
    place.log.add(AHEAD[0])
    ahead = witness(place.log)
    assert codes(place.look(before, others=[ahead])) == []
    place.log.add(AHEAD[1])
    place.now = NOW + 3600
    for report in (place.look(), place.look(others=[ahead])):
        assert (codes(report), report.size) == ([], 9)
    assert json.loads((place.folder / "state.json").read_bytes())["unproved"] == []


@pytest.mark.parametrize("grown", [9, 10])
def test_a_witness_that_was_shown_another_history_is_named_when_the_log_comes_that_far(
    place: Place, grown: int
) -> None:
    place.look()
    fork = place.log.fork(7, b"x", b"y")
    hidden = witness(fork)
    assert codes(place.look(others=[hidden])) == []
    # The witness has been silenced since.
    place.log.add(*AHEAD[: grown - 7])
    gone = {"tile/entries/000.p/9", "tile/0/000.p/9"} if grown > 9 else set()
    files = {name: data for name, data in place.log.files(now=NOW).items() if name not in gone}
    wanted = (
        "two tree heads of size 9"
        if grown == 9
        else "the tree head of size 9 is not the beginning of the one of size 10"
    )
    for report in (place.look(Files(files)), place.look(others=[hidden])):
        assert (codes(report), texts(report), report.size) == (["fork"], wanted, grown)
    # It stays one fork while the log grows, whoever goes on showing it.
    for more in AHEAD[4:]:
        place.log.add(more)
        assert texts(place.look(others=[hidden])) == wanted
    heads = {note.text for note in (Note.parse(path.read_bytes()) for path in place.folder.glob("*.note"))}
    assert heads == {fork.checkpoint(now=NOW).text, place.log.fork(grown).checkpoint(now=NOW).text}


def test_a_fork_at_a_witness_is_told_again_when_it_can_be_read_where_it_parts(place: Place) -> None:
    place.look()
    fork = place.log.fork(2, *reversed(GOOD[2:]))
    assert texts(place.look(others=[witness(fork)])) == "two tree heads of size 7"
    place.log.add(AHEAD[0])
    mirror = fork.reader(now=NOW)
    for _ in range(2):
        assert texts(place.look(others=[witness(fork), mirror])).split("\n") == [
            "two tree heads of size 7",
            "the tree head of size 7 is not the beginning of the one of size 8; they part at entry 2",
        ]


def test_files_that_do_not_give_a_witness_its_tree_head_are_a_finding_and_then_a_fork(place: Place) -> None:
    place.look()
    ahead = [witness(place.log.fork(7, b"x"))] * 2
    reader = cosigning(place, AHEAD[0])
    for _ in range(2):
        report = place.look(reader, others=ahead)
        assert (codes(report), report.size) == (["tile-mismatch"], 7)
    report = place.look()
    assert (codes(report), texts(report)) == (["fork"], "two tree heads of size 8")


def test_what_is_remembered_is_bounded(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "_MAX_UNPROVED", 3)
    ahead = [witness(place.log.fork(7, *AHEAD[:number])) for number in range(1, 6)]
    place.look(others=ahead)
    place.now += 300
    assert codes(place.look()) == ["checkpoint-unproved"] * 3


# Tree heads and witnesses


def test_late_and_missing_cosignatures(place: Place) -> None:
    place.log.cosigning = 1
    assert codes(place.look()) == ["witness-late", "quorum"]
    place.log.cosigning = 2
    reader = place.log.reader(now=NOW)
    place.now += 25 * 3600
    assert codes(place.look(reader)) == ["witness-late", "witness-late", "checkpoint-late"]


def test_heads_that_are_none(place: Place) -> None:
    stranger = FilesLog(entries=list(GOOD))
    other = place.log.fork(7)
    other.key = SigningKey.generate("log.example/other")
    for data in (b"x", stranger.checkpoint(now=NOW).encode(), other.checkpoint(now=NOW).encode()):
        report = place.look(Files({**place.log.files(now=NOW), "checkpoint": data}))
        assert codes(report) == ["checkpoint-invalid"]
        assert report.size == 0
    wrong = place.log.checkpoint(now=NOW)
    forged = dataclasses.replace(wrong.signatures[1], signature=bytes(72))
    note = Note(text=wrong.text, signatures=(wrong.signatures[0], forged, wrong.signatures[2]))
    files = {**place.log.files(now=NOW), "checkpoint": note.encode()}
    assert codes(place.look(Files(files))) == ["witness-late"]


def test_a_log_that_is_down_says_nothing_and_another_source_may_be(place: Place) -> None:
    reader = place.log.reader(now=NOW)
    reader.down = True
    with pytest.raises(UnavailableError):
        place.look(reader)
    assert codes(place.look(others=[reader])) == ["source-unreachable"]


# Files


@pytest.mark.parametrize("path", ["tile/entries/000.p/7", "tile/0/000.p/7"])
def test_a_file_that_is_gone_or_wrong(place: Place, path: str) -> None:
    good = place.log.files(now=NOW)
    missing = Files({name: data for name, data in good.items() if name != path})
    assert codes(place.look(missing)) == ["tile-missing"]
    again = Place(place.folder.with_name("again"), place.log)
    for number, data in enumerate((good[path][:-1], bytes(len(good[path])), good[path] + bytes(8192), b"")):
        again.folder = place.folder.with_name(f"again-{number}")
        wrong = again.look(Files({**good, path: data}))
        assert codes(wrong) == ["tile-mismatch"]


def test_what_a_wrong_file_hid_is_found_when_it_is_right(place: Place) -> None:
    good = place.log.files(now=NOW)
    assert place.look(Files({**good, "tile/entries/000.p/7": bytes(7 * 2)})).size == 0
    assert codes(place.look()) == []


def test_a_full_bundle_in_the_place_of_a_partial_one_is_taken(place: Place) -> None:
    files = place.log.files(now=NOW)
    for number in range(tiles.WIDTH):
        place.log.add(HOSTS[0].replace(b"host-orchestrator", b"host-%d" % number))
    later = place.log.files(now=NOW)
    files = {name: data for name, data in files.items() if "entries" not in name}
    assert codes(place.look(Files({**files, "tile/entries/000": later["tile/entries/000"]}))) == []


def test_a_log_that_says_it_is_endless_is_not_followed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "_MAX_NEW", 6)
    with pytest.raises(LimitError):
        place.look()


# Entries


def found_in(place: Place, *entries: bytes, **more: Any) -> list[str]:
    place.log = FilesLog(entries=list(entries))
    return codes(place.look(**more))


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        (b"", "entry-malformed"),
        (b"not json", "entry-malformed"),
        (b'{ "kind":"host"}', "entry-malformed"),
        (b"[]", "entry-malformed"),
        (b'{"kind":5}', "entry-malformed"),
        (b'{"kind":"host"}', "entry-malformed"),
        (PUBLIC.encode().replace(b'"bytes":6', b'"bytes":7'), "entry-malformed"),
        (b'{"kind":"backdoor"}', "entry-kind"),
    ],
)
def test_entries_that_are_not_as_they_must_be(place: Place, entry: bytes, code: str) -> None:
    assert found_in(place, entry) == [code]
    # What is in the log stays in it: it is said again after a restart.
    assert codes(place.look()) == [code]


DIRECTORY: dict[str, Any] = {
    "epoch": 20_000,
    "hosts": [json.loads(HOSTS[0])],
    "issuer": "issuer.example",
    "kind": "directory",
    "log": {"origin": "log.example/test", "quorum": 2},
    "not_after": 1,
    "not_before": 0,
    "ohttp_key_configs": "AAAA",
    "relays": [{"operator": "r", "url": "https://r.example"}],
    "revocations": {"certificates": [], "hosts": [], "releases": []},
    "token_keys": [{"epoch": 20_000, "key": "AAAA", "token_type": 2}],
}
DIRECTORY["hosts"][0].pop("kind")


def test_two_directories_for_one_epoch(place: Place) -> None:
    one, other = (canonical.encode({**DIRECTORY, "issuer": name}) for name in ("a", "b"))
    assert found_in(place, one, canonical.encode({**DIRECTORY, "epoch": 20_001})) == []
    place.folder = place.folder.with_name("two")
    assert found_in(place, one, other) == ["directory-twice"]


def test_a_directory_of_another_log(place: Place) -> None:
    other = canonical.encode({**DIRECTORY, "log": {"origin": "log.example/other", "quorum": 2}})
    assert found_in(place, other) == ["directory-log"]


# Artifacts


def test_public_artifacts_are_fetched_and_compared(place: Place) -> None:
    (first, one), (second, other) = blobs(PROMPTS.values()).items()
    for files, wanted in (
        ({first: one}, ["artifact-missing"]),
        ({}, ["artifact-missing"] * 2),
        ({first: other, second: one}, ["artifact-mismatch"] * 2),
        ({first: one + b"x", second: other}, ["artifact-mismatch"]),
        ({first: one[:-1], second: other}, ["artifact-mismatch"]),
        ({first: one, second: other}, []),
    ):
        report = place.look(artifacts=Files(files))
        assert (codes(report), report.artifacts) == (wanted, int(not wanted))


def test_a_private_artifact_is_listed_by_its_digest_alone(place: Place) -> None:
    private = dataclasses.replace(PUBLIC, tree=None)
    release = dataclasses.replace(WORLD.releases["guard"], artifacts=(PUBLIC.listed(),)).encode()
    assert found_in(place, release, artifacts=Files({})) == ["artifact-unlogged"]
    place.log.add(private.encode())
    assert codes(place.look(artifacts=Files({}))) == []


# Use


def test_releases_in_use_must_be_in_the_log_and_not_expired(place: Place) -> None:
    release = WORLD.releases["guard"]
    for time, wanted in ((NOW, []), (release.expires - 1, []), (release.expires, ["release-expired"])):
        uses = [Use(release=release.encode(), time=time)] * 2
        assert codes(place.look(uses=uses)) == wanted
    other = dataclasses.replace(release, version="0.2.0").encode()
    assert codes(place.look(uses=[Use(release=other, time=NOW)])) == ["release-unlogged"]


# Memory


def test_a_damaged_memory_is_never_taken_for_none(place: Place) -> None:
    place.look()
    state, entries = place.folder / "state.json", place.folder / "entries"
    good, kept = state.read_bytes(), entries.read_bytes()
    for path, data in (
        (state, b"{}"),
        (state, good[:-1]),
        (state, good.replace(b"log.example/test", b"log.example/else")),
        (state, good.replace(b'"unproved":[]', b'"unproved":[["eA==",0]]')),
        (state, good.replace(b'"unproved":[]', b'"unproved":[["?",0]]')),
        (entries, kept[:-1]),
        (entries, kept.replace(b"host-guard", b"host-Guard")),
        (entries, b""),
    ):
        assert data not in {good, kept}
        path.write_bytes(data)
        with pytest.raises(ConfigError):
            place.monitor()
        state.write_bytes(good)
        entries.write_bytes(kept)
    state.unlink()
    with pytest.raises(ConfigError, match="lost"):
        place.monitor()


def test_a_round_that_is_stopped_between_its_two_files_forgets_and_repeats_nothing(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.look()
    place.log.add(HOSTS[0].replace(b"host-orchestrator", b"host-more"))

    def stopped(*_: object) -> None:
        raise StorageError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(monitor_module, "write_whole", stopped)
        with pytest.raises(StorageError):
            place.look()
    assert place.monitor().size == 7
    report = place.look()
    assert (codes(report), report.size, report.new) == ([], 8, 1)


# The page


def test_the_page_is_whole_in_itself_and_escapes_what_it_shows(place: Place) -> None:
    report = dataclasses.replace(place.look(), origin="<script>alert(1)</script>", url='"><img src=x>')
    page = render(report)
    assert "<script" not in page
    assert "<img" not in page
    page = render(place.look())
    for word in ("http://", "src=", "href=", "@import", "url("):
        assert word not in page
    assert "Nothing was found" in page


def test_every_code_has_words_and_stands_in_the_documents() -> None:
    assert all(CODES.values())
    table = "".join(f"| `{code}` | {text} |\n" for code, text in CODES.items())
    assert table in (ROOT / "docs" / "log.md").read_text()
    assert set(SCHEMA["$defs"]["code"]["enum"]) == set(CODES)


def test_a_note_that_the_log_signed_for_something_else_is_no_head(place: Place) -> None:
    note = sign_note("log.example/test\nnot a size\n", [place.log.key])
    report = place.look(Files({"checkpoint": note.encode()}))
    assert codes(report) == ["checkpoint-invalid"]
