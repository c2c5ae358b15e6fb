"""What a model class says about its documents: names, stored names and types, at every depth.

One tree for all kinds of classes, read lazily, because models may refer to themselves. msgspec
describes its own Structs, dataclasses, TypedDicts and attrs classes; pydantic models describe
themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, get_type_hints
from uuid import UUID

import msgspec.inspect as mi
from msgspec import Struct

from homeport.core.ownform import (
    Convert,
    OwnForm,
    annotation_is_opaque,
    class_is_opaque,
    configuration,
    field_is_opaque,
    forms_of_annotation,
    forms_of_model,
    is_pydantic,
    is_pydantic_dataclass,
    times_are_numbers,
)
from homeport.core.plain import read_instant
from homeport.errors import SchemaError

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

_JSON_KINDS: Final[dict[type[Any], tuple[str, ...]]] = {
    bool: ("bool", "enum"),
    int: ("int", "float", "enum"),
    float: ("float",),
    str: ("str", "enum"),
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
    the scalar types that JSON has not, and enums. own: set where only the class knows the stored
    form; where that is a serializer's, the node is open and says nothing else.
    """

    __slots__ = ("item", "kinds", "naive", "open", "own", "python", "shapes", "value")

    def __init__(self) -> None:
        self.kinds: set[str] = set()
        self.python: list[type[Any]] = []
        self.shapes: list[Shape] = []
        self.item: Node | None = None
        self.value: Node | None = None
        self.open = False
        self.own: OwnForm | None = None
        self.naive = False  # a datetime declared without a time zone

    @property
    def times(self) -> bool:
        """May points in time be here? Their text has one form."""
        kinds = self.kinds if self.own is None else self.own.declared.kinds
        return "datetime" in kinds

    def accepts(self, value: object) -> bool:
        """Is this a Python value of the type? What is inside containers is not looked at."""
        kind = type(value)
        if value is None:
            return "null" in self.kinds
        if kind in _JSON_KINDS:
            return self.open or not self.kinds.isdisjoint(_JSON_KINDS[kind])
        if isinstance(value, (list, tuple, set, frozenset)):
            return self.open or self.item is not None
        shapes = [shape.cls for shape in self.shapes]
        if kind is dict:
            return self.value is not None or any(issubclass(cls, dict) for cls in shapes)
        classes = (*self.python, *(cls for cls in shapes if not issubclass(cls, dict)))
        return self.open or isinstance(value, classes)

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
        elif isinstance(described, mi.DataclassType) and is_pydantic_dataclass(described.cls):
            self.shapes.append(_pydantic_shape(described.cls))
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


def _pydantic_shape(cls: Any) -> Shape:
    """Of a pydantic model or dataclass."""
    fields: dict[str, FieldInfo] = {}
    described: dict[str, Any] = cls.model_fields if is_pydantic(cls) else cls.__pydantic_fields__
    settings = configuration(cls)
    for name, field in described.items():
        stored = field.serialization_alias or name
        accepted = field.validation_alias or name
        if stored != accepted:
            raise SchemaError(
                f"{cls.__name__}.{name} is written as {stored!r} but read as {accepted!r}.",
                action="Give it one alias, or none.",
            )
        make = _pydantic_maker(cls, name, stored, field.annotation)
        fields[name] = FieldInfo(name, stored, make, required=field.is_required(), omitted=False)
    return Shape(cls, fields, keeps_extra=settings.get("extra") == "allow")


def _pydantic_maker(cls: Any, name: str, stored: str, annotation: Any) -> Callable[[], Node]:
    def make() -> Node:
        node = _annotated(annotation)
        opaque = field_is_opaque(cls, name) or times_are_numbers(cls, node.kinds)
        whole = not opaque and class_is_opaque(cls, name)
        forms = forms_of_model(cls, name, stored)
        return _owned(node, f"{cls.__name__}.{name}", forms, opaque=opaque or whole, whole=whole)

    return make


def _guest_maker(cls: type[Any], name: str, annotation: Any) -> Callable[[], Node]:
    """A field of another class inside a pydantic model: pydantic writes that too."""

    def make() -> Node:
        forms, opaque = forms_of_annotation(annotation), annotation_is_opaque(annotation)
        return _owned(_annotated(annotation), f"{cls.__name__}.{name}", forms, opaque=opaque)

    return make


def _annotated(annotation: Any) -> Node:
    try:
        return Node().add(mi.type_info(annotation))
    except TypeError:
        node = Node()  # a type that only pydantic understands: anything may be inside
        node.open = True
        return node


def _owned(
    node: Node, where: str, forms: tuple[Convert, Convert], *, opaque: bool, whole: bool = False
) -> Node:
    """The node with pydantic's way of writing its values, and the nodes inside likewise."""
    dump, load = forms
    made = node
    if opaque:
        made = Node()
        made.open = True
    own = OwnForm(
        where, node, lambda value: retime(dump(value), made), load, opaque=opaque, whole=whole
    )
    if node.item is not None:
        made.item = _owned(node.item, f"an element of {where}", own.element(), opaque=opaque)
    if node.value is not None:
        made.value = _owned(node.value, f"what is in {where}", own.member(), opaque=opaque)
    inside = [inner for inner in (made.item, made.value) if inner is not None and inner.own]
    if opaque or node.open or node.shapes or inside or node.kinds & {"bytes", "timedelta"}:
        made.own = own
    for shape in made.shapes:
        if not is_pydantic(shape.cls) and not is_pydantic_dataclass(shape.cls):
            _entertain(shape)
    return made


def _entertain(shape: Shape) -> None:
    hints = get_type_hints(shape.cls, include_extras=True)
    for name, field in shape.fields.items():
        if name in hints:
            make = _guest_maker(shape.cls, name, hints[name])
            shape.fields[name] = FieldInfo(
                name, field.stored, make, required=field.required, omitted=field.omitted
            )


def retime(value: Any, node: Node | None) -> Any:
    """Texts where the model declares points in time → the form of ``instant``."""
    if node is None:
        return value
    if isinstance(value, str):
        return read_instant(value) if node.times else value
    if isinstance(value, list):
        return [retime(item, node.item) for item in value]
    if isinstance(value, dict):
        known = {f.stored: f.node for shape in node.shapes for f in shape.fields.values()}
        return {name: retime(item, known.get(name, node.value)) for name, item in value.items()}
    return value


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
