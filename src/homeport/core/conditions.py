"""The tree of conditions.

``F`` and the JSON form build the same tree (``core/fields.py``, ``core/jsonfilter.py``); what a
condition means is said by ``core/evaluate.py``, and every engine has to agree with it:

- A comparison looks at values of the type of its operand only: ``> 5`` matches numbers, never text.
- ``!=``, ``none_of`` and ``~`` are exact negations, so they match documents without the field too.
- ``== None`` matches JSON null; a missing field is matched by ``is_missing()`` alone.
- ``Range`` is Dexie's: it runs over the total order of all keys, through all types.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NoReturn, TypeAlias

from homeport.core.keys import Encoded, encode
from homeport.errors import InvalidQuery

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")


_PLAIN: Final = (str, int, float, dict, list, tuple, set, frozenset, bytes, bytearray)


def bracket(encoded: Encoded) -> int:
    """The type of an encoded key as a number: 0 number, 1 text, 2 boolean, 3 binary, 4 array."""
    if isinstance(encoded, str):
        return 1
    return encoded[0] + 1 if isinstance(encoded, bytes) else 0


def comparable(value: object, path: str) -> Encoded:
    """The encoded form of an operand that needs an order.

    A date, a UUID, an enum … has its form from the model: it passes here as text, and is examined
    when the condition is bound and made again from the stored form.
    """
    encoded = encode(value)
    if encoded is None and not (value is None or isinstance(value, _PLAIN)):
        return ""
    if encoded is None:
        raise InvalidQuery(
            f"{path} cannot be compared with {value!r:.60}: it has no place in the order of keys.",
            action="Compare with a number, a text, a boolean or a list; use == None for null and "
            "is_missing() for a missing field.",
        )
    return encoded


class Condition:
    """Base of the tree. Conditions combine with ``&``, ``|`` and ``~``."""

    __slots__: tuple[str, ...] = ()
    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Condition) -> Condition:
        return And((self, as_condition(other)))

    def __or__(self, other: Condition) -> Condition:
        return Or((self, as_condition(other)))

    def __invert__(self) -> Condition:
        return self.item if isinstance(self, Not) else Not(self)

    def __rand__(self, other: object) -> NoReturn:
        as_condition(other)
        raise AssertionError

    __ror__ = __rand__

    def __bool__(self) -> bool:
        raise InvalidQuery(
            "A condition is not true or false until it meets a document: `and`, `or`, `not`, `in` "
            "and chained comparisons cannot work here.",
            action="Use & | ~ with parentheses, between() and any_of().",
        )

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Condition)
            and type(self) is type(other)
            and self._values() == other._values()
        )

    def _values(self) -> tuple[Any, ...]:
        return tuple((type(v), v) for v in (getattr(self, name) for name in self.__slots__))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(repr(getattr(self, n)) for n in self.__slots__)})"


def as_condition(value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    raise InvalidQuery(
        f"{value!r:.60} is not a condition.",
        action="Give a function to filter()."
        if callable(value)
        else "Write conditions such as F.a > 1, each in parentheses when joined: "
        "(F.a > 1) & (F.b < 2).",
    )


class Compare(Condition):
    """``path op value`` on values of the operand's type."""

    __slots__ = ("path", "op", "value")  # noqa: RUF023

    def __init__(self, path: str, op: Operator, value: object) -> None:
        if op not in OPERATORS:
            raise InvalidQuery(f"There is no comparison {op!r}.")
        if op not in ("==", "!="):
            comparable(value, path)
        self.path = path
        self.op: Operator = op
        self.value = value


class Between(Condition):
    """low ≤ value ≤ high, both of one type; ``*_open`` leaves the bound itself out."""

    __slots__ = ("path", "low", "high", "low_open", "high_open")  # noqa: RUF023

    def __init__(
        self, path: str, low: object, high: object, low_open: bool = False, high_open: bool = False
    ) -> None:
        if bracket(comparable(low, path)) != bracket(comparable(high, path)):
            raise InvalidQuery(f"between({low!r}, {high!r}) on {path} mixes two types.")
        self.path = path
        self.low = low
        self.high = high
        self.low_open = low_open
        self.high_open = high_open


class AnyOf(Condition):
    """The value equals one of these."""

    __slots__ = ("path", "values")

    def __init__(self, path: str, values: Iterable[object]) -> None:
        self.path = path
        self.values = tuple(values)


class StartsWith(Condition):
    """A text that begins with ``prefix``."""

    __slots__ = ("path", "prefix")

    def __init__(self, path: str, prefix: str) -> None:
        if not isinstance(prefix, str):
            raise InvalidQuery(f"starts_with() on {path} takes a text, not {prefix!r:.60}.")
        self.path = path
        self.prefix = prefix


class Missing(Condition):
    """The document has no such field (null is a value, not missing)."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


class Contains(Condition):
    """An array with an element equal to ``value``."""

    __slots__ = ("path", "value")

    def __init__(self, path: str, value: object) -> None:
        self.path = path
        self.value = value


class Matches(Condition):
    """Full text: every word, ``prefix*`` and ``"quoted phrase"`` of ``text`` occurs."""

    __slots__ = ("path", "text")

    def __init__(self, path: str, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidQuery(f"matches() on {path} takes a text, not {text!r:.60}.")
        self.path = path
        self.text = text


class Range(Condition):
    """A range of the total order of keys; None = open end. Values that are no keys are outside."""

    __slots__ = ("path", "lower", "upper", "lower_open", "upper_open")  # noqa: RUF023

    def __init__(
        self,
        path: str,
        lower: object = None,
        upper: object = None,
        lower_open: bool = False,
        upper_open: bool = False,
    ) -> None:
        for bound in (lower, upper):
            if bound is not None:
                comparable(bound, path)
        self.path = path
        self.lower = lower
        self.upper = upper
        self.lower_open = lower_open
        self.upper_open = upper_open


class IgnoreCase(Condition):
    """A text equal to (or, with ``prefix``, beginning with) one of these, case-folded."""

    __slots__ = ("path", "values", "prefix")  # noqa: RUF023

    def __init__(self, path: str, values: Iterable[str], prefix: bool = False) -> None:
        self.path = path
        self.values = tuple(values)
        self.prefix = prefix
        for value in self.values:
            if not isinstance(value, str):
                raise InvalidQuery(f"Ignoring case on {path} takes texts, not {value!r:.60}.")


class And(Condition):
    """All of these; nested ones are flattened. No items = true."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Condition]) -> None:
        self.items = tuple(_flatten(items, And))


class Or(Condition):
    """One of these; nested ones are flattened. No items = false."""

    __slots__ = ("items",)

    def __init__(self, items: Iterable[Condition]) -> None:
        self.items = tuple(_flatten(items, Or))


def _flatten(items: Iterable[Condition], kind: type[And | Or]) -> Iterator[Condition]:
    for item in items:
        if isinstance(item, (And, Or)) and type(item) is kind:
            yield from item.items
        else:
            yield as_condition(item)


class Not(Condition):
    """Exactly the documents that ``item`` does not match."""

    __slots__ = ("item",)

    def __init__(self, item: Condition) -> None:
        self.item = as_condition(item)
