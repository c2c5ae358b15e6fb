"""Between documents, their JSON text and the rows of a store. One codec for each collection.

The text is the document: what a model does not know stays in it (``core/unknown.py``), and what
cannot be stored faithfully is refused before anything is written (``core/plain.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from homeport.core import modelpaths, unknown
from homeport.core.expiry import check_moment, moment_ms
from homeport.core.indexes import Indexed
from homeport.core.inspection import inspect_document, misfit_of
from homeport.core.keyforms import KeyForms
from homeport.core.keys import Encoded, Key, encode, encode_key
from homeport.core.misfits import fault_of
from homeport.core.models import Model, decode_object, encode_json, key_form, model_of
from homeport.core.paths import get_path
from homeport.core.plain import all_json, refuse
from homeport.core.rowbuilder import build_row, entries_of, multi_reader, reader
from homeport.core.schema import Collection, Index
from homeport.core.scope import Scope
from homeport.core.validation import Check, validator
from homeport.core.words import text_of
from homeport.errors import InvalidKey, ValidationFailed

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]
"""``(encoded key or None, JSON text, one encoded value or None for each of Codec.columns)``."""

Extras: TypeAlias = tuple[tuple[tuple[Encoded, ...], ...], tuple[str, ...]]
"""``(distinct entries of each multi-entry index, text of each full-text path)``."""


class Codec(Generic[T]):
    """Everything that depends on a collection's declaration and is made once.

    Attributes:
        columns: stored paths of all plain indexes, each once, in order of first use.
        indexes: the declared indexes.
        multi: the multi-entry ones; text_paths: the distinct full-text paths.
        has_extras: is there any of these two?
        scope: the names of its fields. keys: the forms of its key.
        fingerprint: changes when the model's set of fields changes.
    """

    __slots__ = (
        "_check",
        "_columns_plain",
        "_dated",
        "_key_form",
        "_model",
        "_multi",
        "_multi_plain",
        "_names",
        "_texts",
        "_texts_plain",
        "_tree",
        "_ttl_ms",
        "collection",
        "columns",
        "fingerprint",
        "has_extras",
        "indexes",
        "key",
        "keys",
        "multi",
        "row",
        "scope",
        "text_paths",
    )

    row: Callable[[T], Row]
    """The row of a document; its key is None when the document has none. Raises
    ``InvalidDocument``, ``InvalidKey`` or ``ValidationFailed`` naming the path."""

    def __init__(self, collection: Collection[T]) -> None:
        self.collection = collection
        self.indexes: tuple[Index, ...] = collection.indexes
        self.key: str = collection.key
        self._tree = collection.tree
        self._model: Model[T] = model_of(
            collection.model, self._tree, collection.key, collection.name
        )
        plain = [i for i in self.indexes if not i.multi and i.kind != "fulltext"]
        self.columns: tuple[str, ...] = _distinct([f for index in plain for f in index.fields])
        self.multi: tuple[Index, ...] = tuple(index for index in self.indexes if index.multi)
        self.text_paths: tuple[str, ...] = _distinct(
            [f for index in self.indexes if index.kind == "fulltext" for f in index.fields]
        )
        self._ttl_ms = None if collection.ttl_s is None else int(collection.ttl_s * 1000)
        dated = collection.expires_at
        self._dated = None if dated is None else 2 + self.columns.index(dated)
        self.has_extras = bool(self.multi or self.text_paths)
        self.fingerprint = modelpaths.fingerprint(self._tree)
        self.scope = Scope(self._tree, collection.name)
        self.keys = KeyForms(self.scope, collection.key, collection.name)
        self._check: Check | None = (
            None if collection.schema is None else validator(collection.schema, collection.name)
        )
        self._names: set[str] = set()
        self._key_form = key_form(self._tree, self.key, collection.name)
        self._columns_plain = [plain_reader(path) for path in self.columns]
        self._build()

    def _build(self) -> None:
        model = self._model

        def steps(path: str) -> list[modelpaths.Step]:
            return modelpaths.resolve_stored(self._tree, path)

        build = build_row(model, [steps(path) for path in self.columns], self._inspect)
        self.row = build if self._check is None else self._checked(build)
        if self._dated is not None:
            self.row = self._with_moment(self.row, self._dated)
        self._multi = [multi_reader(model, [steps(p) for p in i.fields]) for i in self.multi]
        self._texts = [reader(model, steps(path)) for path in self.text_paths]
        self._multi_plain = [
            entries_of([plain_reader(path) for path in index.fields]) for index in self.multi
        ]
        self._texts_plain = [plain_reader(path) for path in self.text_paths]

    def _checked(self, build: Callable[[T], Row]) -> Callable[[T], Row]:
        def row(doc: T) -> Row:
            made = build(doc)
            if made[0] is not None:  # without its key a document is not finished
                self._validate(decode_object(made[1]))
            return made

        return row

    def _with_moment(self, build: Callable[[T], Row], column: int) -> Callable[[T], Row]:
        path = self.collection.expires_at or ""
        read = plain_reader(path)

        def row(doc: T) -> Row:
            made = build(doc)
            if moment_ms(made[column]) is None:
                check_moment(made, column, path, read(decode_object(made[1])))
            return made

        return row

    def expires_ms(self, row: Row, stamp_ms: int) -> int | None:
        """When a document that is written at ``stamp_ms`` expires, ms since 1970; None = never."""
        if self._dated is not None and (named := moment_ms(row[self._dated])) is not None:
            return named
        return None if self._ttl_ms is None else stamp_ms + self._ttl_ms

    def _validate(self, plain: dict[str, Any]) -> None:
        fault = None if self._check is None else self._check(plain)
        if fault is not None:
            path, reason = fault
            raise ValidationFailed(
                f"{path or 'The document'} of {self.collection.name} does not satisfy its schema: "
                f"{reason}.",
                path=path,
            )

    def _inspect(self, doc: T) -> None:
        """Say exactly what is wrong with a document, or return when nothing is."""
        inspect_document(self._model, doc, self.collection.name)

    # -- rows of stored and of plain documents

    def row_of_text(self, text: str) -> Row:
        """The row of a stored text, never refused for what it holds (rule G); values that cannot be
        indexed are None. ``InvalidKey`` when it has no key."""
        plain = decode_object(text)
        key = encode(plain.get(self.key))
        if key is None:
            raise InvalidKey(
                f"A document of {self.collection.name} has no usable key in {self.key!r}."
            )
        return (key, text, *[encode(read(plain)) for read in self._columns_plain])

    def row_of_plain(self, plain: dict[str, Any]) -> Row:
        """The row of a document in its stored form, checked like ``row``."""
        if type(plain) is not dict or not all_json(plain, self._names, 0):
            refuse(plain)
        try:
            text = encode_json(plain).decode()
        except UnicodeEncodeError:
            refuse(plain)
            raise
        if "\\u0000" in text:
            refuse(plain)
        if self._tree is not None:
            self._fit(text)
        self._validate(plain)
        key = plain.get(self.key)
        columns = [encode(read(plain)) for read in self._columns_plain]
        row = (None if key is None or key == "" else encode_key(key), text, *columns)
        if self._dated is not None:
            path = self.collection.expires_at or ""
            check_moment(row, self._dated, path, plain_reader(path)(plain))
        return row

    def _fit(self, text: str) -> None:
        """Refuse a text, about to be stored, that the model could not read."""
        try:
            self._model.decode(text)
        except Exception as error:
            raise misfit_of(self._model, error, self.collection.name) from error

    def extras(self, doc: T) -> Extras:
        return (
            tuple([entries(doc) for entries in self._multi]),
            tuple([text_of(read(doc)) for read in self._texts]),
        )

    def extras_of_text(self, text: str) -> Extras:
        plain = decode_object(text)
        return (
            tuple([entries(plain) for entries in self._multi_plain]),
            tuple([text_of(read(plain)) for read in self._texts_plain]),
        )

    # -- documents

    def decode(self, text: str) -> T:
        """A stored text → the document; ``ValidationFailed`` when the model cannot read it."""
        try:
            return self._model.decode(text)
        except Exception as error:
            raise self._unreadable(error, text) from error

    def decode_texts(self, texts: Sequence[str]) -> list[T]:
        """Stored texts → documents; the loop runs in C."""
        try:
            return list(map(self._model.decode, texts))
        except Exception:
            # One by one, to name the document that does not fit.
            return [self.decode(text) for text in texts]

    def decode_list(self, text: str) -> list[T]:
        """A JSON array of stored texts → documents."""
        try:
            return self._model.decode_list(text)
        except Exception:
            # One by one, to name the document that does not fit.
            return [self.decode(bytes(raw).decode()) for raw in _raws(text)]

    def _unreadable(self, error: Exception, text: str) -> ValidationFailed:
        plain: dict[str, Any] | None
        key: Any
        try:
            plain = decode_object(text)
            key = plain.get(self.key)
            key = key if self.keys.typed is None or key is None else self.keys.typed(key)
        except msgspec.MsgspecError:
            plain = key = None
        model = self._model.cls.__name__
        path, reason = fault_of(error)
        return ValidationFailed(
            f"The document {key!r} of {self.collection.name} does not fit {model}: "
            f"{path + ': ' if path else ''}{reason}.",
            action=f"Give the field a default in {model}, patch() the document, or leave out what "
            "does not fit by fitting().",
            collection=self.collection.name,
            key=key,
            path=path,
            reason=reason,
            document=plain,
        )

    def plain(self, doc: T) -> dict[str, Any]:
        """The document in its stored form: dicts, lists, texts, numbers."""
        return self._model.plain(doc)

    def fits(self, doc: object) -> bool:
        """Is this a document of the collection's kind at all? What is in it is another question."""
        return self._model.fits(doc)

    def key_of(self, doc: T) -> Key | None:
        """The document key in its stored form; None when it is missing, None or empty."""
        return self._model.key_of(doc)

    def with_key(self, doc: T, key: Key) -> T:
        """The document with this key: a copy of a dict; an object itself, or a copy when frozen."""
        return self._model.with_key(doc, key if self._key_form is None else self._key_form(key))

    def merge_unknown(self, old_text: str, new_text: str) -> str:
        """The new text with the fields of the old one that the model does not know (R15)."""
        if self._tree is None:
            return new_text
        return unknown.merged_text(self._tree, old_text, new_text)

    # -- queries

    def kinds_at(self, path: str) -> set[str] | None:
        """The scalar types that the model allows at a stored path; None when it does not say."""
        node = modelpaths.resolve_stored(self._tree, path)[-1].node
        if node is None or node.open or not node.kinds:
            return None
        return set(node.kinds)

    def check_path(self, path: str) -> str:
        """The stored form of a path of field names; raises ``UnknownField`` with a suggestion."""
        return self.scope.check_path(path)

    def convert(self, path: str, value: object) -> object:
        """A Python value in a condition or patch → the form in which documents store it."""
        return self.scope.convert(path, value)

    def has_entries(self, path: str) -> bool:
        """Has this field a multi-entry index of its own? Raises ``UnknownField``."""
        fields = (self.scope.check_path(path),)
        return any(index.fields == fields for index in self.multi)

    def paths(self) -> list[str]:
        """The known field paths; empty without a model."""
        return [] if self._tree is None else sorted(set(self._tree.paths()))


class Table(Generic[T]):
    """A collection in use: its codec, and what the opened file says about it.

    synced: replication is enabled for it on this file. keep_unknown: writes through the model merge
    onto the stored text, because it may hold fields that the model does not know. keyed: missing
    keys are made inside the transaction. siblings: the tables of the same database, by name.
    """

    __slots__ = (
        "codec",
        "collection",
        "deletes",
        "keep_unknown",
        "keyed",
        "merge_specs",
        "name",
        "policy",
        "siblings",
        "synced",
        "system",
        "usable",
    )

    def __init__(self, collection: Collection[T]) -> None:
        self.collection = collection
        self.name: str = collection.name
        self.codec: Codec[T] = Codec(collection)
        self.system: bool = collection.system
        self.keyed = collection.key_generator != "uuid7"
        self.siblings: Mapping[str, Table[Any]] = {}
        self.synced = False
        self.keep_unknown = False
        self.usable: Indexed = self.codec
        self.policy: str = collection.sync.policy if collection.sync else "merge"
        self.deletes: str = collection.sync.deletes if collection.sync else "delete-wins"
        types = collection.sync.fields if collection.sync else {}
        self.merge_specs = {path: kind.spec for path, kind in types.items()}

    def __repr__(self) -> str:
        return f"Table({self.name!r}{', synced' if self.synced else ''})"


_raws: Final[Callable[[str], list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _distinct(paths: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def plain_reader(path: str) -> Callable[[Any], Any]:
    if "." not in path:
        return lambda plain: plain.get(path)
    return lambda plain: get_path(plain, path, None)
