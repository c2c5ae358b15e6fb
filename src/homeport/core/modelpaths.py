"""Dotted paths through a model: Python names become stored names, and what is known at the end."""

from __future__ import annotations

import difflib
from hashlib import sha256

from homeport.core.modeltree import FieldInfo, Node
from homeport.core.ownform import Inside, OwnForm
from homeport.errors import UnknownField


class Step:
    """One field on a path: python name, stored name, the type below; None = nobody knows."""

    __slots__ = ("field", "node", "stored")

    def __init__(self, stored: str, node: Node | None, field: FieldInfo | None) -> None:
        self.stored = stored
        self.node = node
        self.field = field


def below(node: Node) -> Node | None:
    """What is known about a member of an object that no class names."""
    if node.value is None and node.own is not None and node.own.opaque:
        return _written_by_others(node.own)
    return node.value


def element_of(node: Node) -> Node | None:
    """What is known about the elements of an array."""
    if node.own is not None and node.own.opaque:
        return node.item or _written_by_others(node.own)
    return None if node.open else node.item


def _written_by_others(own: OwnForm) -> Node:
    inside = Node()
    inside.open = True
    inside.own = Inside(own.where, inside, own.dump, own.load, opaque=True)
    return inside


def resolve(tree: Node | None, path: str, collection: str) -> list[Step]:
    """The steps of a dotted path of Python names; raises ``UnknownField``."""
    steps: list[Step] = []
    node = tree
    for name in path.split("."):
        if node is None:
            steps.append(Step(name, None, None))
            continue
        field = node.fields().get(name)
        if field is not None:
            steps.append(Step(field.stored, field.node, field))
            node = field.node
        elif name in (shape.tag_field for shape in node.shapes):
            steps.append(Step(name, Node(), None))
            node = None
        elif node.open or any(shape.keeps_extra for shape in node.shapes):
            node = below(node)
            steps.append(Step(name, node, None))
        else:
            raise _unknown(tree, path, collection)
    return steps


def resolve_stored(tree: Node | None, path: str) -> list[Step]:
    """The steps of a path of stored names, as a declaration holds it once it is resolved."""
    steps: list[Step] = []
    node = tree
    for name in path.split("."):
        fields = () if node is None else node.fields().values()
        field = next((f for f in fields if f.stored == name), None)
        node = field.node if field is not None else None if node is None else below(node)
        steps.append(Step(name, node, field))
    return steps


def _unknown(tree: Node | None, path: str, collection: str) -> UnknownField:
    known = sorted(set(tree.paths())) if tree is not None else []
    close = difflib.get_close_matches(path, known, 1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    listed = [name for name in known if "." not in name]
    action = "" if close else f"Its fields are: {', '.join(listed[:20])}."
    return UnknownField(
        f"no field {path!r} in {collection}{hint}", action=action, path=path, collection=collection
    )


def fingerprint(tree: Node | None) -> str:
    """Changes when the set of fields that the model knows changes, at any listed depth."""
    if tree is None:
        return "any"
    return sha256("\n".join(sorted(set(tree.paths()))).encode()).hexdigest()[:16]
