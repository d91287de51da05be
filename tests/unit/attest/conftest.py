"""Every error that attest makes in a test says, word for word, what is listed in `error-words.txt`."""

import sys
from collections.abc import Iterator

import pytest

from error_words import line, listed
from forget import forget
from sottovoce.core.errors import SottovoceError, VerificationError


@pytest.fixture(autouse=True, scope="session")
def _words() -> Iterator[None]:
    made = SottovoceError.__init__

    def checked(self: SottovoceError, message: str, *, hint: str = "") -> None:
        maker = sys._getframe(2 if isinstance(self, VerificationError) else 1).f_globals["__name__"]
        if maker.startswith("sottovoce.attest."):
            words = line(message, hint)
            assert listed().fullmatch(words), f"not in tests/error-words.txt: {words}"
        made(self, message, hint=hint)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SottovoceError, "__init__", checked)
        yield


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget()
