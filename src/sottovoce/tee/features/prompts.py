"""The fixed prompts as an artifact: what the model is told is in the log, and the CVM starts with nothing else.

A folder with one file a prompt, `<name>.json`: canonical JSON, {"examples": [[user, model], …], "system": "…"}.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from sottovoce.core import canonical
from sottovoce.tee.engines import Prompt
from sottovoce.tee.features import headline, rewrite
from sottovoce.tee.settings import ArtifactMismatchError
from sottovoce.tlog.artifacts import File, Tree

__all__ = ["NAME", "PROMPTS", "PURPOSE", "check_prompts", "prompt_files", "prompts_digest"]

NAME, PURPOSE = "prompts", "prompts"
PROMPTS: Final = {"headline": headline.PROMPT, "rewrite": rewrite.PROMPT}


def prompt_files(prompts: Mapping[str, Prompt] = PROMPTS) -> dict[str, bytes]:
    """The artifact's files by path."""
    return {
        f"{name}.json": canonical.encode({"system": prompt.system, "examples": prompt.examples})
        for name, prompt in prompts.items()
    }


def prompts_digest(prompts: Mapping[str, Prompt] = PROMPTS) -> str:
    """The artifact's digest, hex."""
    files = prompt_files(prompts).items()
    tree = Tree.of(
        File(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in files
    )
    return tree.digest(name=NAME, purpose=PURPOSE)


def check_prompts(wanted: str | None, found: Mapping[str, Prompt] = PROMPTS) -> None:
    """Compare the prompts of this code with the digest in the measured settings.

    Raises:
        ArtifactMismatchError: they are others, or the settings name none.
    """
    if wanted != prompts_digest(found):
        raise ArtifactMismatchError("the prompts are not those in the settings")
