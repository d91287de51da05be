"""The list of all log events: complete, and as the declarations are."""

from script_kit import DOCS, ROOT, script


def test_the_page_is_current() -> None:
    assert (DOCS / "log-events.md").read_text() == "\n".join(script("event_list").page()).rstrip() + "\n"


def test_no_event_is_missing() -> None:
    declared = sum(
        path.read_text().count("\n@event\n") for path in (ROOT / "src" / "sottovoce").rglob("*.py")
    )
    assert len(script("event_list").events()) == declared > 10
