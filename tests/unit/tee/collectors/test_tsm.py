import errno
from pathlib import Path
from typing import Any

import pytest

from collector_kit import PAPERS, ROOT, Entry, FakeTsm, no_papers, papers, table
from sottovoce.attest.evidence import PLATFORMS, Endorsements
from sottovoce.core.errors import DecodeError, UnavailableError, UsageError
from sottovoce.tee.collectors.certificates import ASK, VCEK
from sottovoce.tee.collectors.tsm import KINDS, KernelFiles, TsmCollector, tsm_kind

DATA = bytes(range(64))


def collector(files: FakeTsm, *, kind: str = "sev-snp", **more: Any) -> TsmCollector:
    return TsmCollector(papers, kind=kind, root=ROOT, files=files, sleep=lambda _: None, **more)


def test_a_report_is_over_the_data_and_leaves_no_entry() -> None:
    files = FakeTsm()
    assert collector(files).report(DATA) == b"report " + DATA + b"\0"
    assert files.entries == {}
    assert files.reports == 1


def test_every_report_has_an_entry_of_its_own() -> None:
    files = FakeTsm()
    one = collector(files)
    one.report(DATA)
    one.report(DATA)
    assert len(set(files.names)) == len(files.names) == 2


def test_the_privilege_level_is_written_where_one_is_wanted() -> None:
    assert collector(FakeTsm(floor=2), privlevel=2).report(DATA)[-1] == 2


@pytest.mark.parametrize("floor", [0, 1, 2, 3])
def test_the_level_is_the_guests_own_where_none_is_wanted(floor: int) -> None:
    files = FakeTsm(floor=floor)
    assert collector(files).report(DATA)[-1] == floor
    assert files.reports == 1


def test_a_floor_that_is_no_number() -> None:
    class Odd(FakeTsm):
        def read(self, path: str, limit: int) -> bytes:
            return b"low" if path.endswith("privlevel_floor") else super().read(path, limit)

    with pytest.raises(UnavailableError, match="not one that we know"):
        collector(Odd()).report(DATA)


def test_a_privilege_level_below_the_floor_says_what_to_do() -> None:
    with pytest.raises(UnavailableError, match="EINVAL") as refused:
        collector(FakeTsm(floor=2), privlevel=0).report(DATA)
    assert "privlevel_floor" in refused.value.hint


def overwrite(entry: Entry) -> None:
    entry.inblob = b"somebody else's" * 4
    entry.written += 1


def test_another_writer_between_ours_and_the_report_makes_it_start_anew() -> None:
    files = FakeTsm(interfere=[overwrite, overwrite])
    assert collector(files).report(DATA) == b"report " + DATA + b"\0"
    assert files.reports == 3
    assert files.entries == {}


def test_another_writer_that_never_stops_is_an_error() -> None:
    files = FakeTsm(interfere=[overwrite] * 100)
    with pytest.raises(UnavailableError, match="busy"):
        collector(files).report(DATA)
    assert files.reports < 20
    assert files.entries == {}


def test_a_write_that_got_lost_when_its_file_was_closed_is_noticed() -> None:
    files = FakeTsm(script={"lost privlevel": [1]})
    assert collector(files, privlevel=3).report(DATA)[-1] == 3
    assert files.reports == 2


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EAGAIN, errno.EINTR])
@pytest.mark.parametrize("operation", ["make", "inblob", "outblob", "generation", "provider"])
def test_what_passes_is_tried_again(number: int, operation: str) -> None:
    files = FakeTsm(script={operation: [number, number]})
    assert collector(files).report(DATA) == b"report " + DATA + b"\0"
    assert files.entries == {}


def test_a_name_that_is_taken_is_replaced_by_another() -> None:
    files = FakeTsm(script={"make": [errno.EEXIST]})
    assert collector(files).report(DATA)


def test_what_does_not_pass_is_an_error_after_a_while() -> None:
    pauses: list[float] = []
    files = FakeTsm(script={"outblob": [errno.EBUSY] * 100})
    stubborn = TsmCollector(papers, kind="sev-snp", root=ROOT, files=files, sleep=pauses.append)
    with pytest.raises(UnavailableError, match="busy"):
        stubborn.report(DATA)
    assert 0 < sum(pauses) < 1


@pytest.mark.parametrize(
    ("operation", "number", "hint"),
    [
        ("make", errno.ENXIO, "sev-guest or tdx-guest"),
        ("make", errno.ENOENT, "module tsm"),
        ("make", errno.EACCES, "root"),
        ("outblob", errno.ENXIO, "sev-guest or tdx-guest"),
        ("outblob", errno.EINVAL, "privlevel_floor"),
        ("outblob", errno.ENOTTY, "start the CVM again"),
        ("outblob", errno.EFBIG, "newer kernel"),
        ("outblob", errno.EIO, "16 KiB"),
        ("outblob", errno.ETIMEDOUT, "throttles"),
        ("outblob", errno.ENOMEM, ""),
    ],
)
def test_what_is_final_says_what_to_do(operation: str, number: int, hint: str) -> None:
    files = FakeTsm(script={operation: [number]})
    with pytest.raises(UnavailableError, match=errno.errorcode[number]) as refused:
        collector(files).report(DATA)
    assert hint in refused.value.hint
    assert refused.value.party == "processor"
    assert files.entries == {}


def test_an_entry_that_cannot_be_removed_stops_nothing() -> None:
    assert collector(FakeTsm(script={"remove": [errno.EBUSY]})).report(DATA)


@pytest.mark.parametrize("length", [0, 63, 65])
def test_report_data_of_another_length_is_a_mistake_of_ours(length: int) -> None:
    with pytest.raises(UsageError):
        collector(FakeTsm()).report(bytes(length))


@pytest.mark.parametrize("text", ["", "-1", "x", "1 2", "\xb2"])
def test_a_generation_that_is_no_number(text: str) -> None:
    class Odd(FakeTsm):
        def read(self, path: str, limit: int) -> bytes:
            return text.encode() if path.endswith("generation") else super().read(path, limit)

    with pytest.raises(UnavailableError):
        collector(Odd()).report(DATA)


def test_an_empty_report_and_a_provider_that_changed_are_refused() -> None:
    with pytest.raises(UnavailableError):
        collector(FakeTsm(sign=lambda *_: b"")).report(DATA)
    with pytest.raises(UnavailableError, match="another"):
        collector(FakeTsm(provider="tdx_guest")).report(DATA)


def test_certificates_come_with_a_report_and_the_rest_from_the_host() -> None:
    files = FakeTsm(aux=table((VCEK, b"vcek"), (ASK, b"ask")))
    bundle = collector(files).bundle()
    assert bundle.endorsements == Endorsements(vcek=b"vcek", ask=b"ask", crl=b"crl")
    assert bundle.release == PAPERS.release


@pytest.mark.parametrize("aux", [None, b"", bytes(4096)])
def test_without_certificates_all_papers_are_the_hosts(aux: bytes | None) -> None:
    assert collector(FakeTsm(aux=aux)).bundle() == PAPERS


def test_malformed_certificates_and_missing_papers() -> None:
    with pytest.raises(DecodeError):
        collector(FakeTsm(aux=b"nonsense")).bundle()
    with pytest.raises(UnavailableError):
        TsmCollector(no_papers, kind="sev-snp", root=ROOT, files=FakeTsm()).bundle()


def test_tdx_has_no_certificate_table_and_no_privilege_level() -> None:
    files = FakeTsm(provider="tdx_guest", aux=None)
    quote = collector(files, kind="tdx")
    assert (quote.kind, quote.bundle()) == ("tdx", PAPERS)
    assert quote.report(DATA)


def test_the_kind_follows_from_the_provider() -> None:
    assert set(KINDS.values()) < set(PLATFORMS)
    for provider, kind in KINDS.items():
        files = FakeTsm(provider=provider)
        assert tsm_kind(root=ROOT, files=files) == kind
        assert files.entries == {}
    assert tsm_kind(root=ROOT, files=FakeTsm(provider=None)) is None
    assert tsm_kind(root=ROOT, files=FakeTsm(script={"make": [errno.EACCES]})) is None
    with pytest.raises(UnavailableError):
        tsm_kind(root=ROOT, files=FakeTsm(provider="arm_cca_guest"))


def test_the_real_file_operations(tmp_path: Path) -> None:
    files, entry = KernelFiles(), tmp_path / "entry"
    files.make(str(entry))
    with pytest.raises(FileExistsError):
        files.make(str(entry))
    (entry / "inblob").touch()
    files.write(str(entry / "inblob"), DATA)
    assert files.read(str(entry / "inblob"), 64) == DATA
    with pytest.raises(OSError, match="too large") as big:
        files.read(str(entry / "inblob"), 63)
    assert big.value.errno == errno.EFBIG
    with pytest.raises(FileNotFoundError):
        files.write(str(entry / "none"), DATA)  # an attribute that the kernel does not show is not made
    (entry / "inblob").unlink()
    files.remove(str(entry))
    assert not entry.exists()


def test_the_whole_way_through_real_files(tmp_path: Path) -> None:
    class Plain(KernelFiles):
        """Attributes appear with their entry and go with it; the rest is the real thing."""

        def make(self, path: str) -> None:
            super().make(path)
            for name, value in {"generation": b"0\n", "provider": b"sev_guest\n", "inblob": b""}.items():
                Path(path, name).write_bytes(value)

        def write(self, path: str, data: bytes) -> None:
            super().write(path, data)
            folder = Path(path).parent
            (folder / "generation").write_bytes(b"1\n")
            (folder / "outblob").write_bytes(b"over " + (folder / "inblob").read_bytes())

        def remove(self, path: str) -> None:
            for attribute in Path(path).iterdir():
                attribute.unlink()
            super().remove(path)

    files = Plain()
    assert tsm_kind(root=str(tmp_path), files=files) == "sev-snp"
    assert (
        TsmCollector(papers, kind="sev-snp", root=str(tmp_path), files=files).report(DATA) == b"over " + DATA
    )
    assert list(tmp_path.iterdir()) == []


def test_this_machine_or_a_folder_without_the_interface(tmp_path: Path) -> None:
    assert tsm_kind(root=str(tmp_path / "none")) is None
    assert tsm_kind(root=str(tmp_path)) is None
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnavailableError, match="ENOENT"):
        TsmCollector(papers, kind="sev-snp", root=str(tmp_path / "none")).report(DATA)
