"""``F``: fields that build conditions with Python's operators."""

from __future__ import annotations

from typing import Final, NoReturn, TypeVar, cast

from homeport.core.conditions import (
    And,
    AnyOf,
    Between,
    Compare,
    Condition,
    Contains,
    Element,
    Matches,
    Missing,
    Not,
    OfType,
    Pattern,
    Size,
    StartsWith,
)
from homeport.errors import InvalidQuery

M = TypeVar("M")


class Field:
    """A field of the document, by its path: ``F.position.lat``, ``F["position"]["lat"]`` or
    ``F["position.lat"]``. Below the first name, a field called like one of the methods here is
    reached by brackets: ``F.a["contains"]``."""

    __slots__ = ("_path",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Field(f"{self._path}.{name}")

    def __getitem__(self, name: str) -> Field:
        return Field(f"{self._path}.{_name(name)}")

    def __eq__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self._path, "==", _value(value))

    def __ne__(self, value: object) -> Condition:  # type: ignore[override]
        return Compare(self._path, "!=", _value(value))

    def __lt__(self, value: object) -> Condition:
        return Compare(self._path, "<", _value(value))

    def __le__(self, value: object) -> Condition:
        return Compare(self._path, "<=", _value(value))

    def __gt__(self, value: object) -> Condition:
        return Compare(self._path, ">", _value(value))

    def __ge__(self, value: object) -> Condition:
        return Compare(self._path, ">=", _value(value))

    def between(
        self, low: object, high: object, *, low_open: bool = False, high_open: bool = False
    ) -> Condition:
        """low ≤ field ≤ high; ``low_open`` and ``high_open`` leave the bound itself out."""
        return Between(self._path, _value(low), _value(high), low_open, high_open)

    def any_of(self, *values: object) -> Condition:
        """Equal to one of these: ``any_of("a", "b")`` or ``any_of(["a", "b"])``."""
        return AnyOf(self._path, _many(values))

    def none_of(self, *values: object) -> Condition:
        """Equal to none of these; matches documents without the field too."""
        return Not(AnyOf(self._path, _many(values)))

    def starts_with(self, prefix: str) -> Condition:
        return StartsWith(self._path, prefix)

    def is_missing(self) -> Condition:
        """The document has no such field. A field that holds null is not missing."""
        return Missing(self._path)

    def contains(self, value: object) -> Condition:
        """An array with this element."""
        return Contains(self._path, _value(value))

    def contains_any(self, *values: object) -> Condition:
        """An array with one of these elements."""
        return Element(self._path, AnyOf("", _many(values)))

    def contains_all(self, *values: object) -> Condition:
        """An array with each of these elements."""
        return And(Contains(self._path, value) for value in _many(values))

    def has_element(self, *conditions: Condition) -> Condition:
        """An array with an element that satisfies all of these, whose names begin at the element:
        ``F.curves.has_element(F.mnemonic == "GR", F.samples > 100)``."""
        return Element(self._path, And(conditions))

    def has_size(self, size: int) -> Condition:
        """An array of exactly so many elements."""
        return Size(self._path, size)

    def has_type(self, *types: str) -> Condition:
        """A value of one of these types of JSON: null, boolean, number, string, array, object."""
        return OfType(self._path, types)

    def regex(self, pattern: str, flags: str = "") -> Condition:
        """A text in which Python's ``re`` finds the pattern; flags: of ``imsx``. Every document is
        looked at; ``starts_with`` uses an index."""
        return Pattern(self._path, pattern, flags)

    def matches(self, text: str) -> Condition:
        """Full text: all words of ``text``; ``"a phrase"``, ``pre*``, ``OR``, ``-without``."""
        return Matches(self._path, text)

    def __neg__(self) -> str:
        """Descending, for ``order_by(-F.depth_m)``."""
        return f"-{self._path}"

    def __bool__(self) -> bool:
        raise InvalidQuery(
            f"The field {self._path} is not true or false by itself.",
            action=f"Compare it: F.{self._path} == True; combine with & | ~ and parentheses.",
        )

    def _operator(self, _other: object = None) -> NoReturn:
        raise InvalidQuery(
            f"& | ~ stand between conditions, not next to the field {self._path}: they bind more "
            "tightly than comparisons.",
            action="Put parentheses around each comparison: (F.a > 1) & (F.b < 2).",
        )

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _operator

    def __invert__(self) -> NoReturn:
        self._operator()

    def __contains__(self, value: object) -> bool:
        raise InvalidQuery(
            f"`in` cannot build a condition on {self._path}.",
            action="Use .contains(value) for an element of an array, .any_of(...) for a choice.",
        )

    def __iter__(self) -> NoReturn:
        raise InvalidQuery(f"The field {self._path} cannot be iterated: it names a field.")

    def __repr__(self) -> str:
        return f"F.{self._path}"


class Fields:
    """The root: ``F.name`` and ``F["name"]``. It has no methods, so every name is a field."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Field:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return Field(name)

    def __getitem__(self, name: str) -> Field:
        return Field(_name(name))

    def __repr__(self) -> str:
        return "F"


F: Final = Fields()


def fields(model: type[M]) -> M:
    """The same fields as ``F``, but typed as the model, so that a type checker knows their names:
    ``W = hp.fields(Well); wells.where(W.depth_m > 2000)``."""
    if not isinstance(model, type):
        raise InvalidQuery(f"fields() takes a model class, not {model!r:.60}.")
    return cast("M", F)


def _name(name: object) -> str:
    if not isinstance(name, str) or not name or "" in name.split("."):
        raise InvalidQuery(f"F[...] takes the name or dotted path of a field, not {name!r}.")
    return name


def _value(value: object) -> object:
    if isinstance(value, (Field, Fields, Condition)):
        raise InvalidQuery(
            f"A field is compared with a value, not with {value!r}.",
            action="Use filter(lambda doc: ...) to compare two fields of one document.",
        )
    return value


def _many(values: tuple[object, ...]) -> tuple[object, ...]:
    if len(values) == 1 and isinstance(values[0], (list, tuple, set, frozenset)):
        values = tuple(values[0])
    return tuple(_value(value) for value in values)
