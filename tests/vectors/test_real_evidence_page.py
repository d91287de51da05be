"""The page about real evidence is the one that the tables here make."""

from script_kit import ROOT, script


def test_the_page_is_current() -> None:
    page = (ROOT / "docs" / "real-evidence.md").read_text()
    assert page == "\n".join(script("real_evidence").page()).rstrip() + "\n"
