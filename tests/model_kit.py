"""The small model, where it is here."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from sottovoce.cli.model import default_folder
from sottovoce.simulator.models import SMALL
from sottovoce.tee.engines import Prompt
from sottovoce.tee.engines.llama import LlamaEngine

__all__ = ["small_engine", "small_model"]


def small_model() -> Path:
    """Its file; the test is skipped, and says so, where it was not fetched (`make test` does)."""
    path = default_folder() / SMALL.file
    if not path.exists():
        pytest.skip("the small model is not here: sottovoce model fetch --small")
    return path


@contextlib.contextmanager
def small_engine(prompts: Mapping[str, Prompt]) -> Iterator[LlamaEngine]:
    """An engine with it, on one thread."""
    fd = os.open(small_model(), os.O_RDONLY)
    try:
        yield LlamaEngine(fd, name=SMALL.name, threads=1, prompts=prompts)
    finally:
        os.close(fd)
