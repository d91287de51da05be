"""Another implementation in its own process: one JSON object a line in, one out."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


class JavaScript:
    """Runs `script`; skips the test, saying so, where node or one of the `packages` is absent."""

    def __init__(self, script: str, *packages: str) -> None:
        node = shutil.which("node")
        if not node:
            pytest.skip("node is not here")
        if not all((HERE / "node_modules" / package).exists() for package in packages):
            pytest.skip("the npm packages are not here: run `make peers`")
        self._process = subprocess.Popen(
            [node, HERE / script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, action: str, **values: object) -> dict[str, Any]:
        """The result of `action`; bytes travel in hex. A refusal is `{"error": …}`."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin
        assert stdout
        stdin.write(json.dumps({"do": action} | values) + "\n")
        stdin.flush()
        result: dict[str, Any] = json.loads(stdout.readline())
        return result

    def stop(self) -> None:
        self._process.communicate(timeout=10)
