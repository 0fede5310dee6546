"""The operations of a GraphQL document.

Source: GraphQL specification, October 2021; graphql-core is the reference implementation in Python.
"""

from collections.abc import Iterator

from graphql import GraphQLError, parse
from graphql.language import (
    DocumentNode,
    FieldNode,
    FragmentDefinitionNode,
    OperationDefinitionNode,
    SelectionSetNode,
)

from appliance.facts.http.found import UNKNOWN, Found

MAX_TOKENS = 20_000  # of one document
MAX_DEPTH = 64  # of a selection; honest ones have less than ten
TOO_MUCH = Found(whole=False, renamed=UNKNOWN)
NO_GRAPHQL = Found(whole=False)


def named(text: str) -> Found:
    """Return the kinds of the operations in a document and, behind a dot, what each asks for.

    What is no GraphQL at all (other languages have braces too) renames nothing.
    """
    try:
        document = parse(text, no_location=True, max_tokens=MAX_TOKENS)
        return Found(frozenset(_operations(document)), renamed=frozenset(_renamed(document)))
    except RecursionError:
        return TOO_MUCH
    except GraphQLError:
        small = len(text) <= MAX_TOKENS and sum(map(text.count, "{[(")) <= MAX_DEPTH
        return NO_GRAPHQL if small else TOO_MUCH  # which is an error of the same kind


def _operations(document: DocumentNode) -> set[str]:
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


def _renamed(document: DocumentNode) -> Iterator[str]:
    """Yield each alias, wherever it stands, with the field it is for."""
    left = [
        d.selection_set for d in document.definitions if isinstance(d, OperationDefinitionNode | FragmentDefinitionNode)
    ]
    while left:
        for selection in left.pop().selections:
            if isinstance(selection, FieldNode) and selection.alias is not None:
                yield f"{selection.alias.value}={selection.name.value}"
            if (inner := getattr(selection, "selection_set", None)) is not None:
                left.append(inner)
