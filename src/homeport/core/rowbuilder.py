"""The function that turns a document into a row, generated for each collection.

A loop over fields with one lookup each costs several times as much as straight code, so the code is
written out and compiled once. Only names proved to be identifiers enter the source; every other
path goes through a closure.

The generated function trusts nothing. A plain dict is walked (``all_json``); the text of a model is
read back and must equal the document, which proves in C that every value has the declared type.
Whatever looks suspicious goes to ``inspect``, which is exact: it raises the error that names the
path, or accepts.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from types import CodeType
from typing import Any, Final

from homeport.core.keys import MAX_SAFE_INT, Encoded, encode, encode_key
from homeport.core.modelpaths import Step
from homeport.core.models import Model, decode_object
from homeport.core.modeltree import Node
from homeport.core.paths import get_path
from homeport.core.plain import all_json, builtins, instant
from homeport.errors import InvalidKey

Reader = Callable[[Any], Any]

_DIRECT: Final = frozenset(("null", "bool", "int", "float", "str"))
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_MARKS: Final = bytes(set(range(256)) - set(b'":.\\'))


def long_digits(raw: bytes) -> bool:
    """Does the text hold sixteen digits in a row? Only then can an integer pass 2**53."""
    return b"0000000000000000" in raw.translate(_DIGITS)


def odd_names(raw: bytes) -> bool:
    """May a field name of this text hold a dot? Never false when one does.

    Of the text only quotes, colons, dots and backslashes are kept. A name ends in ``":`` and, if
    it held a dot, one of the four kept characters stands right before that; a name without any is
    preceded by the quote that opens it, and that one by nothing that looks like it.
    """
    marks = raw.translate(None, _MARKS)
    return b'.":' in marks or b':":' in marks or b'\\":' in marks or b'\\"":' in marks


def index_value(value: Any, path: str) -> Any:
    """The JSON form of a Python value in an index. A time without a zone is no point in time."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidKey(
                f"{path} is indexed and holds a time without a time zone, which has no place "
                "among points in time.",
                action="Give it a zone, for example datetime.now(timezone.utc).",
                path=path,
            )
        return instant(value)
    return builtins(value)


def reader(model: Model[Any], steps: list[Step]) -> Reader:
    """A function that gives the JSON value at a path of a document, None when there is none."""
    names = tuple(step.field.name if step.field else step.stored for step in steps)
    path = ".".join(step.stored for step in steps)
    get = model.get
    direct = model.tree is None or _is_direct(steps[-1].node)
    if written_by_class(steps):
        return lambda doc: get_path(model.plain(doc), path, None)

    def read(doc: Any) -> Any:
        for name in names:
            if doc is None:
                return None
            doc = get(doc, name)
        return doc if direct or doc is None else index_value(doc, path)

    return read


def written_by_class(steps: list[Step]) -> bool:
    """Is the stored form on this path known only to the document's class?"""
    forms = [None if step.node is None else step.node.own for step in steps]
    return forms[-1] is not None or any(form is not None and form.opaque for form in forms)


def _is_direct(node: Node | None) -> bool:
    """Are the Python values of this type already those of JSON?"""
    return (
        node is not None
        and node.kinds <= _DIRECT
        and not (node.open or node.shapes or node.item or node.value)
    )


@lru_cache(64)
def _compiled(source: str) -> CodeType:
    """Databases are opened again with the same declarations; in a browser this is a third of it."""
    return compile(source, "<row>", "exec")


def build_row(
    model: Model[Any], paths: list[list[Step]], inspect: Callable[[Any], None]
) -> Callable[[Any], tuple[Any, ...]]:
    """The row function of a collection: document → (key, text, index column, ...).

    ``inspect`` raises the exact error of a bad document, or returns when it is good after all.
    """
    scope: dict[str, Any] = {
        "encode": model.encode,
        "enc": encode,
        "enc_key": encode_key,
        "inspect": inspect,
        "read_back": model.decode,
        "all_json": all_json,
        "key_of": model.key_of,
        "long_digits": long_digits,
        "odd_names": odd_names,
        "known": set[str](),
        "cls": model.cls,
    }
    lines = [
        "def row(d):",
        "    try:",
        "        raw = encode(d)",
        "        text = raw.decode()",
        f"        good = {_checks(model)}",
        "    except Exception:",  # whatever went wrong, inspect says it in our words
        "        inspect(d)",
        "        raise",
        "    if not good:",
        "        inspect(d)",
    ]
    lines += ["    " + line for line in _key_lines(model)]
    for number, steps in enumerate(paths):
        lines += ["    " + line for line in _column_lines(model, steps, number, scope)]
    columns = "".join(f", k{n}" for n in range(len(paths)))
    lines.append(f"    return (key, text{columns})")
    exec(_compiled("\n".join(lines)), scope)  # noqa: S102  only identifiers were written into it
    built: Callable[[Any], tuple[Any, ...]] = scope["row"]
    return built


def _checks(model: Model[Any]) -> str:
    """The cheap tests. NUL is looked for in the text, where the usual answer (no escapes at all)
    costs next to nothing."""
    text = "('\\\\' not in text or '\\\\u0000' not in text)"
    if model.tree is None:
        return f"type(d) is dict and all_json(d, known, 0) and {text}"
    tests = ["read_back(raw) == d", text]
    if not model.mapping:
        tests.insert(0, "type(d) is cls")
    nodes = list(model.tree.walk())
    deep = [node for node in nodes if node.open or "int" in node.kinds]
    fields = [] if model.mapping else _int_fields(model.tree)
    if len(fields) == len(deep):
        tests += [f"(type(d.{n}) is not int or {_in_range(f'd.{n}')})" for n in fields]
    else:
        tests.append("not long_digits(raw)")
    if model.mapping or any(node.open or any(s.keeps_extra for s in node.shapes) for node in nodes):
        tests.append("not odd_names(raw)")
    return " and ".join(tests)


def _int_fields(tree: Node) -> list[str]:
    """Fields of the document itself that hold integers and can be named in source."""
    return [
        name
        for name, field in tree.fields().items()
        if "int" in field.node.kinds and _is_direct(field.node) and _identifier(name)
    ]


def _in_range(source: str) -> str:
    return f"{-MAX_SAFE_INT} <= {source} <= {MAX_SAFE_INT}"


def _key_lines(model: Model[Any]) -> list[str]:
    name = model.key
    if not _identifier(name) or model.key_written:
        return ["key = key_of(d)", "if key is not None: key = enc_key(key)"]
    return [
        f"key = d.get('{name}')" if model.mapping else f"key = d.{name}",
        # NUL was refused with the whole text already.
        "if type(key) is not str or not key or not key.isascii():",
        "    key = key_of(d)",
        "    if key is not None: key = enc_key(key)",
    ]


def _column_lines(
    model: Model[Any], steps: list[Step], number: int, scope: dict[str, Any]
) -> list[str]:
    value = None if written_by_class(steps) else _inline(model, steps)
    if value is None and written_by_class(steps):
        # Once more out of the text: the serializer was asked when the text was made.
        scope[f"path{number}"] = ".".join(step.stored for step in steps)
        scope["get_path"], scope["read_plain"] = get_path, decode_object
        value = [f"v = get_path(read_plain(raw), path{number}, None)"]
    if value is None:
        scope[f"read{number}"] = reader(model, steps)
        value = [f"v = read{number}(d)"]
    return [
        *value,
        "t = type(v)",
        f"k{number} = v if t is float and v or t is str and v.isascii() or t is int and "
        + _in_range("v")
        + " else enc(v)",
    ]


def _inline(model: Model[Any], steps: list[Step]) -> list[str] | None:
    """Source that reads the value into ``v``; None when the path needs the general reader."""
    names = [step.field.name if step.field else step.stored for step in steps]
    if not all(map(_identifier, names)):
        return None
    if model.mapping and (model.tree is None or (len(steps) == 1 and _is_direct(steps[0].node))):
        lines = [f"v = d.get('{names[0]}')"]
        lines += [f"v = v.get('{name}') if type(v) is dict else None" for name in names[1:]]
        return lines
    if model.mapping or not _is_direct(steps[-1].node):
        return None
    lines = [f"v = d.{names[0]}"]
    for parent, name in zip(steps, names[1:], strict=False):
        node = parent.node
        if (
            node is None
            or node.open
            or len(node.shapes) != 1
            or issubclass(node.shapes[0].cls, dict)
        ):
            return None
        lines.append(f"if v is not None: v = v.{name}")
    return lines


def _identifier(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("__")


def multi_reader(
    model: Model[Any], paths: list[list[Step]]
) -> Callable[[Any], tuple[Encoded, ...]]:
    """The distinct entries of a multi-entry index: elements of the last path, each behind the
    values of the paths before it."""
    return entries_of([reader(model, steps) for steps in paths])


def entries_of(readers: list[Reader]) -> Callable[[Any], tuple[Encoded, ...]]:
    *heads, last = readers

    def entries(doc: Any) -> tuple[Encoded, ...]:
        values = last(doc)
        if not isinstance(values, (list, tuple)):
            return ()
        if heads:
            head = [read(doc) for read in heads]
            found = (encode([*head, value]) for value in values)
        else:
            found = (encode(value) for value in values)
        return tuple({entry: None for entry in found if entry is not None})

    return entries
