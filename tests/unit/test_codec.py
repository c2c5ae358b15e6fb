"""Documents to rows and back, for every kind of model, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NotRequired, TypedDict
from uuid import UUID

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.core import plain as plain_values
from homeport.core.codec import Codec, Table
from homeport.core.keys import encode
from homeport.core.rowbuilder import odd_names
from homeport.core.schema import Collection, FullText, Multi
from homeport.errors import InvalidDocument, InvalidKey, SchemaError, ValidationFailed

MAX = 2**53


class Mood(Enum):
    OIL = "oil"
    GAS = "gas"


class Position(msgspec.Struct):
    lat: float
    lng: float | None = None


class Well(msgspec.Struct):
    id: str = ""
    depth_m: float = 0.0
    count: int = 0
    tags: list[str] = []
    position: Position | None = None
    mood: Mood = Mood.OIL
    drilled: datetime | None = None
    started: date | None = None
    uuid: UUID | None = None
    extra: dict[str, Any] = {}


class Plain(msgspec.Struct):
    id: str
    name: str
    depth_m: float
    count: int = 0


class Frozen(msgspec.Struct, frozen=True):
    id: str = ""
    n: int = 0


@dataclasses.dataclass
class DataWell:
    id: str = ""
    depth_m: float = 0.0


@dataclasses.dataclass(frozen=True)
class FrozenData:
    id: str = ""


class TypedWell(TypedDict):
    id: NotRequired[str]
    depth_m: float


class PydWell(pydantic.BaseModel):
    id: str = ""
    depth_m: float = pydantic.Field(default=0.0, alias="depthM")
    drilled: datetime | None = None
    model_config = pydantic.ConfigDict(populate_by_name=True)


class PydFrozen(pydantic.BaseModel):
    id: str = ""
    model_config = pydantic.ConfigDict(frozen=True)


@attrs.define
class AttrsWell:
    id: str = ""
    depth_m: float = 0.0


@attrs.frozen
class AttrsFrozen:
    id: str = ""
    depth_m: float = 0.0


names = st.text(st.characters(codec="utf-8", exclude_characters="\x00."), min_size=1, max_size=4)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX, MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=6)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
documents = st.dictionaries(names | st.sampled_from(["id", "a", "b"]), values, max_size=5)
DICTS: Codec[dict[str, Any]] = Codec(
    Collection("x", indexes=["a", ("a", "b.c"), "d-e", Multi("t"), Multi("a", "t"), FullText("n")])
)


@given(documents)
def test_a_document_comes_back_as_it_was(document: dict[str, Any]) -> None:
    document = {**document, "id": "k"}
    row = DICTS.row(document)
    back = DICTS.decode(row[1])
    assert back == document
    assert repr(back) == repr(document)  # types and the order of names as well
    assert row[0] == "k"
    assert DICTS.columns == ("a", "b.c", "d-e")
    b = document.get("b")
    inner = b.get("c") if isinstance(b, dict) else None
    assert row[2:] == (encode(document.get("a")), encode(inner), encode(document.get("d-e")))
    assert DICTS.row_of_text(row[1]) == row == DICTS.row_of_plain(document)
    assert DICTS.extras(document) == DICTS.extras_of_text(row[1])


bad_values = (
    st.sampled_from([math.nan, math.inf, -math.inf, MAX + 1, -MAX - 1, 10**30, "a\x00", "\ud800"])
    | st.sampled_from([(1, 2), {1}, b"x", Decimal(1), UUID(int=1), date.min, Mood.OIL, object()])
    | st.sampled_from([{1: 2}, {"a.b": 1}, {"a\x00": 1}, {"": 1}, {None: 1}, {"\udfff": 1}])
)


@given(documents, st.lists(st.sampled_from(["x", 0]), max_size=4), bad_values, st.booleans())
def test_one_bad_value_anywhere_is_refused(
    document: dict[str, Any], way: list[Any], bad: Any, alone: bool
) -> None:
    for step in way:
        bad = {step: bad} if isinstance(step, str) else ([bad] if alone else [1, bad, "z"])
    document = {**document, "id": "k", "bad": bad}
    with pytest.raises(InvalidDocument) as caught:
        DICTS.row(document)
    assert "bad" in caught.value.message
    with pytest.raises(InvalidDocument):
        DICTS.row_of_plain(document)


@given(documents, st.sampled_from(["a.b", ".", "a.", ".b", 'x".', "y.\\", "z.\n", 'q.":', "k.:"]))
def test_a_dot_in_a_name_never_passes_the_cheap_test(doc: dict[str, Any], name: str) -> None:
    assert odd_names(msgspec.json.encode({**doc, name: 1}))
    assert odd_names(msgspec.json.encode({"w": [{**doc, name: doc}]}))


@given(documents)
def test_the_fast_walk_accepts_only_what_the_exact_one_does(document: dict[str, Any]) -> None:
    assert plain_values.all_json(document, set(), 0)
    plain_values.refuse(document)


def test_long_lists_are_proved_by_type() -> None:
    for good in ([1.5] * 1000, [1, MAX, -MAX], ["a"] * 9, [{"a": 1}] * 9, [1, "a", None, 2.5, [1]]):
        assert DICTS.row({"id": "k", "v": good})
    for bad in ([1.5, math.nan], [1.5, math.inf, -math.inf], [1, MAX + 1], ["a", 1, math.nan]):
        with pytest.raises(InvalidDocument, match="v\\["):
            DICTS.row({"id": "k", "v": bad})
    # Finite numbers whose sum is not: the doubt is settled by the exact walk.
    assert DICTS.row({"id": "k", "v": [1.7e308] * 9})


def test_depth_and_loops_are_limited() -> None:
    deep: Any = 1
    for _ in range(plain_values.MAX_DEPTH + 5):
        deep = {"a": deep}
    with pytest.raises(InvalidDocument, match="deep"):
        DICTS.row({"id": "k", "v": deep})
    loop: dict[str, Any] = {"id": "k"}
    loop["v"] = loop
    with pytest.raises(InvalidDocument, match="deep"):
        DICTS.row(loop)


def test_text_that_looks_like_an_escape_is_fine() -> None:
    document = {"id": "k", "v": "\\u0000 and \\ud800", "digits": 0.12345678901234568}
    assert DICTS.decode(DICTS.row(document)[1]) == document


def test_keys_of_documents() -> None:
    assert DICTS.row({"a": 1})[0] is None
    assert DICTS.row({"id": ""})[0] is None
    assert DICTS.row({"id": 7})[0] == 7
    assert DICTS.with_key({"a": 1}, "n") == {"a": 1, "id": "n"}
    for bad in (True, {"a": 1}, [None]):
        with pytest.raises(InvalidKey):
            DICTS.row({"id": bad})
    with pytest.raises(InvalidKey, match="no usable key"):
        DICTS.row_of_text('{"a":1}')


def test_rule_g_a_stored_text_is_never_refused() -> None:
    text = '{"id":"k","a":123456789012345678901234567890,"x.y":"\\u0000"}'
    assert DICTS.row_of_text(text)[:3] == ("k", text, None)
    strict = Codec(Collection("s", schema={"required": ["a"]}))
    assert strict.row_of_text('{"id":"k"}') == ("k", '{"id":"k"}')
    typed = Codec(Collection("p", Plain, indexes=["depth_m"]))
    assert typed.row_of_text('{"id":"k","depth_m":"deep"}')[2] == "deep"


def test_extras() -> None:
    document = {"id": "k", "a": 1, "t": ["x", "y", "x", None, 2], "n": ["one", 2, "two"]}
    multi, texts = DICTS.extras(document)
    assert multi == (("x", "y", 2), tuple(encode([1, v]) for v in ("x", "y", 2)))
    assert texts == ("one\x1etwo",)
    assert DICTS.extras({"id": "k", "t": "x", "n": 5}) == (((), ()), ("",))
    assert DICTS.extras({"id": "k", "t": ["x"], "n": "T"}) == ((("x",), ()), ("T",))


MODELS = [
    (Plain, Plain(id="k", name="n", depth_m=2.5)),
    (Frozen, Frozen(id="k", n=3)),
    (DataWell, DataWell(id="k", depth_m=2.5)),
    (FrozenData, FrozenData(id="k")),
    (TypedWell, {"id": "k", "depth_m": 2.5}),
    (PydWell, PydWell(id="k", depth_m=2.5, drilled=datetime(2026, 1, 1, tzinfo=timezone.utc))),
    (PydFrozen, PydFrozen(id="k")),
    (AttrsWell, AttrsWell(id="k", depth_m=2.5)),
    (AttrsFrozen, AttrsFrozen(id="k", depth_m=2.5)),
    (
        Well,
        Well(
            id="k",
            tags=["a"],
            position=Position(1.0),
            mood=Mood.GAS,
            drilled=datetime(2026, 1, 1, tzinfo=timezone.utc),
            started=date(2026, 1, 1),
            uuid=UUID(int=5),
            extra={"a": [1]},
        ),
    ),
]


@pytest.mark.parametrize(("model", "document"), MODELS, ids=[m.__name__ for m, _ in MODELS])
def test_every_kind_of_model_round_trips(model: Any, document: Any) -> None:
    codec: Codec[Any] = Codec(Collection("w", model))
    row = codec.row(document)
    assert row[0] == "k"
    back = codec.decode(row[1])
    assert back == document and type(back) is type(document)
    assert codec.decode_list(f"[{row[1]},{row[1]}]") == [document, document]
    assert codec.plain(document) == msgspec.json.decode(row[1])
    assert codec.key_of(document) == "k"
    assert codec.row_of_text(row[1]) == row == codec.row_of_plain(codec.plain(document))


@pytest.mark.parametrize("model", [m for m, _ in MODELS if m not in (Plain, TypedWell)])
def test_a_missing_key_is_filled(model: Any) -> None:
    codec: Codec[Any] = Codec(Collection("w", model))
    empty = model()
    assert codec.row(empty)[0] is None and codec.key_of(empty) is None
    filled = codec.with_key(empty, "new")
    assert codec.row(filled)[0] == "new"
    frozen = model.__name__.endswith("Frozen") or model in (Frozen, FrozenData)
    assert (filled is empty) is not frozen


def test_index_columns_of_a_model() -> None:
    codec = Codec(
        Collection(
            "w",
            Well,
            indexes=["depth_m", "position.lat", "mood", "drilled", "started", "uuid", "extra.a.b"]
            + ["count"],
        )
    )
    offset = timezone(timedelta(hours=2))
    well = Well(
        id="k",
        depth_m=1.5,
        position=Position(61.0),
        drilled=datetime(2026, 1, 1, 12, 30, tzinfo=offset),
        started=date(2026, 1, 2),
        uuid=UUID(int=5),
        extra={"a": {"b": "x"}},
        count=3,
    )
    row = codec.row(well)
    assert row[2:] == (
        1.5, 61.0, "oil", "2026-01-01T10:30:00.000000Z", "2026-01-02", str(UUID(int=5)), "x", 3,
    )  # fmt: skip
    assert codec.row_of_text(row[1]) == row
    assert codec.row(Well(id="k"))[2:] == (0.0, None, "oil", None, None, None, None, 0)
    assert codec.decode(row[1]) == well


def test_times_sort_as_text() -> None:
    codec = Codec(Collection("w", Well, indexes=["drilled"]))
    times = [
        datetime(2026, 1, 1, 12, 30, tzinfo=timezone(timedelta(hours=2))),
        datetime(2026, 1, 1, 10, 30, 0, 500, tzinfo=timezone.utc),
        datetime(2026, 1, 1, 6, 30, 1, tzinfo=timezone(timedelta(hours=-4))),
    ]
    rows = [codec.row(Well(id="k", drilled=time)) for time in times]
    columns = [row[2] for row in rows]
    assert columns == sorted(columns)
    assert all(f'"{row[2]}"' in row[1] for row in rows)  # a scan of the text sees the same
    with pytest.raises(InvalidKey, match="time zone"):
        codec.row(Well(id="k", drilled=datetime(2026, 1, 1)))
    # Not indexed, a time without a zone is kept without one.
    free = Codec(Collection("w", Well))
    assert free.decode(free.row(Well(id="k", drilled=datetime(2026, 1, 1)))[1]).drilled == datetime(
        2026, 1, 1
    )


@pytest.mark.parametrize(
    ("document", "error", "words"),
    [
        (Plain(id="k", name=5, depth_m=1.0), ValidationFailed, "Plain: name: "),  # type: ignore[arg-type]
        (Plain(id="k", name="n", depth_m=math.nan), InvalidDocument, "depth_m is nan"),
        (Plain(id="k", name="a\x00", depth_m=1.0), InvalidDocument, "name holds"),
        (Plain(id="k", name="\ud800", depth_m=1.0), InvalidDocument, "name holds a lone"),
        (Plain(id="k", name="n", depth_m=1.0, count=MAX + 1), InvalidDocument, "count is"),
        ({"id": "k"}, InvalidDocument, "Plain, not dict"),
        (None, InvalidDocument, "Plain, not NoneType"),
    ],
)
def test_models_refuse(document: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Codec(Collection("w", Plain)).row(document)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tags": ("a",)}, "tags holds a tuple"),
        ({"extra": {"a.b": 1}}, "dot"),
        ({"extra": {"a": {"n": MAX + 1}}}, "extra.a.n"),
        ({"extra": {"a": math.inf}}, "extra.a is inf"),
        ({"extra": {"when": datetime(2026, 1, 1, tzinfo=timezone.utc)}}, "extra"),
        ({"extra": {"s": {1}}}, "extra"),
        ({"position": Position(math.nan)}, "position.lat"),
    ],
)
def test_models_refuse_inside(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidDocument, match=words):
        Codec(Collection("w", Well)).row(Well(id="k", **change))


def test_unknown_fields_of_a_typed_dict_are_refused() -> None:
    codec: Codec[Any] = Codec(Collection("w", TypedWell))
    with pytest.raises(InvalidDocument, match="more"):
        codec.row({"id": "k", "depth_m": 1.0, "more": 1})


def test_a_stored_document_that_does_not_fit_says_which() -> None:
    codec = Codec(Collection("wells", Plain))
    good = '{"id":"a","name":"n","depth_m":1}'
    with pytest.raises(ValidationFailed, match="'b' of wells does not fit Plain"):
        codec.decode_list(f'[{good},{{"id":"b"}}]')
    with pytest.raises(ValidationFailed, match="missing required field `name`"):
        codec.decode('{"id":"b"}')


class Inner(msgspec.Struct):
    id: str
    v: int = 0


class Outer(msgspec.Struct):
    id: str
    one: Inner | None = None
    many: list[Inner] = []
    by_name: dict[str, Inner] = {}
    free: dict[str, Any] = {}
    pairs: list[Position] = []


def test_r15_unknown_fields_survive_a_write_at_every_depth() -> None:
    codec = Codec(Collection("o", Outer))
    old = {
        "id": "k", "new": [1], "one": {"id": "i", "v": 1, "deep": {"x": 1}},
        "many": [{"id": "a", "v": 1, "n": "A"}, {"id": "b", "v": 2, "n": "B"}],
        "by_name": {"p": {"id": "p", "v": 1, "n": 1}, "q": {"id": "q", "v": 1, "n": 2}},
        "free": {"gone": 1, "stays": 2},
        "pairs": [{"lat": 1.0, "lng": None, "alt": 9}],
    }  # fmt: skip
    document = codec.decode(msgspec.json.encode(old).decode())
    assert document.one is not None
    document.one.v = 5
    document.many = [document.many[1], Inner("c")]
    del document.by_name["q"]
    document.free = {"stays": 3}
    document.pairs[0].lat = 2.0
    new = codec.row(document)[1]
    merged = msgspec.json.decode(codec.merge_unknown(msgspec.json.encode(old).decode(), new))
    assert merged == {
        "id": "k", "new": [1], "one": {"id": "i", "v": 5, "deep": {"x": 1}},
        "many": [{"id": "b", "v": 2, "n": "B"}, {"id": "c", "v": 0}],
        "by_name": {"p": {"id": "p", "v": 1, "n": 1}},
        "free": {"stays": 3},
        "pairs": [{"lat": 2.0, "lng": None, "alt": 9}],
    }  # fmt: skip
    assert codec.merge_unknown(new, new) == new


def test_r15_what_the_model_removed_stays_removed() -> None:
    codec = Codec(Collection("o", Outer))
    old = '{"id":"k","one":{"id":"i","v":1,"x":1},"free":{"a":1}}'
    new = codec.row(Outer("k"))[1]
    merged = msgspec.json.decode(codec.merge_unknown(old, new))
    assert merged["one"] is None and merged["free"] == {}
    assert DICTS.merge_unknown('{"id":"k","a":1}', '{"id":"k"}') == '{"id":"k"}'


class Circle(msgspec.Struct, tag="circle"):
    id: str
    r: float


class Square(msgspec.Struct, tag="square"):
    id: str
    side: float


class Drawing(msgspec.Struct):
    id: str
    shape: Circle | Square


def test_r15_another_tag_is_another_thing() -> None:
    codec = Codec(Collection("d", Drawing))
    old = '{"id":"k","shape":{"type":"circle","id":"s","r":1.0,"x":1}}'
    same = codec.row(Drawing("k", Circle("s", 2.0)))[1]
    other = codec.row(Drawing("k", Square("s", 2.0)))[1]
    assert msgspec.json.decode(codec.merge_unknown(old, same))["shape"]["x"] == 1
    assert "x" not in msgspec.json.decode(codec.merge_unknown(old, other))["shape"]
    assert codec.check_path("shape.type") == "shape.type"


class Node(msgspec.Struct):
    id: str
    child: Node | None = None


def test_models_may_refer_to_themselves() -> None:
    codec = Codec(Collection("n", Node))
    document = Node("a", Node("b", Node("c")))
    assert codec.decode(codec.row(document)[1]) == document
    assert codec.check_path("child.child.child.id") == "child.child.child.id"
    merged = codec.merge_unknown(
        '{"id":"a","child":{"id":"b","x":1,"child":{"id":"c","y":2}}}', codec.row(document)[1]
    )
    assert '"x":1' in merged and '"y":2' in merged


def test_json_schema_is_checked_on_writes() -> None:
    schema = {
        "properties": {"depth_m": {"minimum": 0}, "pos": {"properties": {"lat": {"type": "number"}}}},
        "required": ["depth_m"],
    }
    codec = Codec(Collection("wells", schema=schema))
    assert codec.row({"id": "k", "depth_m": 1})
    for document, words in (
        ({"id": "k", "depth_m": -1}, "depth_m of wells.*minimum"),
        ({"id": "k"}, "The document of wells.*required"),
        ({"id": "k", "depth_m": 1, "pos": {"lat": "x"}}, "pos.lat of wells"),
    ):
        with pytest.raises(ValidationFailed, match=words):
            codec.row(document)
        with pytest.raises(ValidationFailed, match=words):
            codec.row_of_plain(document)
    with pytest.raises(SchemaError, match="no JSON Schema"):
        Codec(Collection("wells", schema={"type": "nonsense"}))


def test_pydantic_aliases_that_differ_are_refused() -> None:
    class Torn(pydantic.BaseModel):
        id: str
        n: int = pydantic.Field(validation_alias="in", serialization_alias="out")

    with pytest.raises(SchemaError, match="written as 'out' but read as 'in'"):
        Collection("t", Torn)


def test_conversions() -> None:
    codec = Codec(Collection("w", Well))
    assert codec.convert("mood", Mood.GAS) == "gas"
    assert codec.convert("uuid", UUID(int=1)) == str(UUID(int=1))
    assert codec.convert("depth_m", Decimal("2.5")) == 2.5
    assert codec.convert("position", Position(1.0)) == {"lat": 1.0, "lng": None}
    assert codec.convert("tags", ("a",)) == ["a"]
    assert codec.fingerprint != Codec(Collection("p", Plain)).fingerprint
    assert "position.lat" in codec.paths()


def test_a_class_without_equality_is_accepted() -> None:
    class Odd(msgspec.Struct, eq=False):
        id: str
        n: int = 0

    codec = Codec(Collection("odd", Odd))
    assert codec.row(Odd("k", 3)) == ("k", '{"id":"k","n":3}')


def test_tables() -> None:
    table = Table(Collection("wells", Plain))
    assert (table.name, table.synced, table.keep_unknown, table.policy) == (
        "wells", False, False, "merge",
    )  # fmt: skip
    table.synced = True
    assert repr(table) == "Table('wells', synced)"
