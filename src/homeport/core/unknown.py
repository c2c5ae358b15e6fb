"""R15: a write through a model touches only the fields that the model knows, at every depth.

Newer programs, other languages and plain SQL put fields into documents that this model has never
heard of. Decoding drops them, so a write merges the new text onto the stored one.
"""

from __future__ import annotations

from typing import Any

from homeport.core.models import decode_object, encode_json
from homeport.core.modeltree import FieldInfo, Node, Shape


def merged_text(tree: Node, old_text: str, new_text: str) -> str:
    """The new text, plus what the old one holds outside the model."""
    new = decode_object(new_text)
    merged = _merge(tree, decode_object(old_text), new)
    return new_text if merged is new else encode_json(merged).decode()


def _merge(node: Node | None, old: Any, new: Any) -> Any:
    """``new`` itself when nothing of ``old`` is to be kept."""
    if node is None:
        return new
    if isinstance(new, dict) and isinstance(old, dict):
        shapes = [shape for shape in node.shapes if _fits(shape, old, new)]
        if shapes:
            return _merge_object(shapes, old, new)
        if node.value is not None:
            return _merge_values(node.value, old, new)
    if isinstance(new, list) and isinstance(old, list) and node.item is not None:
        return _merge_list(node.item, old, new)
    return new


def _fits(shape: Shape, old: dict[str, Any], new: dict[str, Any]) -> bool:
    """A tagged class owns only objects with its tag; a changed tag is another thing altogether."""
    if shape.tag_field is None:
        return True
    return old.get(shape.tag_field) == new.get(shape.tag_field) == shape.tag


def _merge_object(shapes: list[Shape], old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    known = {name for shape in shapes for name in shape.stored_names}
    fields: dict[str, FieldInfo] = {
        field.stored: field for shape in shapes for field in shape.fields.values()
    }
    out = new
    if not any(shape.keeps_extra for shape in shapes):
        kept = {name: v for name, v in old.items() if name not in known and name not in new}
        if kept:
            out = {**new, **kept}
    for name, value in new.items():
        if name in old and name in fields and isinstance(value, (dict, list)):
            merged = _merge(fields[name].node, old[name], value)
            if merged is not value:
                out = out if out is not new else dict(new)
                out[name] = merged
    return out


def _merge_values(node: Node, old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Keys of a dict field belong to the program; what is inside their values is merged."""
    merged = {name: _merge(node, old[name], v) if name in old else v for name, v in new.items()}
    return merged if any(merged[name] is not new[name] for name in new) else new


def _merge_list(node: Node, old: list[Any], new: list[Any]) -> list[Any]:
    """Elements with an ``id`` are paired by it; others by position if the length is the same.
    Anything else cannot be paired, and the new list stands."""
    by_id = {item["id"]: item for item in old if _has_id(item)}
    if len(by_id) == len(old) and all(_has_id(item) for item in new):
        pairs = [by_id.get(item["id"]) for item in new]
    elif len(old) == len(new):
        pairs = old
    else:
        return new
    merged = [_merge(node, before, item) for before, item in zip(pairs, new, strict=True)]
    return merged if any(a is not b for a, b in zip(merged, new, strict=True)) else new


def _has_id(item: Any) -> bool:
    return isinstance(item, dict) and isinstance(item.get("id"), (str, int))
