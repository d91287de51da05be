"""The arguments about changes that no test notices are about the code as it is. Mutation testing itself takes too long for a test."""

from script_kit import ROOT, script


def test_every_argument_is_about_a_line_that_is_there() -> None:
    arguments = script("mutation_page").arguments()
    assert arguments
    for argument in arguments:
        text = " ".join((ROOT / "src" / "sottovoce" / "attest" / argument.file).read_text().split())
        assert argument.line in text, argument.line
        assert argument.changes
        assert argument.why
