"""The tree of conditions.

``F`` and the JSON form build the same tree (``core/fields.py``, ``core/jsonfilter.py``); what a
condition means is said by ``core/evaluate.py``, and every engine has to agree with it:

- A comparison looks at values of the type of its operand only: ``> 5`` matches numbers, never text.
- ``!=``, ``none_of`` and ``~`` are exact negations, so they match documents without the field too.
- ``== None`` matches JSON null; a missing field is matched by ``is_missing()`` alone.
- ``Range`` is Dexie's: it runs over the total order of all keys, through all types.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, NoReturn, TypeAlias

from homeport.core.arguments import shown
from homeport.core.keys import Encoded, encode
from homeport.core.textquery import parse
from homeport.errors import InvalidQuery

Operator: TypeAlias = Literal["==", "!=", "<", "<=", ">", ">="]
OPERATORS: Final = ("==", "!=", "<", "<=", ">", ">=")


JSON_TYPES: Final = ("null", "boolean", "number", "string", "array", "object")
"""What ``OfType`` knows."""

_FLAGS: Final = {"i": re.IGNORECASE, "m": re.MULTILINE, "s": re.DOTALL, "x": re.VERBOSE}
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
            f"{path} cannot be compared with {shown(value)}: it has no place in the order of keys.",
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
    """Full text: what ``text`` asks for (``core/textquery.py``) occurs."""

    __slots__ = ("path", "text")

    def __init__(self, path: str, text: str) -> None:
        if not isinstance(text, str):
            raise InvalidQuery(f"matches() on {path} takes a text, not {text!r:.60}.")
        parse(text)  # a query that is too large is refused here
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

    @property
    def is_equality(self) -> bool:
        """Dexie's ``equals``: one value, which needs no order."""
        closed = self.lower is not None and not (self.lower_open or self.upper_open)
        return closed and self.lower is self.upper


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


class Element(Condition):
    """An array with at least one element that satisfies ``item``. Paths in ``item`` begin at the
    element; the empty path is the element itself."""

    __slots__ = ("path", "item")  # noqa: RUF023

    def __init__(self, path: str, item: Condition) -> None:
        self.path = path
        self.item = as_condition(item)


class Size(Condition):
    """An array of exactly so many elements."""

    __slots__ = ("path", "size")

    def __init__(self, path: str, size: int) -> None:
        if type(size) is not int or size < 0:
            raise InvalidQuery(f"The size of {path} is a whole number from 0, not {size!r:.60}.")
        self.path = path
        self.size = size


class OfType(Condition):
    """A value of one of these types of JSON."""

    __slots__ = ("path", "types")

    def __init__(self, path: str, types: Iterable[str]) -> None:
        self.path = path
        self.types = tuple(types)
        for name in self.types:
            if name not in JSON_TYPES:
                raise InvalidQuery(
                    f"{path} cannot be of the type {name!r:.60}: JSON has none of that name.",
                    action=f"Use one of {', '.join(JSON_TYPES)}.",
                )


class Modulo(Condition):
    """A whole number that leaves ``remainder`` when divided; the remainder has the sign of the
    number, as in MongoDB and JavaScript: ``-7`` by 4 leaves ``-3``."""

    __slots__ = ("path", "divisor", "remainder")  # noqa: RUF023

    def __init__(self, path: str, divisor: int, remainder: int) -> None:
        if type(divisor) is not int or type(remainder) is not int or divisor == 0:
            raise InvalidQuery(
                f"A remainder on {path} takes two whole numbers, the first not 0, not "
                f"{divisor!r:.40} and {remainder!r:.40}."
            )
        self.path = path
        self.divisor = divisor
        self.remainder = remainder


class Pattern(Condition):
    """A text in which a regular expression of Python's ``re`` is found. flags: of ``imsx``."""

    __slots__ = ("path", "pattern", "flags")  # noqa: RUF023

    def __init__(self, path: str, pattern: str, flags: str = "") -> None:
        self.path = path
        self.pattern = pattern
        self.flags = flags
        self.compiled()

    def compiled(self) -> re.Pattern[str]:
        """The expression; ``re`` remembers it. Raises ``InvalidQuery`` for a wrong one."""
        if not isinstance(self.pattern, str) or not isinstance(self.flags, str):
            raise InvalidQuery(
                f"A regular expression on {self.path} is a text, not {self.pattern!r:.60}.",
                action='Give the pattern as text, flags as "imsx".',
            )
        flags = 0
        for letter in self.flags:
            if letter not in "imsx":
                raise InvalidQuery(
                    f"A regular expression on {self.path} has no flag {letter!r}.",
                    action="Use i (ignore case), m (lines), s (dot is any) and x (verbose).",
                )
            flags |= _FLAGS[letter]
        try:
            return re.compile(self.pattern, flags)
        except (re.error, OverflowError) as error:
            raise InvalidQuery(
                f"{self.pattern!r:.80} on {self.path} is no regular expression: {error}."
            ) from error


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
