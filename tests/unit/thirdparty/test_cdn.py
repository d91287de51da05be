import asyncio
from pathlib import Path

import pytest

import asgi
from sottovoce.core.errors import ConfigError
from sottovoce.core.events import EventLog
from sottovoce.thirdparty.cdn import Config, create_app

NOTE = b"directory, the same for everybody\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "folder").mkdir(parents=True)
    (public / "folder" / "inner.txt").write_bytes(b"inner")
    (public / "directory.note").write_bytes(NOTE)
    (public / "empty").touch()
    (public / ".hidden").write_bytes(b"hidden")
    (public / "UPPER").write_bytes(b"upper")
    (tmp_path / "secret").write_bytes(b"secret")
    (public / "link").symlink_to(tmp_path / "secret")
    (public / "gone").symlink_to(tmp_path / "nothing")
    return public


def get(folder: Path, path: str, method: str = "GET", **headers: str) -> asgi.Answer:
    app = create_app(Config(folder=str(folder)), log=EventLog(lambda _: None))
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(asgi.fetch(app, method, path, headers=named))


def test_a_file_of_the_folder_is_served_whole(folder: Path) -> None:
    answer = get(folder, "/directory.note")
    assert (answer.status, answer.body) == (200, NOTE)
    assert set(answer.headers) == {"etag", "cache-control", "content-length", "content-type"}
    assert answer.headers["content-length"] == str(len(NOTE))


def test_an_empty_file_is_there(folder: Path) -> None:
    assert get(folder, "/empty").status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/../secret",
        "/..",
        "/./directory.note",
        "//directory.note",
        "/directory.note/",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/folder/../directory.note",
        "/folder/inner.txt",
        "/..\\secret",
        "/directory.note\0",
        "/directory.note\n",
        "directory.note",
        "/.hidden",
        "/UPPER",
        "/" + "a" * 101,
        "/" + "a" * 100,
        "",
    ],
)
def test_no_path_leads_out_of_the_folders_own_files(folder: Path, path: str) -> None:
    answer = get(folder, path)
    assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize("path", ["/", "/folder", "/folder/"])
def test_no_folder_is_listed(folder: Path, path: str) -> None:
    answer = get(folder, path)
    assert (answer.status, answer.body) == (404, b"")


@pytest.mark.parametrize("name", ["link", "gone"])
def test_a_link_is_not_followed(folder: Path, name: str) -> None:
    answer = get(folder, f"/{name}")
    assert (answer.status, answer.body) == (404, b"")


def test_a_file_that_cannot_be_read_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", gone)
    assert get(folder, "/directory.note").status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS"])
def test_files_can_only_be_fetched(folder: Path, method: str) -> None:
    assert get(folder, "/directory.note", method).status == 404
    assert (folder / "directory.note").read_bytes() == NOTE


@pytest.mark.parametrize(
    "headers",
    [
        {"cookie": "id=1"},
        {"user_agent": "one of a kind"},
        {"range": "bytes=0-3"},
        {"range": "bytes=0-3,5-6", "if_range": '"x"'},
        {"accept_encoding": "gzip, br"},
        {"accept": "text/html"},
        {"origin": "https://example.com"},
        {"authorization": "Bearer x"},
        {"if_modified_since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"if_none_match": '"an etag that somebody else was given"'},
        {"if_none_match": "*"},
    ],
)
def test_everybody_gets_the_same_bytes_and_headers_whatever_they_send(
    folder: Path, headers: dict[str, str]
) -> None:
    assert get(folder, "/directory.note", **headers) == get(folder, "/directory.note")


def test_the_query_is_ignored(folder: Path) -> None:
    assert get(folder, "/directory.note?user=1") == get(folder, "/directory.note")


def test_the_etag_is_of_the_content_alone(folder: Path) -> None:
    first = get(folder, "/directory.note").headers["etag"]
    (folder / "copy").write_bytes(NOTE)
    assert get(folder, "/copy").headers["etag"] == first
    (folder / "directory.note").write_bytes(NOTE + b"x")
    assert get(folder, "/directory.note").headers["etag"] != first


def test_whoever_has_the_newest_bytes_is_spared_them(folder: Path) -> None:
    whole = get(folder, "/directory.note")
    spared = get(folder, "/directory.note", if_none_match=whole.headers["etag"])
    assert (spared.status, spared.body) == (304, b"")
    assert spared.headers["etag"] == whole.headers["etag"]
    (folder / "directory.note").write_bytes(NOTE + b"x")
    assert get(folder, "/directory.note", if_none_match=whole.headers["etag"]).status == 200


def test_a_new_file_is_served_at_once(folder: Path) -> None:
    (folder / "directory.note").write_bytes(b"tomorrow's")
    assert get(folder, "/directory.note").body == b"tomorrow's"


def test_health_is_no_file(folder: Path) -> None:
    (folder / "healthz").write_bytes(b"file")
    answer = get(folder, "/healthz")
    assert (answer.status, answer.body) == (204, b"")


def test_a_mirror_needs_its_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for name in ("none", "file"):
        with pytest.raises(ConfigError):
            create_app(Config(folder=str(tmp_path / name)), log=EventLog(lambda _: None))


def test_it_starts_and_stops(folder: Path) -> None:
    asyncio.run(asgi.shutdown(create_app(Config(folder=str(folder)), log=EventLog(lambda _: None))))
