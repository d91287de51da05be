"""python -m evaluation check: whether the set is of its form, and how much of what is in it."""

import sys
from collections import Counter
from pathlib import Path

import click

from evaluation.dataset import DATA, DataError, load_attacks, load_chats, load_drafts


@click.group()
def main() -> None:
    """How good the answers are, and what an attacker can do to them."""


@main.command()
def check() -> None:
    """Read the whole set; say what is in it."""
    try:
        chats, drafts, attacks = (
            [*load_chats(DATA / "chats" / "dev"), *load_chats()],
            load_drafts(),
            load_attacks(),
        )
        harmless = load_chats(DATA / "attacks" / "harmless")
    except DataError as error:
        sys.exit(f"evaluation: {error}")
    sizes = sorted(len(chat.lines) for chat in chats)
    for name, found in (
        ("chats", Counter(chat.language for chat in chats)),
        ("harmless chats about machines", Counter(chat.language for chat in harmless)),
        ("drafts", Counter(draft.style for draft in drafts)),
        ("attacks", Counter(attack.kind for attack in attacks)),
    ):
        parts = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
        click.echo(f"{sum(found.values())} {name}: {parts}")
    click.echo(f"messages in a chat: {sizes}")
    click.echo(
        f"{sum(len(chat.facts) for chat in chats)} facts, {sum(len(chat.wrong) for chat in chats)} wrong statements"
    )


@main.command()
def fit() -> None:
    """Fit the weights of the ranking of messages to the chats in `dev`."""
    from evaluation.fit import write

    write()


@main.command()
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(["summaries", "harmless", "drafts", "answers", "public", "attacks", "plain"]),
)
@click.option("--threads", default=2, show_default=True, help="As many cores as nobody else uses.")
@click.option(
    "--said",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    help="Where what the model says is kept; a new file has it say everything anew, in an hour or more.",
)
def run(only: tuple[str, ...], threads: int, said: Path | None) -> None:
    """Run the evaluation with the default model; what it has said before is not computed again."""
    from evaluation.engine import CACHE, NoModelError
    from evaluation.run import run as run_parts

    try:
        run_parts(only, threads=threads, said=said or CACHE)
    except NoModelError as error:
        sys.exit(f"evaluation: {error}")


@main.command()
def page() -> None:
    """Write docs/quality.md and docs/answers.md from the results."""
    from evaluation.page import ANSWERS, PAGE, answers_page
    from evaluation.page import page as made

    PAGE.write_text(made())
    if answers := answers_page():
        ANSWERS.write_text(answers)


if __name__ == "__main__":
    main()
