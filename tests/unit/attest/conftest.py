"""What attest says in a test is listed in `error-words.txt`, and no test sees what an earlier one had parsed."""

from collections.abc import Iterator

import pytest

from error_words import checked
from forget import forget


@pytest.fixture(autouse=True, scope="session")
def _words() -> Iterator[None]:
    with checked():
        yield


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget()
