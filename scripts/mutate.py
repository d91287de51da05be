"""mutmut, which leaves functions with a decorator alone, made to change properties and functions whose results are remembered too.

Of these, in attest, hang whether a signature counts as verified and a verdict as accepted. What mutmut makes of a function (copies with one
change each, and one in its place that calls the chosen copy) is made without the decorators; the one in its place then gets them back.
Arguments are mutmut's own: `scripts/mutate.py run`, `scripts/mutate.py run "sottovoce.attest.verdict*"`.
"""

import sys
from collections.abc import Iterable
from typing import Any, Final
from unittest.mock import patch

import libcst as cst
import libcst.matchers as m
from mutmut.__main__ import cli
from mutmut.mutation import file_mutation

_ALLOWED: Final = m.Decorator(
    m.OneOf(
        m.Name("property"),
        m.Attribute(m.Name("functools"), m.Name("cache")),
        m.Call(m.Attribute(m.Name("functools"), m.Name("lru_cache"))),
    )
)
_skips = file_mutation.MutationVisitor._skip_node_and_children  # noqa: SLF001 - no other way in
_arranges = file_mutation.function_trampoline_arrangement


def _skip(self: Any, node: cst.CSTNode) -> bool:
    if isinstance(node, cst.FunctionDef) and all(m.matches(one, _ALLOWED) for one in node.decorators):
        node = node.with_changes(decorators=())
    return bool(_skips(self, node))


def _arrange(function: cst.FunctionDef, mutants: Iterable[Any], class_name: str | None) -> Any:
    if not all(m.matches(one, _ALLOWED) for one in function.decorators):
        return _arranges(function, mutants, class_name)
    plain = function.with_changes(decorators=())
    declared, methods, assigned, names = _arranges(plain, mutants, class_name)
    chooser: Any = methods[0]
    chooser = chooser.with_changes(decorators=(*function.decorators, *chooser.decorators))
    return declared, [chooser, *methods[1:]], assigned, names


if __name__ == "__main__":
    with (
        patch.object(file_mutation.MutationVisitor, "_skip_node_and_children", _skip),
        patch.object(file_mutation, "function_trampoline_arrangement", _arrange),
    ):
        sys.exit(cli())
