"""The kinds of documents: plain dicts, the classes msgspec knows, pydantic models.

A kind turns documents into bytes of JSON and back; everything else about a class is in its tree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import date, datetime
from typing import Any, Final, Generic, TypeVar, cast
from uuid import UUID

import msgspec
from msgspec import UNSET

from homeport.core.keys import Key
from homeport.core.modeltree import FieldInfo, Node, retime
from homeport.core.ownform import OwnForm, is_pydantic
from homeport.core.plain import builtins
from homeport.errors import InvalidKey, SchemaError

T = TypeVar("T")

encode_json: Final[Callable[[Any], bytes]] = msgspec.json.Encoder().encode
decode_object: Final[Callable[[str | bytes], dict[str, Any]]] = msgspec.json.Decoder(
    dict[str, Any]
).decode
decode_objects: Final[Callable[[str | bytes], list[dict[str, Any]]]] = msgspec.json.Decoder(
    list[dict[str, Any]]
).decode


class Model(Generic[T]):
    """Plain dicts, and the base of the other kinds.

    mapping: documents are dicts (fields by name), otherwise objects (fields by attribute).
    key_own: the key's own form, if it has one. key_written: a serializer has a say in the key.
    """

    mapping = True

    def __init__(self, cls: type[T], tree: Node | None, key: FieldInfo | str) -> None:
        self.cls = cls
        self.tree = tree
        self.key = key if isinstance(key, str) else key.name
        self.key_own = None if isinstance(key, str) else key_own(key.node)
        self.key_written = not isinstance(key, str) and key.node.own is not None
        self.encode: Callable[[T], bytes] = encode_json
        self.decode: Callable[[str | bytes], T] = cast("Any", decode_object)
        self.decode_list: Callable[[str | bytes], list[T]] = cast("Any", decode_objects)

    def plain(self, doc: T) -> dict[str, Any]:
        return cast("dict[str, Any]", doc)

    def get(self, doc: Any, name: str) -> Any:
        """A field by its Python name; None where there is none."""
        value = doc.get(name) if isinstance(doc, dict) else getattr(doc, name, None)
        return None if value is UNSET else value

    def fits(self, doc: object) -> bool:
        """Is this a document of the kind at all?"""
        return isinstance(doc, dict if self.mapping else self.cls)

    def key_of(self, doc: T) -> Key | None:
        value = self.get(doc, self.key)
        if value is None or value == "":
            return None
        if self.key_own is not None:
            return cast("Key", written_key(self.key_own, value))
        if not isinstance(value, (str, int, float, list)):
            value = builtins(value)
        return cast("Key", value)

    def with_key(self, doc: T, key: Key) -> T:
        """A dict is copied; an object gets the key, or a copy with it when it is frozen."""
        return cast("T", {**cast("dict[str, Any]", doc), self.key: key})


class MsgspecModel(Model[T]):
    """Struct, dataclass, attrs class, TypedDict."""

    def __init__(self, cls: type[T], tree: Node, key: FieldInfo) -> None:
        super().__init__(cls, tree, key)
        self.mapping = not dataclasses.is_dataclass(cls) and issubclass(cls, dict)
        self.decode = msgspec.json.Decoder(cls).decode
        self.decode_list = msgspec.json.Decoder(list[cls]).decode  # type: ignore[valid-type]
        if any("datetime" in node.kinds for node in tree.walk()):
            # One text form of a point in time: the order of texts is then the order of times.
            self.encode = lambda doc: encode_json(builtins(doc))

    def plain(self, doc: T) -> dict[str, Any]:
        return cast("dict[str, Any]", builtins(doc))

    def with_key(self, doc: T, key: Key) -> T:
        if self.mapping:
            return super().with_key(doc, key)
        try:
            setattr(doc, self.key, key)
        except AttributeError:
            return self._copy(doc, key)
        return doc

    def _copy(self, doc: T, key: Key) -> T:
        copy: Any = doc
        if isinstance(doc, msgspec.Struct):
            return cast("T", msgspec.structs.replace(copy, **{self.key: key}))
        if dataclasses.is_dataclass(doc):
            return cast("T", dataclasses.replace(copy, **{self.key: key}))
        made = copy.__reduce_ex__(4)
        fresh = made[0](*made[1])
        for name in self.tree.fields() if self.tree else ():
            object.__setattr__(fresh, name, key if name == self.key else getattr(copy, name))
        return cast("T", fresh)


class PydanticModel(Model[T]):
    """pydantic's own JSON form, by alias, with times in our one text form."""

    mapping = False

    def __init__(self, cls: type[T], tree: Node, key: FieldInfo) -> None:
        super().__init__(cls, tree, key)
        model: Any = cls
        self._whole = self.key_written and self.key_own is None
        self._stored_key = key.stored
        self._times = any(node.times for node in tree.walk())
        self.encode = lambda doc: encode_json(self.plain(doc))
        self.decode = model.model_validate_json
        self.decode_list = lambda text: [
            model.model_validate_json(bytes(item)) for item in _items(text)
        ]

    def key_of(self, doc: T) -> Key | None:
        key = super().key_of(doc)
        if key is not None and self._whole and self.plain(doc).get(self._stored_key) != key:
            raise InvalidKey(
                f"{self.cls.__name__} has a serializer of the whole class, which writes another "
                f"{self._stored_key} than {key!r}.",
                action="Let it leave the key as it is.",
            )
        return key

    def plain(self, doc: T) -> dict[str, Any]:
        document: Any = doc
        plain: dict[str, Any] = document.model_dump(mode="json", by_alias=True)
        return retime(plain, self.tree) if self._times else plain

    def with_key(self, doc: T, key: Key) -> T:
        document: Any = doc
        try:
            setattr(document, self.key, key)
        except (AttributeError, ValueError):  # frozen models raise pydantic's ValidationError
            return cast("T", document.model_copy(update={self.key: key}))
        return doc


_items: Final[Callable[[str | bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(
    list[msgspec.Raw]
).decode


def key_own(node: Node | None) -> OwnForm | None:
    """A form of its own of a key field. What a serializer of the whole class makes of a key is
    looked at when a document is written."""
    return None if node is None or node.own is None or node.own.whole else node.own


def written_key(own: OwnForm, value: object) -> object:
    """The key of a document whose class writes it in a form of its own; ``InvalidKey`` where a key
    in that form would be taken for another one."""
    if not own.opaque:
        return value if isinstance(value, (str, int, float, list)) else own.dump(value)
    stored = own.into(value)
    if own.into(stored) != stored:
        raise InvalidKey(
            f"{own.where} is the key, and its serializer turns {stored!r}, which it wrote itself, "
            "into something else: a stored key could not be told from one in the program.",
            action="Take the serializer off the key, or let it leave its own form as it is.",
        )
    return stored


def key_form(tree: Node | None, key: str, collection: str) -> Callable[[Key], Any] | None:
    """What makes the Python value of a key field from the stored key; None: it is the same."""
    if tree is None:
        return None
    field = next((field for field in tree.fields().values() if field.stored == key), None)
    if field is not None and (own := key_own(field.node)) is not None:
        return own.restore
    if field is None or field.node.open or "str" in field.node.kinds or "enum" in field.node.kinds:
        return None
    kinds = field.node.kinds

    def form(value: Key) -> Any:
        for kind in kinds & _KEY_CLASSES.keys() if isinstance(value, str) else ():
            try:
                return msgspec.convert(value, _KEY_CLASSES[kind])
            except msgspec.ValidationError:
                continue
        if isinstance(value, str):
            listed = " or ".join(sorted(kinds - {"null"}))
            raise InvalidKey(
                f"A document of {collection} has no key, and {value!r} is none: the model's "
                f"{field.name} is {listed}.",
                action="Give every document its key, or declare key_generator='autoincrement' or a "
                "function that makes keys.",
            )
        return value

    return form


_KEY_CLASSES: Final[dict[str, type[Any]]] = {"uuid": UUID, "datetime": datetime, "date": date}


def model_of(cls: type[T] | None, tree: Node | None, key: str, collection: str) -> Model[T]:
    """The kind of a collection's documents. ``key`` is the stored name of the key field."""
    if tree is None or cls is None:
        return cast("Model[T]", Model(dict, None, key))
    field = next((f for f in tree.fields().values() if f.stored == key), None)
    if field is None:
        raise SchemaError(f"{collection}: {cls.__name__} has no field {key!r} to be the key.")
    kind = PydanticModel if is_pydantic(cls) else MsgspecModel
    return kind(cls, tree, field)
