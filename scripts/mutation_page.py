"""Makes docs/mutation.md: what came of changing attest's code in every way that mutmut knows, and why each change that no test saw is harmless.

make mutate                                runs the tests on every changed copy, then this
python scripts/mutation_page.py --write    docs/mutation.md, from the results that are there
python scripts/mutation_page.py --open     the changes that no test saw and nobody has argued, as TOML to fill in

The arguments stand in tests/mutants.toml: `file` below attest, `line` as it is, `changes` it may have, `why` no test could or need see them.
"""

import argparse
import collections
import contextlib
import json
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "mutation.md"
ARGUMENTS: Final = ROOT / "tests" / "mutants.toml"
_BELOW: Final = Path("src/sottovoce/attest")
_FOUND: Final = {
    1: "tests", 3: "tests", 37: "types", -24: "time", 24: "time", 36: "time", 152: "time", 255: "time",
    0: "survived", 33: "survived",
}  # fmt: skip
"""mutmut's exit codes: what noticed the change. 33: no test ran the function."""

HEAD: Final = """# Mutation testing

Made by `make mutate`. [mutmut](https://mutmut.readthedocs.io) changes the code of `attest` in one place at a time (a comparison, a
number, a word, an argument left out) and runs the tests of attest on each changed copy; it takes about an hour on two cores. A change that the strict
type check refuses needs no test. The tests that change every bit of evidence are left out, as they take seconds each; they would
notice more. By itself mutmut changes no function with a decorator; scripts/mutate.py has it change properties and functions whose results are
remembered as well.

What no test noticed is listed below, each with the reason why nothing is lost by it.
"""


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one function: the file below attest, the lines as they were and as they became, white space folded."""

    file: str
    line: str
    became: str


@dataclass(frozen=True, slots=True)
class Argument:
    """Why some changes of a line cannot or need not be noticed."""

    file: str
    line: str
    changes: tuple[str, ...]
    why: str


def arguments() -> tuple[Argument, ...]:
    """What tests/mutants.toml holds."""
    entries = tomllib.loads(ARGUMENTS.read_text())["unnoticed"]
    return tuple(Argument(**{**entry, "changes": tuple(entry["changes"])}) for entry in entries)


def results() -> Iterator[tuple[str, str, Change | None]]:
    """The file, what noticed the change, and the change where nothing did; from mutmut's folder."""
    from mutmut.mutation.data import SourceFileMutationData  # noqa: PLC0415 - not installed with the others
    from mutmut.mutation.diff_apply import get_diff_for_mutant  # noqa: PLC0415

    for meta in sorted((ROOT / "mutants" / _BELOW).rglob("*.meta")):
        path = meta.with_suffix("").relative_to(ROOT / "mutants")
        file = str(path.relative_to(_BELOW))
        data = SourceFileMutationData(path=path)
        data.load()
        for mutant, code in data.exit_code_by_key.items():
            noticed = _FOUND.get(code, "open") if code is not None else "open"
            diff = get_diff_for_mutant(mutant, path=path) if noticed == "survived" else ""
            yield file, noticed, _change(file, diff) if diff else None


def _change(file: str, diff: str) -> Change:
    lines = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
    was, became = (
        " ".join(" ".join(line[1:].split()) for line in lines if line.startswith(sign)) for sign in "-+"
    )
    return Change(file, was, became)


def page(rows: list[tuple[str, str, Change | None]]) -> Iterator[str]:
    """The lines of the page."""
    yield HEAD
    yield "| file | changes | noticed by tests | by types | by a time limit | not noticed | not run yet |"
    yield "|---|---|---|---|---|---|---|"
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for file, noticed, _ in rows:
        for name in (file, "**all**"):
            counts[name][noticed] += 1
    for file, count in sorted(counts.items(), key=lambda item: (item[0] == "**all**", item[0])):
        cells = [count.total(), *(count[one] for one in ("tests", "types", "time", "survived", "open"))]
        yield f"| {file} | " + " | ".join(f"{number:,}" for number in cells) + " |"
    yield "\n## Not noticed\n"
    survived = collections.Counter(change for _, _, change in rows if change)
    for argument in arguments():
        left = [c for c in survived if (c.file, c.line) == (argument.file, argument.line)]
        left = [c for c in left if c.became in argument.changes]
        if left:
            yield f"**{argument.file}**: {argument.why}\n"
            yield f"    - {argument.line}"
            yield from (f"    + {change.became}" for change in left)
            yield ""


def unargued(rows: list[tuple[str, str, Change | None]]) -> Iterator[Change]:
    """The changes that nothing noticed and no argument covers."""
    known = {(one.file, one.line, change) for one in arguments() for change in one.changes}
    for _, _, change in rows:
        if change and (change.file, change.line, change.became) not in known:
            yield change


def form(missing: list[Change]) -> Iterator[str]:
    """Entries for tests/mutants.toml, without their reasons."""
    grouped: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for change in missing:
        grouped[change.file, change.line].append(change.became)
    for (file, line), changes in grouped.items():
        yield f"[[unnoticed]]\nfile = {_quoted(file)}\nline = {_quoted(line)}\nchanges = ["
        yield from (f"    {_quoted(text)}," for text in changes)
        yield ']\nwhy = ""\n'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def main() -> int:
    """Write the page, or print what is not argued; complain of what is not argued or was not run."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true", help="write docs/mutation.md")
    parser.add_argument("--open", action="store_true", help="print what is not argued yet, as TOML")
    wanted = parser.parse_args()
    with contextlib.chdir(ROOT):  # where mutmut expects to be
        rows = list(results())
    missing = list(unargued(rows))
    waiting = sum(noticed == "open" for _, noticed, _ in rows)
    if wanted.open:
        print("\n".join(form(missing)))
    if wanted.write and not missing:
        PAGE.write_text("\n".join(page(rows)).rstrip() + "\n")
    print(f"{len(missing)} changes are not argued, {waiting} were not run", file=sys.stderr)
    return 1 if missing or waiting else 0


if __name__ == "__main__":
    sys.exit(main())
