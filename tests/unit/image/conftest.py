"""Images for tests have an interpreter that is none, so nothing is compiled but in `test_bytecode`."""

import pytest

from sottovoce.image import build


@pytest.fixture(autouse=True)
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "compiled", dict)
