"""The operations of a GraphQL document.

Source: GraphQL specification, October 2021; graphql-core is the reference implementation in Python.
"""

from collections.abc import Iterator

from graphql import GraphQLError, parse
from graphql.language import FieldNode, FragmentDefinitionNode, OperationDefinitionNode, SelectionSetNode

MAX_TOKENS = 20_000  # of one document
MAX_DEPTH = 64  # of a selection; honest ones have less than ten


def named(text: str) -> set[str] | None:
    """Return the kinds of the operations in a document and, behind a dot, what each asks for; None: not known."""
    try:
        return _operations(text)
    except (GraphQLError, RecursionError):
        return None


def _operations(text: str) -> set[str]:
    document = parse(text, no_location=True, max_tokens=MAX_TOKENS)
    parts: dict[str, list[SelectionSetNode]] = {}
    for definition in document.definitions:
        if isinstance(definition, FragmentDefinitionNode):
            parts.setdefault(definition.name.value, []).append(definition.selection_set)
    found: set[str] = set()
    for definition in document.definitions:
        if isinstance(definition, OperationDefinitionNode):
            kind = definition.operation.value
            found |= {kind, *(f"{kind}.{name}" for name in _fields(definition.selection_set, dict(parts), 0))}
    return found


def _fields(selected: SelectionSetNode, parts: dict[str, list[SelectionSetNode]], depth: int) -> Iterator[str]:
    """Yield the names at the root, those of fragments included, each of which is taken out of `parts` and read once."""
    if depth > MAX_DEPTH:
        raise RecursionError
    for selection in selected.selections:
        if isinstance(selection, FieldNode):
            yield selection.name.value
        elif (inner := getattr(selection, "selection_set", None)) is not None:
            yield from _fields(inner, parts, depth + 1)
        else:
            for part in parts.pop(selection.name.value, []):  # type: ignore[attr-defined]
                yield from _fields(part, parts, depth + 1)
