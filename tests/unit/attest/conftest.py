"""Every error that attest makes in a test says, word for word, what is listed in `error-words.txt`."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from error_words import listed
from sottovoce.core.errors import SottovoceError, VerificationError


@pytest.fixture(autouse=True, scope="session")
def _words() -> Iterator[None]:
    made = SottovoceError.__init__

    def checked(self: SottovoceError, message: str, **rest: Any) -> None:
        maker = sys._getframe(1).f_globals["__name__"]
        if maker.startswith("sottovoce.attest.") and not isinstance(self, VerificationError):
            assert listed().fullmatch(message), f"not in tests/error-words.txt: {message}"
        made(self, message, **rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SottovoceError, "__init__", checked)
        yield
