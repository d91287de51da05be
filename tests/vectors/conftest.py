import pytest

from forget import forget


@pytest.fixture(autouse=True)
def _nothing_kept() -> None:
    forget()
