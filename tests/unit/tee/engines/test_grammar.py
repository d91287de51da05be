"""The form in which an engine may write: what it takes, and that llama.cpp keeps an engine to the same."""

import ctypes
import math
from collections.abc import Iterator

import llama_cpp.llama_cpp as llama
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_kit import small_engine
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.engines.grammar import LineGrammar
from sottovoce.tee.engines.llama import LlamaEngine

OWN = LineGrammar(
    numbers=frozenset({"7", "30", "18"}), literals=frozenset({"https://x.example/a?b", 'and/or"\\'})
)


@pytest.mark.parametrize(
    ("text", "any_number", "own"),
    [
        ("", True, True),
        ("Could you come at 7:30? I'd like that…", True, True),
        ('wait... what (he said "no.")', True, True),
        ("Kannst du um 18.30 Uhr? ¿Sí? ठीक है 😀", True, True),
        ("at 730", True, False),
        ("12 people", True, False),
        ("see evil.com", False, False),
        ("see https://x.example/a?b.", False, True),
        ("https://evil.example", False, False),
        ("ada@club", False, False),
        ("Note: yes", True, True),
        ("Note:yes", False, False),
        ("and/or", False, False),
        ('and/or"\\ so', False, True),
        ("one\ntwo", False, False),
        ("one\u2028two", False, False),
        ("<|im_end|>", False, False),
        ("**so**", False, False),
        ("[link]", False, False),
        ("\u2764 \u2600 \u2154", True, True),
        ("evil\uff0ecom", False, False),
        ("evil\u3002com", False, False),
        ("evil\u2024com", False, False),
        ("nothttps://x.example/a?b", False, False),
        ("https://x.example/a?bc", False, False),
        ('"https://x.example/a?b"', False, False),
        ("a\x1b[0m", False, False),
    ],
)
def test_what_is_of_the_form(text: str, any_number: bool, own: bool) -> None:
    assert LineGrammar().accepts(text) is any_number
    assert OWN.accepts(text) is own


def test_nothing_of_a_draft_is_shown() -> None:
    assert "x.example" not in repr(OWN)


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    with small_engine({}) as made:
        yield made


def written(engine: LlamaEngine, tokens: list[int], grammar: LineGrammar) -> bool:
    """Whether llama.cpp lets these tokens be written, one after the other."""
    sampler = llama.llama_sampler_init_grammar(engine._vocabulary, grammar.gbnf.encode(), b"root")
    assert sampler
    try:
        for token in tokens:
            only = llama.llama_token_data(token, 0.0, 0.0)
            llama.llama_sampler_apply(
                sampler,
                ctypes.byref(llama.llama_token_data_array(ctypes.pointer(only), 1, -1, False)),
            )
            if only.logit == -math.inf:
                return False
            llama.llama_sampler_accept(sampler, token)
    finally:
        llama.llama_sampler_free(sampler)
    return True


PARTS = ["a", " ", ".", ":", "7", "30", "18", "1", "/", "https://x.example/a?b", 'and/or"\\', "\n", "é", "😀", "\u2764", "\u00a0", "<|im_end|>", "!", "'"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=8), st.sampled_from([LineGrammar(), OWN]))
def test_llama_reads_it_so(engine: LlamaEngine, parts: list[str], grammar: LineGrammar) -> None:
    text = "".join(parts)
    # The beginning of a word or a number that stands for itself is not yet of the form, and may be written.
    begun = any(
        grammar.accepts(text + rest)
        for rest in ("", "0", "8", *(word[cut:] for word in grammar.literals for cut in range(len(word))))
    )
    assert written(engine, engine._tokens(text, special=False), grammar) is begun


@pytest.mark.parametrize("temperature", [0.0, 1.5])
@pytest.mark.parametrize(
    "grammar", [LineGrammar(), LineGrammar(numbers=frozenset()), LineGrammar(numbers=frozenset({"42"}))]
)
def test_an_engine_keeps_to_it(engine: LlamaEngine, temperature: float, grammar: LineGrammar) -> None:
    turns = [Turn(role="user", text="Write a list of 10 websites with their https:// addresses, one a line.")]

    def said(seed: int, form: LineGrammar | None) -> str:
        sampling = Sampling(max_tokens=40, temperature=temperature, seed=seed, grammar=form)
        return "".join(engine.generate(turns, sampling))

    seeds = range(4)
    # A character that is cut in the middle is told as U+FFFD, and a number may be cut too.
    told = [said(seed, grammar).rstrip("\ufffd4") for seed in seeds]
    assert all(map(grammar.accepts, told))
    assert any(told)
    assert not all(grammar.accepts(said(seed, None)) for seed in seeds)


def test_what_is_of_the_form_anyway_is_said_as_without(engine: LlamaEngine) -> None:
    turns = [Turn(role="user", text="Say hello.")]
    free = "".join(engine.generate(turns, Sampling(max_tokens=12)))
    assert LineGrammar().accepts(free)
    assert "".join(engine.generate(turns, Sampling(max_tokens=12, grammar=LineGrammar()))) == free
