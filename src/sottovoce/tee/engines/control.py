"""Control tokens as text: finding out which there are, and keeping a message from being one.

A server renders the chat template and then turns the whole text into tokens with control tokens read: one that stands in a message would end
the message there and begin another party's turn. So whatever reads as one is broken up before it is sent; it stays legible.
"""

import ctypes
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import llama_cpp.llama_cpp as llama

from sottovoce.core.errors import ConfigError

__all__ = ["ControlTokens", "control_tokens"]

_READ: Final = 64 << 20
"""Bytes of a tokenizer's file, at most."""
_PASSES: Final = 8
_MARK: Final = re.compile(r"\s*[<\[{(\uff5c].*[>\]})\uff5c]\s*", re.DOTALL)
# A tokenizer can know tokens that are not in its files' lists; those of the usual shapes are broken up in any case.
_SHAPES: Final = (
    r"<\|[^|<>\n]{1,80}\|>",
    r"<\uff5c[^\uff5c<>\n]{1,80}\uff5c>",
    r"</?s>",
    r"\[/?INST\]",
    r"<</?SYS>>",
)
_NAMED: Final = ("bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token")


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: Any) -> None:
    """What the library says of a file is of no use here."""


class ControlTokens:
    """The control tokens of a vocabulary: text → number, or None where it is not known.

    Raises:
        ConfigError: one of them cannot be told from ordinary text.
    """

    def __init__(self, tokens: Mapping[str, int | None]) -> None:
        if any(len(text.strip()) < 2 for text in tokens):  # noqa: PLR2004 - nothing could be put inside
            raise ConfigError("a control token of the model cannot be told from ordinary text")
        self.tokens: Final = dict(tokens)
        texts = sorted(tokens, key=len, reverse=True)
        # An upper bound of what a tokenizer may match: some ignore case, others normalise the text first.
        self._pattern = re.compile("|".join([*map(re.escape, texts), *_SHAPES]), re.IGNORECASE)

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers that are known."""
        return frozenset(number for number in self.tokens.values() if number is not None)

    def broken(self, text: str) -> str:
        """`text` with a space inside whatever reads as a control token."""
        normal = unicodedata.normalize("NFKC", text)
        if normal != text and self._pattern.search(normal):
            text = normal
        for _ in range(_PASSES):
            text, count = self._pattern.subn(_break, text)
            if not count:
                return text
        # A space made another one each time: no honest text does.
        return "".join(character for character in text if character not in "<>[]{}|\uff5c")


def _break(found: re.Match[str]) -> str:
    text = found[0]
    at = len(text) - len(text.lstrip()) + 1
    return f"{text[:at]} {text[at:]}"


def control_tokens(path: Path) -> ControlTokens:
    """The control tokens of the tokenizer at `path`: a folder of a Hugging Face model, or a GGUF file.

    Raises:
        ConfigError: they cannot be read, or cannot be told from text.
    """
    try:
        if path.is_dir():
            return ControlTokens(dict(_of_folder(path)))
        return ControlTokens(dict(_of_gguf(path)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(
            "the control tokens of the engine's model cannot be read", hint="it needs a tokenizer.json"
        ) from None


def _of_folder(folder: Path) -> Iterator[tuple[str, int | None]]:
    """From tokenizer.json (`added_tokens`), and the names that tokenizer_config.json adds without a number."""
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        document = _json(settings)
        extra = [document.get(name) for name in _NAMED]
        for name in ("additional_special_tokens", "extra_special_tokens"):
            more = document.get(name) or []
            extra += list(more.values()) if isinstance(more, dict) else more
        for one in extra:
            text = one.get("content") if isinstance(one, dict) else one
            if text:
                yield text, None
        for number, token in (document.get("added_tokens_decoder") or {}).items():
            if _is_control(token):
                yield token["content"], int(number)
    for token in _json(folder / "tokenizer.json")["added_tokens"]:
        if _is_control(token):
            yield token["content"], int(token["id"])


def _is_control(token: Mapping[str, Any]) -> bool:
    # Some marks, such as those around a call of a tool, are not called special. Runs of spaces are neither.
    return bool(token.get("special")) or bool(_MARK.fullmatch(token["content"]))


def _json(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(_READ + 1)
    if len(data) > _READ:
        raise ValueError
    return json.loads(data)


def _of_gguf(path: Path) -> Iterator[tuple[str, int | None]]:
    """From the vocabulary of a GGUF file; llama.cpp reads tokens of these kinds out of a text (src/llama-vocab.cpp)."""
    llama.llama_log_set(_silent, ctypes.c_void_p())
    parameters = llama.llama_model_default_params()
    parameters.vocab_only = True
    model = llama.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise ValueError
    try:
        vocabulary = llama.llama_model_get_vocab(model)
        kinds = (
            llama.LLAMA_TOKEN_ATTR_CONTROL
            | llama.LLAMA_TOKEN_ATTR_USER_DEFINED
            | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        for number in range(llama.llama_vocab_n_tokens(vocabulary)):
            attributes = llama.llama_vocab_get_attr(vocabulary, number)
            if attributes & kinds:
                text = llama.llama_vocab_get_text(vocabulary, number).decode("utf-8", "replace")
                if attributes & llama.LLAMA_TOKEN_ATTR_CONTROL or _MARK.fullmatch(text):
                    yield text, number
    finally:
        llama.llama_model_free(model)
