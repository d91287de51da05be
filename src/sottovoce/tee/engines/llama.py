"""The embedded engine: llama.cpp on a CPU.

The parent loads the weights and evaluates each fixed prompt once into a sequence of its own; a session's process, made by fork,
inherits both and continues from a copy. Nothing of a session is ever written back, and no two sessions share a cache.
"""

import codecs
import ctypes
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import llama_cpp.llama_cpp as llama

from sottovoce.core.errors import ConfigError, LimitError
from sottovoce.tee.engines import EngineError, Prompt, Sampling, Turn

__all__ = ["LlamaEngine"]

_CONTEXT: Final = 4096
_BATCH: Final = 512
_MICRO_BATCH: Final = (
    128  # a larger one reads prompts faster, and costs each forked process more private memory
)
_PIECE: Final = 256
# ChatML, the template of the packaged models. Only these strings are read with control tokens on.
_START: Final = "<|im_start|>"
_END: Final = "<|im_end|>\n"


@llama.llama_log_callback  # type: ignore[untyped-decorator]
def _silent(_level: int, _text: bytes, _data: Any) -> None:
    """The library's own log could hold prompts; nothing of it is kept."""


class LlamaEngine:
    """A model and its fixed prompts.

    `prompts` maps names to fixed prompts; `fd` is the model's file, already checked.

    Raises:
        ConfigError: the file is no model that the library can load, or a prompt is too long.
    """

    def __init__(self, fd: int, *, name: str, threads: int, prompts: Mapping[str, Prompt]) -> None:
        llama.llama_log_set(_silent, ctypes.c_void_p())
        llama.llama_backend_init()
        parameters = llama.llama_model_default_params()
        parameters.use_mmap = True
        # Weights in another order would be a copy that takes a second to make, and on some processors an instruction that is not there.
        parameters.use_extra_bufts = False
        path = f"/proc/self/fd/{fd}".encode()
        self._model = llama.llama_model_load_from_file(path, parameters)
        if not self._model:
            raise ConfigError("the model cannot be loaded")
        self._vocabulary = llama.llama_model_get_vocab(self._model)
        self._context = self._new_context(threads, len(prompts))
        self._memory = llama.llama_get_memory(self._context)
        self._work = len(prompts)
        self._lengths: dict[str, tuple[int, int]] = {}
        self._marks: dict[str, list[int]] = {}
        self.name: Final = name
        for sequence, (prompt, fixed) in enumerate(prompts.items()):
            tokens = self._render(_turns(fixed))
            self._evaluate(tokens, start=0, sequence=sequence)
            self._lengths[prompt] = (sequence, len(tokens))

    def _new_context(self, threads: int, prompts: int) -> Any:
        parameters = llama.llama_context_default_params()
        parameters.n_ctx = _CONTEXT
        parameters.n_batch = _BATCH
        parameters.n_ubatch = _MICRO_BATCH
        parameters.n_seq_max = prompts + 1
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        parameters.kv_unified = True
        parameters.no_perf = True
        context = llama.llama_init_from_model(self._model, parameters)
        if not context:
            raise ConfigError("the model's context cannot be made")
        return context

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        buffer = (llama.llama_token * room)()
        count = llama.llama_tokenize(self._vocabulary, data, len(data), buffer, room, False, special)  # noqa: FBT003
        if count < 0:
            raise LimitError("the text is longer than the model takes")
        return list(buffer[:count])

    def _data(self, text: str) -> list[int]:
        """The tokens of somebody's text; a control token among them would be a hole, so it is looked for."""
        tokens = self._tokens(text, special=False)
        control = llama.LLAMA_TOKEN_ATTR_CONTROL
        return [t for t in tokens if not llama.llama_vocab_get_attr(self._vocabulary, t) & control]

    def _evaluate(self, tokens: list[int], *, start: int, sequence: int) -> None:
        batch = llama.llama_batch_init(_BATCH, 0, 1)
        try:
            for at in range(0, len(tokens), _BATCH):
                piece = tokens[at : at + _BATCH]
                batch.n_tokens = len(piece)
                for index, token in enumerate(piece):
                    batch.token[index] = token
                    batch.pos[index] = start + at + index
                    batch.n_seq_id[index] = 1
                    batch.seq_id[index][0] = sequence
                    batch.logits[index] = at + index == len(tokens) - 1
                if llama.llama_decode(self._context, batch) != 0:
                    raise EngineError("the engine could not evaluate the prompt")
        finally:
            llama.llama_batch_free(batch)

    def _mark(self, text: str) -> list[int]:
        """The tokens of a part of the template."""
        if text not in self._marks:
            self._marks[text] = self._tokens(text, special=True)
        return self._marks[text]

    def _render(self, turns: Sequence[Turn]) -> list[int]:
        rendered: list[int] = []
        for turn in turns:
            rendered += self._mark(f"{_START}{turn.role}\n") + self._data(turn.text) + self._mark(_END)
        return rendered

    def count(self, turns: Sequence[Turn]) -> int:
        """See `Engine.count`."""
        return len(self._render(turns)) + len(self._mark(f"{_START}assistant\n"))

    def generate(
        self, turns: Sequence[Turn], sampling: Sampling, *, prompt: str = "", opening: str = ""
    ) -> Iterator[str]:
        """See `Engine.generate`.

        Raises:
            LimitError: the text is longer than the model takes.
            EngineError: the engine failed.
        """
        sequence, length = self._lengths.get(prompt, (self._work, 0))
        tokens = [*self._render(turns), *self._mark(f"{_START}assistant\n"), *self._data(opening)]
        fixed = sum(size for _, size in self._lengths.values())
        if fixed + len(tokens) + sampling.max_tokens > _CONTEXT:
            raise LimitError("the text is longer than the model takes")
        llama.llama_memory_seq_rm(self._memory, self._work, -1, -1)
        if length:
            llama.llama_memory_seq_cp(self._memory, sequence, self._work, 0, length)
        choice = _Choice(self._context, self._vocabulary, sampling)
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        try:
            self._evaluate(tokens, start=length, sequence=self._work)
            position = length + len(tokens)
            yield from filter(None, [opening])
            for _ in range(sampling.max_tokens):
                token = choice.next()
                if llama.llama_vocab_is_eog(self._vocabulary, token):
                    return
                yield decoder.decode(self._piece(token))
                self._evaluate([token], start=position, sequence=self._work)
                position += 1
        finally:
            choice.close()

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(_PIECE)
        count = llama.llama_token_to_piece(self._vocabulary, token, buffer, _PIECE, 0, False)  # noqa: FBT003
        return buffer.raw[: max(0, count)]


def _turns(prompt: Prompt) -> list[Turn]:
    turns = [Turn(role="system", text=prompt.system)]
    for user, answer in prompt.examples:
        turns += [Turn(role="user", text=user), Turn(role="assistant", text=answer)]
    return turns


class _Choice:
    """Chooses the next token.

    A grammar looks only at the token that was chosen without it, and at all of them where that one is refused: most of the time one token is looked at instead of
    the whole vocabulary. At temperature 0 what is of the form is so chosen as without a grammar.
    """

    def __init__(self, context: Any, vocabulary: Any, sampling: Sampling) -> None:
        self._context = context
        self._free = _chain(sampling)
        self._grammar: Any = None
        self._strict: Any = None
        if sampling.grammar is None:
            return
        # What it cannot read it prints, with the text: a session's process has nowhere to print to.
        text = sampling.grammar.gbnf.encode("utf-8", "replace")
        self._grammar = llama.llama_sampler_init_grammar(vocabulary, text, b"root")
        if not self._grammar:
            self.close()
            raise EngineError("the engine does not take the grammar")
        self._strict = _chain(sampling, self._grammar)

    def next(self) -> int:
        """The token, which is then part of the text."""
        token = int(llama.llama_sampler_sample(self._free, self._context, -1))
        if self._strict is None:
            return token
        if self._is_allowed(token):
            llama.llama_sampler_accept(self._grammar, token)
            return token
        return int(llama.llama_sampler_sample(self._strict, self._context, -1))

    def _is_allowed(self, token: int) -> bool:
        only = llama.llama_token_data(token, 0.0, 0.0)
        candidates = llama.llama_token_data_array(ctypes.pointer(only), 1, -1, False)  # noqa: FBT003
        llama.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        return bool(only.logit > -math.inf)

    def close(self) -> None:
        """Free what the library holds."""
        for chain in (self._free, self._strict):
            if chain:
                llama.llama_sampler_free(chain)  # and what is in it


def _chain(sampling: Sampling, first: Any = None) -> Any:
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    if first is not None:
        llama.llama_sampler_chain_add(chain, first)
    if sampling.temperature <= 0:
        llama.llama_sampler_chain_add(chain, llama.llama_sampler_init_greedy())
        return chain
    for step in (
        llama.llama_sampler_init_top_k(40),
        llama.llama_sampler_init_top_p(sampling.top_p, 1),
        llama.llama_sampler_init_temp(sampling.temperature),
        llama.llama_sampler_init_dist(sampling.seed),
    ):
        llama.llama_sampler_chain_add(chain, step)
    return chain
