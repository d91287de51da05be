"""Nothing of a session is in the state from which the next one starts, so no time can tell of it."""

import os
from collections.abc import Iterator

import llama_cpp.llama_cpp as llama
import pytest

from model_kit import small_engine
from sottovoce.tee.engines import Sampling, Turn
from sottovoce.tee.engines.llama import LlamaEngine
from sottovoce.tee.predictor import PROMPTS

SECRET = "the eagle lands at noon, tell nobody, and bring the red suitcase"


@pytest.fixture(scope="module")
def engine() -> Iterator[LlamaEngine]:
    with small_engine(PROMPTS) as made:
        yield made


def session(engine: LlamaEngine) -> None:
    for _ in engine.generate([Turn(role="user", text=SECRET)], Sampling(max_tokens=4), prompt="rewrite"):
        pass


def state(engine: LlamaEngine) -> tuple[int, ...]:
    """How many positions each sequence holds: the fixed prompts', and the one that a session works in."""
    sequences = range(len(PROMPTS) + 1)
    return tuple(llama.llama_memory_seq_pos_max(engine._memory, sequence) for sequence in sequences)


def in_a_process_of_its_own(engine: LlamaEngine) -> int:
    """A session as a CVM runs it; its exit status."""
    pid = os.fork()
    if not pid:
        try:
            session(engine)
        except BaseException:  # noqa: BLE001 - the test's own process must not go on as a second one
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_session_leaves_nothing_behind(engine: LlamaEngine) -> None:
    before = state(engine)
    assert in_a_process_of_its_own(engine) == 0
    assert state(engine) == before


def test_sessions_of_one_process_would(engine: LlamaEngine) -> None:
    """The control: a server that serves two sessions in one process keeps the first one's prompt in its cache."""
    before = state(engine)
    session(engine)
    assert state(engine)[-1] > max(before[-1], 0)
    assert state(engine)[:-1] == before[:-1]
