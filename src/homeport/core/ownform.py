"""Fields that only their class can put into the stored form: pydantic's serializers, its forms of
bytes and durations, types that nobody else knows.

A value that a program compares such a field with goes the way that the field itself goes: through
the class. What the class refuses is an error, because a guess would silently find nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from homeport.core.arguments import shown
from homeport.core.keys import compare, encode
from homeport.errors import InvalidQuery

encode_json: Final = msgspec.json.Encoder().encode

_JSON: Final = (str, int, float, bool, type(None), list, dict)

Convert = Callable[[Any], Any]


class Declared(Protocol):
    """What is needed of the declared type (``modeltree.Node``)."""

    kinds: set[str]
    python: list[type[Any]]
    open: bool
    naive: bool

    def accepts(self, value: object) -> bool: ...


class OwnForm:
    """One field, or the elements or values inside it.

    Attributes:
        where: the class and the field, for messages.
        declared: its type.
        opaque: a serializer decides, so nothing is known about the stored form; otherwise it is the
            usual form of JSON types, and only other values are dumped.
        whole: that serializer is the one of the whole class, not of this field.
        dump: Python value → stored form. load: the way back. Both raise whatever the class raises.
    """

    __slots__ = ("_ordered", "declared", "dump", "load", "opaque", "where", "whole")

    def __init__(
        self,
        where: str,
        declared: Declared,
        dump: Convert,
        load: Convert,
        *,
        opaque: bool,
        whole: bool = False,
    ) -> None:
        self.where = where
        self.declared = declared
        self.dump = dump
        self.load = load
        self.opaque = opaque
        self.whole = whole
        self._ordered: bool | None = None

    def into(self, value: object) -> object:
        """A value of a condition or patch → the stored form of an opaque field.

        Plain JSON values that are not of the declared type are read as a document's are, first:
        what the class wrote, it reads again, so a value in its stored form stays what it is.
        Raises ``InvalidQuery``.
        """
        plain = type(value) in _JSON
        accepted = self.declared.accepts(value)
        try:
            if plain and (self.declared.open or not accepted):
                value = self.load(value)
            elif isinstance(value, (list, dict)):
                return self._dump_inside(value)
            return self.dump(value)
        except Exception as error:
            if value is None:
                return None
            reason = (str(error).splitlines() or [""])[-1].strip()
            raise InvalidQuery(
                f"{shown(value, 80)} cannot be put into the form in which {self.where} is stored: "
                f"{type(error).__name__}: {reason:.200}",
                action="Compare it with a value of its declared type, or filter() in Python.",
            ) from error

    def _dump_inside(self, value: Any) -> Any:
        """A container: of Python values, or as it is stored."""
        try:
            return self.dump(value)
        except Exception:
            return self.dump(self.load(value))

    def restore(self, stored: Any) -> Any:
        """The Python value; what does not fit comes as it is stored."""
        try:
            return self.load(stored)
        except Exception:
            return stored

    def element(self) -> tuple[Convert, Convert]:
        """``dump`` and ``load`` of one element of an array."""

        def dump(value: Any) -> Any:
            return _only(_first_that_works(self.dump, ([value], (value,), {value})))

        return dump, lambda stored: _only([*self.load([stored])])

    def member(self) -> tuple[Convert, Convert]:
        """``dump`` and ``load`` of a value of a dict."""
        return (
            lambda value: self.dump({_NAME: value})[_NAME],
            lambda stored: self.load({_NAME: stored})[_NAME],
        )

    @property
    def ordered(self) -> bool:
        """Do stored forms follow in the order of their values? Asked by writing some values."""
        if self._ordered is None:
            self._ordered = self._tried()
        return self._ordered

    def _tried(self) -> bool:
        kinds = self.declared.kinds - {"null"}
        samples = [sample for kind in sorted(kinds) for sample in _SAMPLES.get(kind, ())]
        if not samples:
            return True  # texts, and what has no order of its own: the stored one is the order
        if len(kinds) > 1 and not kinds <= {"int", "float"}:
            return False
        if self.declared.naive:
            samples = [sample.replace(tzinfo=None) for sample in samples]
        try:
            forms = [self.dump(sample) for sample in sorted(samples)]
        except Exception:
            return False
        kinds_of = {type(encode(form)) for form in forms}
        return (
            (len(kinds_of) == 1 or kinds_of <= {int, float})
            and type(None) not in kinds_of
            and all(compare(low, high) <= 0 for low, high in pairwise(forms))
            and compare(forms[0], forms[-1]) < 0
        )


class Inside(OwnForm):
    """What lies inside a field that a serializer writes: only the stored form can be compared."""

    __slots__ = ()

    def into(self, value: object) -> object:
        if type(value) in _JSON:
            return value
        raise InvalidQuery(
            f"{shown(value, 80)} cannot be compared with what is inside {self.where}, which a "
            "serializer of its class writes.",
            action="Compare it with a text, a number or another value of JSON, as it is stored.",
        )

    def restore(self, stored: Any) -> Any:
        return stored


_TEMPORAL: Final = frozenset(("datetime", "date", "time"))
_NAME: Final = "name"
_WHOLE: Final = (-20, -10, -9, -1, 0, 1, 2, 9, 10, 11, 99, 100, 1000)
_DAYS: Final = (
    date(1969, 12, 30), date(1999, 12, 31), date(2000, 1, 1), date(2020, 1, 31), date(2020, 2, 1),
    date(2021, 1, 1),
)  # fmt: skip
_SAMPLES: Final[dict[str, tuple[Any, ...]]] = {
    "int": _WHOLE,
    "float": tuple(n / 4 for n in _WHOLE),
    "decimal": tuple(Decimal(n) / 4 for n in _WHOLE),
    "date": _DAYS,
    "datetime": (
        *(datetime(d.year, d.month, d.day, hour, tzinfo=UTC) for d in _DAYS for hour in (2, 9, 10)),
        datetime(2021, 1, 1, 23, tzinfo=timezone(timedelta(hours=-5))),
        datetime(2021, 1, 2, 1, tzinfo=timezone(timedelta(hours=14))),
    ),
    "time": (time(0), time(1), time(9, 59), time(10), time(23, 59)),
    "timedelta": tuple(timedelta(seconds=n) for n in (-86_400, -1, 0, 9, 10, 100, 3600, 864_000)),
}


def _first_that_works(dump: Convert, given: tuple[Any, ...]) -> Any:
    refused: Exception | None = None
    for value in given:
        try:
            return dump(value)
        except Exception as error:
            refused = refused or error
    raise refused or TypeError


def _only(values: Any) -> Any:
    if not isinstance(values, list) or len(values) != 1:
        raise TypeError("its elements are not stored one by one")
    return values[0]


# -- pydantic's classes; asked by shape, so that pydantic is never imported for nothing


def is_pydantic(cls: object) -> bool:
    return isinstance(cls, type) and hasattr(cls, "__pydantic_core_schema__") and hasattr(
        cls, "model_fields"
    )  # fmt: skip


def is_pydantic_dataclass(cls: object) -> bool:
    return isinstance(cls, type) and hasattr(cls, "__pydantic_fields__") and not is_pydantic(cls)


def configuration(cls: Any) -> dict[str, Any]:
    found: dict[str, Any] = getattr(cls, "model_config", None) or getattr(
        cls, "__pydantic_config__", {}
    )
    return found


def times_are_numbers(cls: Any, kinds: set[str]) -> bool:
    """Does the configuration of a pydantic class write times of these kinds as numbers?"""
    settings = configuration(cls)
    durations = (settings.get("ser_json_timedelta"), settings.get("ser_json_temporal"))
    if "timedelta" in kinds and not {None, "iso8601"}.issuperset(durations):
        return True
    return bool(kinds & _TEMPORAL) and durations[1] not in {None, "iso8601"}


def forms_of_model(cls: Any, name: str, stored: str) -> tuple[Convert, Convert]:
    """``dump`` and ``load`` of a field of a pydantic model or dataclass."""
    serialize = cls.__pydantic_serializer__.to_python

    def blank() -> Any:
        construct = getattr(cls, "model_construct", None)
        return object.__new__(cls) if construct is None else construct()

    def dump(value: Any) -> Any:
        holder = blank()
        # Past validation, which is the business of documents.
        holder.__dict__[name] = value
        written = serialize(holder, mode="json", by_alias=True, include={name}, warnings="error")
        if not isinstance(written, dict) or stored not in written:
            raise TypeError(f"the class stores nothing under {stored!r}")
        return written[stored]

    def load(value: Any) -> Any:
        return _reader(cls, name)(encode_json(value))

    return dump, load


def forms_of_annotation(annotation: Any) -> tuple[Convert, Convert]:
    """The same of a field of a class that pydantic takes in: a dataclass, a TypedDict."""
    from pydantic import TypeAdapter  # noqa: PLC0415 - the class that holds it is pydantic's

    adapter: Any = TypeAdapter(annotation)
    return (
        lambda value: adapter.dump_python(value, mode="json", by_alias=True, warnings="error"),
        lambda value: adapter.validate_json(encode_json(value)),
    )


class _Written(NamedTuple):
    """How a pydantic class describes a field: its schema, None where it cannot be found; what the
    schema refers to; the configuration; whether a serializer of the whole class is above it."""

    schema: Any
    known: dict[Any, Any]
    config: Any
    whole: bool


def _written(cls: Any, name: str) -> _Written:
    known: dict[Any, Any] = {}
    config, whole = None, False
    schema = cls.__pydantic_core_schema__
    while isinstance(schema, dict):
        known.update({one.get("ref"): one for one in schema.get("definitions", ())})
        whole = whole or "serialization" in schema
        config = schema.get("config", config)
        if schema.get("type") == "definition-ref":
            schema = known.get(schema.get("schema_ref"))
            continue
        fields = schema.get("fields")
        if schema.get("type") == "dataclass-args":
            fields = {field["name"]: field for field in fields or ()}
        if isinstance(fields, dict):
            return _Written(fields.get(name), known, config, whole)
        schema = schema.get("schema")
    return _Written(None, known, config, whole)


def field_is_opaque(cls: Any, name: str) -> bool:
    """Has a field of a pydantic class a serializer of its own? True also where nobody can say."""
    written = _written(cls, name)
    return written.schema is None or _serializes(written.schema, written.known, set())


def class_is_opaque(cls: Any, name: str) -> bool:
    """Does a serializer of the whole class stand above the field?"""
    return _written(cls, name).whole


@cache
def _reader(cls: Any, name: str) -> Convert:
    """What reads the JSON of one field as the class reads it inside a document."""
    from pydantic_core import SchemaValidator, core_schema  # noqa: PLC0415 - the class is pydantic's

    written = _written(cls, name)
    if written.schema is None:
        raise TypeError(f"the schema of {name} is not to be found")
    described = core_schema.definitions_schema(
        written.schema["schema"], [one for ref, one in written.known.items() if ref]
    )
    read: Convert = SchemaValidator(described, written.config).validate_json
    return read


def annotation_is_opaque(annotation: Any) -> bool:
    from pydantic import TypeAdapter  # noqa: PLC0415

    return _serializes(TypeAdapter(annotation).core_schema, {}, set())


_CLASSES: Final = frozenset(("model", "dataclass", "typed-dict"))  # which have fields of their own


def _serializes(schema: Any, known: dict[Any, Any], seen: set[Any]) -> bool:
    """Is there a serializer in a core schema, outside the classes in it?"""
    if isinstance(schema, (list, tuple)):
        return any(_serializes(item, known, seen) for item in schema)
    if not isinstance(schema, dict):
        return False
    for one in schema.get("definitions", ()):
        known.setdefault(one.get("ref"), one)
    if "serialization" in schema or schema.get("serialization_exclude"):
        return True
    kind = schema.get("type")
    if kind in _CLASSES:
        return False
    if kind == "definition-ref":
        ref = schema.get("schema_ref")
        if ref in seen:
            return False
        seen.add(ref)
        return ref not in known or _serializes(known[ref], known, seen)
    return any(_serializes(part, known, seen) for part in _parts(schema))


def _parts(schema: dict[str, Any]) -> Iterator[Any]:
    for name, part in schema.items():
        if name not in ("definitions", "metadata", "config", "default", "expected", "members"):
            yield part
