"""What a model class says about its documents: names, stored names and types, at every depth.

One tree for all kinds of classes, read lazily, because models may refer to themselves. msgspec
describes its own Structs, dataclasses, TypedDicts and attrs classes; pydantic models describe
themselves.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

import msgspec.inspect as mi
from msgspec import Struct

from homeport.errors import SchemaError, UnknownField

MAX_LISTED_DEPTH: Final = 4

# Scalar types by the name that the rest of the codec uses.
_SCALARS: Final[dict[type[Any], str]] = {
    mi.NoneType: "null",
    mi.BoolType: "bool",
    mi.IntType: "int",
    mi.FloatType: "float",
    mi.StrType: "str",
    mi.BytesType: "bytes",
    mi.ByteArrayType: "bytes",
    mi.MemoryViewType: "bytes",
    mi.DateTimeType: "datetime",
    mi.DateType: "date",
    mi.TimeType: "time",
    mi.TimeDeltaType: "timedelta",
    mi.UUIDType: "uuid",
    mi.DecimalType: "decimal",
}

_PYTHON: Final[dict[str, type[Any]]] = {
    "bytes": bytes,
    "datetime": datetime,
    "date": date,
    "time": time,
    "timedelta": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
}


class FieldInfo:
    """One field: ``name`` in Python, ``stored`` in the JSON text, ``omitted`` when a default value
    is left out of the text."""

    __slots__ = ("_make", "_node", "name", "omitted", "required", "stored")

    def __init__(
        self, name: str, stored: str, make: Callable[[], Node], *, required: bool, omitted: bool
    ) -> None:
        self.name = name
        self.stored = stored
        self.required = required
        self.omitted = omitted
        self._make = make
        self._node: Node | None = None

    @property
    def node(self) -> Node:
        if self._node is None:
            self._node = self._make()
        return self._node


class Shape:
    """One class of documents: its fields by Python name."""

    __slots__ = ("cls", "fields", "keeps_extra", "tag", "tag_field")

    def __init__(
        self,
        cls: type[Any],
        fields: dict[str, FieldInfo],
        tag_field: str | None = None,
        tag: object = None,
        *,
        keeps_extra: bool = False,
    ) -> None:
        self.cls = cls
        self.fields = fields
        self.tag_field = tag_field
        self.tag = tag
        self.keeps_extra = keeps_extra  # fields it does not know survive a round trip by themselves

    @property
    def stored_names(self) -> set[str]:
        names = {field.stored for field in self.fields.values()}
        return names | {self.tag_field} if self.tag_field else names


class Node:
    """A type: the union of what its alternatives allow.

    kinds: scalar kinds. shapes: classes with known fields. item: elements of arrays. value: values
    of a dict. open: anything may be inside (Any, plain dict, a class of its own JSON form). python:
    the scalar types that JSON has not, and enums. bytes_as: the text form of bytes; base64, or what
    a pydantic model's configuration says.
    """

    __slots__ = ("bytes_as", "item", "kinds", "naive", "open", "python", "shapes", "value")

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.python: list[type[Any]] = []
        self.shapes: list[Shape] = []
        self.item: Node | None = None
        self.value: Node | None = None
        self.open = False
        self.bytes_as = "base64"
        self.naive = False  # a datetime declared without a time zone

    def add(self, described: mi.Type) -> Node:
        """Include a type as msgspec describes it."""
        if isinstance(described, mi.UnionType):
            for part in described.types:
                self.add(part)
        elif isinstance(described, mi.Metadata):
            self.add(described.type)
        elif (kind := _SCALARS.get(type(described))) is not None:
            self.kinds.add(kind)
            if kind in _PYTHON:
                self.python.append(_PYTHON[kind])
            self.naive |= isinstance(described, mi.DateTimeType) and described.tz is False
        elif isinstance(described, (mi.StructType, mi.DataclassType, mi.TypedDictType)):
            self.shapes.append(_shape(described))
        elif isinstance(described, (mi.EnumType, mi.LiteralType)):
            self.kinds.add("enum")
            if isinstance(described, mi.EnumType):
                self.python.append(described.cls)
        elif isinstance(described, mi.DictType):
            self.value = (self.value or Node()).add(described.value_type)
            self.open = True
        elif isinstance(described, (mi.CollectionType, mi.VarTupleType)):
            self.item = (self.item or Node()).add(described.item_type)
        elif isinstance(described, mi.TupleType):
            self.item = self.item or Node()
            for part in described.item_types:
                self.item.add(part)
        elif isinstance(described, mi.CustomType) and is_pydantic(described.cls):
            self.shapes.append(_pydantic_shape(described.cls))
        else:
            self.open = True
        return self

    def walk(self, seen: set[type[Any]] | None = None) -> Iterator[Node]:
        """This node and every node below, each class once."""
        seen = set() if seen is None else seen
        yield self
        for shape in self.shapes:
            if shape.cls not in seen:
                seen.add(shape.cls)
                for field in shape.fields.values():
                    yield from field.node.walk(seen)
        for inner in (self.item, self.value):
            if inner is not None:
                yield from inner.walk(seen)

    def fields(self) -> dict[str, FieldInfo]:
        """Fields of all shapes by Python name."""
        return {name: field for shape in self.shapes for name, field in shape.fields.items()}

    def paths(self, prefix: str = "", depth: int = 0) -> Iterator[str]:
        for name, field in self.fields().items():
            yield prefix + name
            if depth < MAX_LISTED_DEPTH:
                yield from field.node.paths(f"{prefix}{name}.", depth + 1)


def _shape(described: mi.StructType | mi.DataclassType | mi.TypedDictType) -> Shape:
    cls = described.cls
    if isinstance(described, mi.StructType) and described.array_like:
        raise SchemaError(f"{cls.__name__} is array_like; a document has named fields.")
    omits = issubclass(cls, Struct) and cls.__struct_config__.omit_defaults
    fields = {
        field.name: FieldInfo(
            field.name,
            field.encode_name,
            _maker(field.type),
            required=field.required,
            omitted=omits and not field.required,
        )
        for field in described.fields
    }
    if isinstance(described, mi.StructType):
        return Shape(cls, fields, described.tag_field, described.tag)
    return Shape(cls, fields)


def _maker(described: mi.Type) -> Callable[[], Node]:
    return lambda: Node().add(described)


def is_pydantic(cls: object) -> bool:
    """Asked by shape, so that pydantic is never imported for it."""
    return isinstance(cls, type) and hasattr(cls, "__pydantic_core_schema__") and hasattr(
        cls, "model_fields"
    )  # fmt: skip


def _pydantic_shape(cls: Any) -> Shape:
    fields: dict[str, FieldInfo] = {}
    for name, field in cls.model_fields.items():
        stored = field.serialization_alias or name
        accepted = field.validation_alias or name
        if stored != accepted:
            raise SchemaError(
                f"{cls.__name__}.{name} is written as {stored!r} but read as {accepted!r}.",
                action="Give it one alias, or none.",
            )
        make = _annotation_maker(field.annotation, cls.model_config.get("ser_json_bytes", "utf8"))
        fields[name] = FieldInfo(name, stored, make, required=field.is_required(), omitted=False)
    return Shape(cls, fields, keeps_extra=cls.model_config.get("extra") == "allow")


def _annotation_maker(annotation: Any, bytes_as: str) -> Callable[[], Node]:
    def make() -> Node:
        node = Node()
        try:
            node.add(mi.type_info(annotation))
        except TypeError:
            # A type that only pydantic understands: anything may be inside.
            node.open = True
        inner: Node | None = node
        while inner is not None:  # classes inside have configurations of their own
            inner.bytes_as = "urlsafe" if bytes_as == "base64" else bytes_as
            inner = inner.item or inner.value
        return node

    return make


def tree_of(model: type[Any] | None) -> Node | None:
    """The tree of a model class, or None for plain dicts; ``SchemaError`` when it cannot be one."""
    if model is None or model is dict:
        return None
    if is_pydantic(model):
        node = Node()
        node.shapes.append(_pydantic_shape(model))
        return node
    try:
        node = Node().add(mi.type_info(model))
    except (TypeError, NameError) as error:
        raise SchemaError(f"{model.__name__} cannot be a model: {error}.") from error
    if len(node.shapes) != 1:
        raise SchemaError(
            f"{model.__name__} cannot be a model.",
            action="Use a msgspec Struct, a dataclass, a TypedDict, a pydantic or attrs class, or "
            "no model for plain dicts.",
        )
    return node


class Step:
    """One field on a path: python name, stored name, the type below; None = nobody knows."""

    __slots__ = ("field", "node", "stored")

    def __init__(self, stored: str, node: Node | None, field: FieldInfo | None) -> None:
        self.stored = stored
        self.node = node
        self.field = field


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
            steps.append(Step(name, node.value, None))
            node = node.value
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
        node = field.node if field is not None else None if node is None else node.value
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
