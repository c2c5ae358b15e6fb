"""Import and export: every format there and back, files that are wrong, files that are large."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.errors import CannotOpen, FormatError, QuotaExceeded, TransactionError, UsageError

DOCS = hp.Collection("docs", indexes=["n", hp.Multi("tags")])
FORMATS = ["json", "ndjson", "csv", "parquet"]


@pytest.fixture(params=["memory", "file"])
def db(request: Any, tmp_path: Path) -> Iterator[hp.Database]:
    path = ":memory:" if request.param == "memory" else tmp_path / "field.db"
    with hp.open(path, collections=[DOCS], durability="relaxed") as db:
        yield db


def fresh(*collections: Any) -> hp.Database:
    return hp.open(":memory:", collections=collections or [DOCS])


def read(text: str | bytes, name: str = "x.ndjson", **options: Any) -> tuple[list[Any], hp.LoadReport]:
    """Documents of a file with this content, in the order of their keys, and the report."""
    data = text.encode() if isinstance(text, str) else text
    with fresh() as db:
        kind = name.rpartition(".")[2]
        report = db[DOCS].import_from(io.BytesIO(data), {"tsv": "csv"}.get(kind, kind), **options)
        return db[DOCS].order_by("id").all(), report


# -- there and back

TEXTS = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8
) | st.sampled_from(
    ["", "null", "true", "007", "1.50", "1e5", "-0", "12", "[1]", "{}", '"x"', "a,b", "l1\nl2", "\r",
     "\r\n", " x ", "9007199254740993", "NaN", "\ufeff", "\u2028"]
)  # fmt: skip
NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.sampled_from(["a", "b", "n", "tags", "ä b", 'q"x', "x,y", "l\nf"])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
DOCUMENTS = st.lists(st.dictionaries(NAMES, VALUES, max_size=5), max_size=6).map(
    lambda found: [{**doc, "id": f"k{n}"} for n, doc in enumerate(found)]
)
# What Parquet is good at: columns of one type.
TABLES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "a": TEXTS,
            "b": st.integers(-(2**53), 2**53),
            "n": st.floats(allow_nan=False, allow_infinity=False),
            "tags": st.lists(TEXTS, max_size=3),
            "inner": st.fixed_dictionaries({"x": NUMBERS}, optional={"y": TEXTS}),
        },
    ),
    max_size=6,
).map(lambda found: [{**doc, "id": f"k{n}"} for n, doc in enumerate(found)])


@pytest.mark.parametrize("kind", FORMATS)
def test_what_is_exported_comes_back_as_it_was(kind: str) -> None:
    source, target = fresh(), fresh()

    @settings(max_examples=150)
    @given(DOCUMENTS | TABLES)
    def there_and_back(documents: list[dict[str, Any]]) -> None:
        source[DOCS].clear()
        target[DOCS].clear()
        source[DOCS].put_many(documents)
        file = io.BytesIO()
        assert source[DOCS].export_to(file, kind).rows == len(documents)
        file.seek(0)
        report = target[DOCS].import_from(file, kind)
        assert report.rows == len(documents)
        came = target[DOCS].order_by("id").all()
        assert came == sorted(documents, key=lambda doc: doc["id"])
        if kind != "parquet":  # whole numbers in a column of fractions are fractions there
            assert [types(doc) for doc in came] == [types(doc) for doc in documents]

    there_and_back()
    source.close()
    target.close()


def types(value: Any) -> Any:
    """1, 1.0 and True are equal, and three different values."""
    if isinstance(value, dict):
        return {name: types(item) for name, item in sorted(value.items())}
    return [types(item) for item in value] if isinstance(value, list) else type(value)


class Well(msgspec.Struct):
    id: str
    name: str
    zip: str
    depth_m: float
    drilled: date
    seen: datetime | None = None
    active: bool = True
    tags: list[str] = []


WELLS = hp.Collection("wells", Well, indexes=["depth_m", hp.FullText("name")])


@pytest.mark.parametrize("kind", FORMATS)
def test_models_come_back_as_what_they_were(kind: str, tmp_path: Path) -> None:
    wells = [
        Well("w1", "007", "01234", 2810.5, date(2026, 3, 1)),
        Well("w2", "12", "99999", 1500, date(2026, 3, 2), datetime(2026, 1, 1, tzinfo=UTC), False),
        Well("w3", "true", "", 0.0, date(2026, 3, 3), None, True, ["oil", "1"]),
        Well("w4", "null", "00000", -1e300, date(2026, 3, 4)),
    ]
    with hp.open(tmp_path / "a.db", collections=[WELLS]) as db:
        db[WELLS].put_many(wells)
        db[WELLS].export_to(tmp_path / f"wells.{kind}")
        db[WELLS].clear()
        assert db[WELLS].import_from(tmp_path / f"wells.{kind}").rows == 4
        assert db[WELLS].order_by("id").all() == wells
        assert db[WELLS].where(hp.F.name.matches("007")).count() == 1


def test_a_model_reads_csv_of_other_programs(tmp_path: Path) -> None:
    file = tmp_path / "wells.csv"
    file.write_text(
        "id,name,zip,depth_m,drilled,active,unknown\n"
        "w1,1,01234,1.50,2026-03-01,true,x\n"
        "w2,2,99999,+2e3,2026-03-02,false,\n"
    )
    with fresh(WELLS) as db:
        assert db[WELLS].import_from(file).rows == 2
        one, two = db[WELLS].order_by("id").all()
        assert (one.name, one.zip, one.depth_m, one.active) == ("1", "01234", 1.5, True)
        assert (two.depth_m, two.drilled) == (2000.0, date(2026, 3, 2))
        file.write_text("id,name,zip,depth_m,drilled\nw3,x,1,deep,2026-01-01\n")
        with pytest.raises(hp.LoadFailed, match=r"wells.csv, line 2 .*depth_m") as caught:
            db[WELLS].import_from(file)
        assert caught.value.position == 2


# -- CSV: nothing is guessed that could lose something


def test_numbers_are_numbers_only_if_nothing_is_lost() -> None:
    text = (
        "id,zip,version,price,n,big,flag,mixed\n"
        "a,07001,1.10,1.50,1,12345678901234567890,true,1\n"
        "b,12345,1.9,2.25,-2.5,1,false,x\n"
    )
    (one, two), _ = read(text, "x.csv")
    assert one == {
        "id": "a", "zip": "07001", "version": "1.10", "price": "1.50", "n": 1,
        "big": "12345678901234567890", "flag": True, "mixed": "1",
    }  # fmt: skip
    assert two["zip"] == "12345" and two["n"] == -2.5 and two["big"] == "1" and two["mixed"] == "x"
    (one, _), _ = read(text, "x.csv", types={"price": "number", "n": "text", "flag": "text"})
    assert (one["price"], one["n"], one["flag"]) == (1.5, "1", "true")


def test_paths_lists_and_what_is_missing() -> None:
    text = 'id,casing.depth_m,casing.top,tags,note,gone\na,900,null,"[""x"",1]","",\nb,,1.5,[],z,\n'
    (one, two), _ = read(text, "x.csv")
    assert one == {"id": "a", "casing": {"depth_m": 900, "top": None}, "tags": ["x", 1]}
    assert two == {"id": "b", "casing": {"top": 1.5}, "tags": [], "note": "z"}
    ((one, _), _) = read("id,x\na,NA\nb,1\n", "x.csv", null="NA")
    assert one == {"id": "a", "x": None}
    (one, two), _ = read("id,x\na,null\nb,y\n", "x.csv", null=None)
    assert (one["x"], two["x"]) == ("null", "y")


def test_what_other_programs_write() -> None:
    want = [{"id": "a", "x": "one\r\ntwo, three"}, {"id": "b", "x": 'say "hi"'}]
    text = 'id,x\r\na,"one\r\ntwo, three"\r\nb,"say ""hi"""\r\n'
    for data in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16"), text.encode("utf-32")):
        assert read(data, "x.csv")[0] == want
    tabs = text.replace("two,", "two;").replace(",", "\t").replace(";", ",")
    assert read(tabs, "x.tsv", delimiter="\t")[0] == want
    (one,), _ = read("id,x\na,Grün\n".encode("cp1252"), "x.csv", encoding="cp1252")
    assert one["x"] == "Grün"
    assert read("id,x\n\n\na,1\n\n", "x.csv")[0] == [{"id": "a", "x": 1}]
    assert read("id\n", "x.csv")[0] == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("id,x\na,1,2\n", 2, "3 cells, and the header names 2"),
        ("id,x\na\n", 2, "1 cells"),
        ('id,x\na,"1"x\n', 2, "no row"),
        ('id,x\nb,1\na,"open\n', 3, "no row"),
        ("id,a,a.b\nk,1,2\n", 2, "contradicts"),
        ("id,x\na,x\rb,y\n", 2, "no row"),
        (b"id,x\na,\xff\n", 2, "not utf-8"),
    ],
)
def test_a_bad_row_is_named_by_its_line(text: str | bytes, line: int, words: str) -> None:
    with pytest.raises(hp.LoadFailed, match=words) as caught:
        read(text, "x.csv")
    assert caught.value.position == line and f"line {line} " in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no header"),
        ("id,,x\n", "no path"),
        ("id,x,x\n", "twice"),
        ("id,a..b\n", "no path"),
        ("PK\x03\x04id,n\n", "no CSV file"),
    ],
)
def test_a_header_that_says_nothing(text: str, words: str) -> None:
    with pytest.raises((FormatError, hp.LoadFailed), match=words):
        read(text + "a,1\n" if text else "", "x.csv")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_not_taken_for_one_column(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id{delimiter}zip\n1{delimiter}01234\n")
    rows = hp.Collection("rows")
    with hp.open(":memory:", collections=[rows]) as db:
        with pytest.raises(FormatError, match="is .* the delimiter"):
            db[rows].import_from(path)
        assert db[rows].count() == 0
        assert db[rows].import_from(path, delimiter=delimiter).rows == 1
        assert db[rows].get(1) == {"id": 1, "zip": "01234"}
        assert db[rows].import_from(path, delimiter=",").rows == 1


def test_a_file_that_is_open_for_text_is_refused() -> None:
    rows = hp.Collection("rows")
    with hp.open(":memory:", collections=[rows]) as db:
        for wrong in (io.StringIO("id\n1\n"), 5):
            with pytest.raises(hp.errors.UsageError, match="open for bytes"):
                db[rows].import_from(wrong, format="csv")  # type: ignore[arg-type]
            with pytest.raises(hp.errors.UsageError, match="open for bytes"):
                db[rows].export_to(wrong, format="csv")  # type: ignore[arg-type]


def test_types_are_checked() -> None:
    with pytest.raises(hp.LoadFailed, match=r"line 3 , column n: 'x' is no number") as caught:
        read("id,n\na,1\nb,x\n", "x.csv", types={"n": "number"})
    assert caught.value.position == 3
    for kind, good, value in [
        ("integer", "+7", 7), ("boolean", "TRUE", True), ("json", "[1]", [1]), ("text", "1", "1"),
    ]:  # fmt: skip
        (one,), _ = read(f"id,n\na,{good}\n", "x.csv", types={"n": kind})
        assert one["n"] == value and type(one["n"]) is type(value)
        if kind != "text":
            with pytest.raises(hp.LoadFailed, match="column n"):
                read("id,n\na,1.5x\n", "x.csv", types={"n": kind})
    with pytest.raises(UsageError, match="no type"):
        read("id,n\n", "x.csv", types={"n": "int"})
    with pytest.raises(UsageError, match="no column 'm'"):
        read("id,n\n", "x.csv", types={"m": "text"})
    with pytest.raises(UsageError, match="CSV"):
        read("{}", "x.ndjson", types={"m": "text"})


# -- JSON, one document on each line or in an array


def test_lines_that_are_wrong_are_told_and_the_others_are_stored() -> None:
    lines = [
        b'{"id": "a"}',
        b'{"id": "b", "x": NaN}',
        b'{"id": "c", "x": 1, "x": 2}',
        b'{"id": "d", "x": 12345678901234567890}',
        b'{"id": "e", "x": 1e999}',
        b"",
        b'["f"]',
        b'{"id": "g"',
        b'{"id": "h", "x": "\xff"}',
        b'{"id": "i", "x": "\\ud800"}',
        b'{"id": "j"} trailing',
        b'{"id": "k", "a.b": 1}',
        b"[" * 100_000,
        b'{"x": ' + b"9" * 5_000 + b"}",
        b'\r\n{"id": "z"}\r',
    ]
    data = b"\n".join(lines)
    documents, report = read(data, on_error="collect")
    assert [doc["id"] for doc in documents] == ["a", "z"]
    assert [place for place, _ in report.failures] == [2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14]
    told = {place: error.message for place, error in report.failures}
    assert "NaN" in told[2] and "'x' twice" in told[3] and "2**53" in told[4]
    assert "no object but a list" in told[7] and "not utf-8" in told[9] and "nested" in told[13]
    with pytest.raises(hp.LoadFailed, match=r"line 2 holds NaN.*0 before") as caught:
        read(data)
    assert (caught.value.position, caught.value.loaded) == (2, 0)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "does not begin"),
        ('{"id": "a"}', 1, "ndjson"),
        ('[{"id": "a"}', 1, "cut off"),
        ('[{"id": "a"},\n{"id": "b"', 2, "no JSON"),
        ('[{"id": "a"},\n\n{"id": "b", x}]', 3, "character 13"),
        ('[{"id": "a"}\n{"id": "b"}]', 2, "comma"),
        ('[{"id": "a"}]\n[]', 2, "behind the end"),
        ('[{"id": "a"},]', 1, "no JSON"),
        ("\xff[", 1, "not begin"),
    ],
)
def test_an_array_that_is_no_json(text: str, line: int, words: str) -> None:
    for options in ({}, {"on_error": "collect"}):
        with pytest.raises(FormatError, match=words) as caught:
            read(text, "x.json", **options)
        assert caught.value.line == line


def test_elements_of_an_array_that_are_wrong() -> None:
    text = '[{"id": "a"},\n 7,\n {"id": "b", "x": 1,\n "x": 2}, {"id": "c", "x": NaN},\n{"id":"d"}]'
    documents, report = read(text, "x.json", on_error="collect")
    assert [doc["id"] for doc in documents] == ["a", "d"]
    assert [place for place, _ in report.failures] == [2, 3, 4]
    with pytest.raises(hp.LoadFailed, match="line 2 holds no object"):
        read(text, "x.json")
    assert read(" [ ] \n", "x.json")[0] == []


@given(DOCUMENTS, st.integers(1, 40), st.sampled_from([None, 1]))
@settings(max_examples=60)
def test_an_array_is_read_alike_however_it_is_cut(
    documents: list[dict[str, Any]], size: int, indent: int | None
) -> None:
    """Pieces end anywhere: inside of names, numbers, escapes, characters."""
    data = json.dumps(documents, indent=indent, ensure_ascii=size % 2 == 0).encode()

    class Slow(io.BytesIO):
        def read(self, count: int | None = -1) -> bytes:
            return super().read(size)

    from homeport.interchange.files import Input
    from homeport.interchange.json_array import ArrayReader

    source = Input(Slow(data))
    source.text = lambda: _cut(data.decode(), size)  # type: ignore[method-assign]
    assert [doc for _, doc in ArrayReader(source).rows()] == documents


def _cut(text: str, size: int) -> Iterator[str]:
    for at in range(0, len(text), size):
        yield text[at : at + size]


# -- files


@pytest.mark.parametrize("kind", ["json", "ndjson", "csv"])
def test_gzip_goes_by_the_name(db: hp.Database, tmp_path: Path, kind: str) -> None:
    db[DOCS].put_many({"id": f"d{n}", "n": n} for n in range(100))
    file = tmp_path / f"x.{kind}.gz"
    report = db[DOCS].export_to(file)
    assert report.bytes == file.stat().st_size < len(gzip.decompress(file.read_bytes()))
    again = tmp_path / f"y.{kind}.gz"
    db[DOCS].export_to(again)
    assert file.read_bytes() == again.read_bytes(), "equal documents make equal files"
    db[DOCS].clear()
    assert db[DOCS].import_from(file).rows == 100
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises((FormatError, hp.LoadFailed), match="cut off"):
        db[DOCS].import_from(file)
    file.write_bytes(b"no gzip at all")
    with pytest.raises((FormatError, hp.LoadFailed), match="unpacked"):
        db[DOCS].import_from(file)


def test_names_that_say_no_format(db: hp.Database, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="format"):
        db[DOCS].export_to(tmp_path / "x.xlsx")
    with pytest.raises(UsageError, match="no format"):
        db[DOCS].export_to(tmp_path / "x", "xml")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="encoding"):
        (tmp_path / "x.csv").write_text("id\n")
        db[DOCS].import_from(tmp_path / "x.csv", encoding="klingon")
    with pytest.raises(CannotOpen, match="No such file"):
        db[DOCS].import_from(tmp_path / "none.csv")
    with pytest.raises(CannotOpen, match="cannot be written"):
        db[DOCS].export_to(tmp_path / "none" / "x.csv")
    with pytest.raises(UsageError, match="delimiter"):
        db[DOCS].export_to(tmp_path / "x.csv", delimiter=";;")
    with pytest.raises(UsageError, match="compressed inside"):
        db[DOCS].export_to(tmp_path / "x.parquet.gz")
    with pytest.raises(FormatError, match="Parquet"):
        (tmp_path / "x.parquet").write_bytes(b"PAR1 is not enough")
        db[DOCS].import_from(tmp_path / "x.parquet")
    assert db[DOCS].count() == 0
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".part"] == []


def test_an_export_of_a_query_keeps_its_order_and_window(db: hp.Database, tmp_path: Path) -> None:
    db[DOCS].put_many({"id": f"d{n:04}", "n": n, "tags": []} for n in range(3_000))
    query = db[DOCS].where(hp.F.n >= 500).order_by("-n").offset(10).limit(1_500)
    report = query.export_to(tmp_path / "x.ndjson")
    lines = [json.loads(line) for line in (tmp_path / "x.ndjson").read_text().splitlines()]
    assert report.rows == 1_500 and [doc["n"] for doc in lines] == list(range(2_989, 1_489, -1))
    odd = db[DOCS].filter(lambda doc: doc["n"] % 2 == 1).offset(5).limit(1_200)
    odd.export_to(tmp_path / "x.csv")
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert rows[0] == "id,n,tags" and len(rows) == 1_201 and rows[1] == "d0011,11,[]"
    db[DOCS].where(hp.F.n < 0).export_to(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == []
    for kind in ("csv", "parquet", "ndjson"):
        db[DOCS].where(hp.F.n < 0).export_to(tmp_path / f"empty.{kind}")
    assert db[DOCS].import_from(tmp_path / "empty.parquet").rows == 0


def test_an_export_is_one_state_while_writers_go_on(tmp_path: Path) -> None:
    with hp.open(tmp_path / "a.db", collections=[DOCS], durability="relaxed") as db:
        db[DOCS].put_many({"id": f"d{n:05}", "n": 0} for n in range(3_000))
        seen: list[int] = []

        def write(progress: hp.LoadProgress) -> None:
            if progress.phase == "writing":
                seen.append(progress.rows)
                db[DOCS].put_many({"id": f"d{n:05}", "n": 1, "new": True} for n in range(3_100))

        for kind in ("ndjson", "csv"):
            db[DOCS].clear()
            db[DOCS].put_many({"id": f"d{n:05}", "n": 0} for n in range(3_000))
            db[DOCS].export_to(tmp_path / f"x.{kind}", progress=write)
            text = (tmp_path / f"x.{kind}").read_text()
            assert text.count("d0") == 3_000 and "new" not in text
        assert seen[:3] == [1_000, 2_000, 3_000]
        assert db[DOCS].where(hp.F.n == 1).count() == 3_100


def test_several_collections_are_exported_at_one_state(db: hp.Database, tmp_path: Path) -> None:
    db[DOCS].put_many({"id": f"d{n}", "n": n} for n in range(50))
    with db.snapshot() as then:
        db[DOCS].clear()
        assert then[DOCS].export_to(tmp_path / "a.ndjson").rows == 50
        assert then[DOCS].where(hp.F.n < 5).export_to(tmp_path / "b.csv").rows == 5
        with pytest.raises(TransactionError):
            then[DOCS].import_from(tmp_path / "a.ndjson")
    assert db[DOCS].export_to(tmp_path / "a.ndjson").rows == 0


def test_an_export_that_fails_leaves_the_old_file(db: hp.Database, tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("before")
    db[DOCS].put_many({"id": f"d{n}", "n": n} for n in range(10))

    def fail(doc: Any) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db[DOCS].filter(fail).export_to(file)
    assert file.read_text() == "before" and os.listdir(tmp_path).count("x.ndjson") == 1
    assert not list(tmp_path.glob("*.part"))
    with db.transaction(), pytest.raises(TransactionError, match="export_to"):
        db[DOCS].export_to(file)


KILLED = """
    import sys, os, signal
    import homeport as hp
    sys.path.insert(0, sys.argv[2])
    from test_interchange import DOCS

    with hp.open(sys.argv[1] + "/a.db", collections=[DOCS], durability="relaxed") as db:
        db[DOCS].load({"id": f"d{n}", "n": n} for n in range(5_000))
        db[DOCS].export_to(
            sys.argv[1] + "/x.ndjson",
            progress=lambda p: os.kill(os.getpid(), signal.SIGKILL) if p.rows > 2_000 else None,
        )
"""


def test_an_export_that_is_killed_leaves_no_half_file(tmp_path: Path) -> None:
    (tmp_path / "x.ndjson").write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(tmp_path), str(Path(__file__).parent)]
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "x.ndjson").read_text() == "before"


def test_r19_no_room_for_an_export_is_said(db: hp.Database, tmp_path: Path) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(28, "No space left on device")

    db[DOCS].put({"id": "a"})
    with pytest.raises(QuotaExceeded, match="No space left"):
        db[DOCS].export_to(Full(), "ndjson")


def test_an_interrupted_import_goes_on(db: hp.Database, tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    rows = [f"d{n:04},{n}" for n in range(1_000)]
    bad = rows.copy()
    bad[555] = "x"
    file.write_text("\n".join(["id,n", *bad]) + "\n")
    with pytest.raises(hp.LoadFailed, match="resume=True") as caught:
        db[DOCS].import_from(file, mode="add", chunk=100, resume=True)
    assert (caught.value.position, caught.value.loaded) == (557, 500)
    report = db[DOCS].import_from(file, mode="add", chunk=100, resume=True, on_error="collect")
    assert (report.skipped, report.rows, report.failed) == (500, 499, 1)
    assert report.failures[0][0] == 557
    with pytest.raises(UsageError, match="path"):
        db[DOCS].import_from(io.BytesIO(b""), "csv", resume=True)


def test_progress_knows_the_size_of_the_file(db: hp.Database, tmp_path: Path) -> None:
    file = tmp_path / "x.ndjson"
    file.write_text("".join(f'{{"id": "d{n}", "n": {n}}}\n' for n in range(2_000)))
    seen: list[hp.LoadProgress] = []
    db[DOCS].import_from(file, chunk=500, progress=seen.append)
    size = file.stat().st_size
    assert {p.file_size for p in seen} == {size} and seen[-1].file_bytes == size
    totals: list[hp.LoadProgress] = []
    db[DOCS].export_to(tmp_path / "y.json", progress=totals.append)
    assert (totals[0].total, totals[-1].rows, totals[-1].phase) == (2_000, 2_000, "done")


def test_large_files_pass_through_little_memory(tmp_path: Path) -> None:
    """80,000 documents of 23 MB: as objects in memory they would take 60 MB more than there are."""
    code = """
        import sys
        import homeport as hp
        docs = hp.Collection("docs", indexes=["n"])

        def peak():
            # Of this program alone: the figure of getrusage begins with that of the parent.
            [line] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
            return int(line.split()[1]) / 1024

        folder = sys.argv[1]
        with hp.open(folder + "/a.db", collections=[docs], durability="relaxed", cache_mb=4) as db:
            db[docs].load({"id": f"d{n:06}", "n": n, "text": "x" * 250} for n in range(80_000))
            for kind in ("ndjson", "json", "csv"):
                db[docs].export_to(f"{folder}/x.{kind}")
            before = peak()
            for kind in ("ndjson", "json", "csv"):
                assert db[docs].import_from(f"{folder}/x.{kind}", chunk=5_000).rows == 80_000
            print(before, peak())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, after = map(float, done.stdout.split())
    assert (tmp_path / "x.ndjson").stat().st_size > 22_000_000
    assert after < 75 and after - before < 15, (before, after)


# -- on an event loop


async def test_the_same_on_an_event_loop(tmp_path: Path) -> None:
    async with hp.open_async(tmp_path / "a.db", collections=[DOCS], durability="relaxed") as db:
        await db[DOCS].load({"id": f"d{n:04}", "n": n} for n in range(2_500))
        for kind in FORMATS:
            file = tmp_path / f"x.{kind}"
            assert (await db[DOCS].where(hp.F.n < 2_000).export_to(file)).rows == 2_000
            await db[DOCS].clear()
            assert (await db[DOCS].import_from(file)).rows == 2_000
            await db[DOCS].load({"id": f"d{n:04}", "n": n} for n in range(2_500))

        async def unit(tx: hp.Tx) -> None:
            await tx[DOCS].export_to(tmp_path / "y.json")

        with pytest.raises(TransactionError, match="export_to"):
            await db.run(unit)
    async with hp.open_async(":memory:", collections=[DOCS]) as db:
        assert (await db[DOCS].import_from(tmp_path / "x.csv")).rows == 2_000
        assert (await db[DOCS].export_to(tmp_path / "y.csv")).rows == 2_000


def test_parquet_of_other_programs(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "id": ["a", "b", "c"],
            "at": pa.array([datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), None, None]),
            "day": pa.array([date(2026, 1, 2), None, None]),
            "n": pa.array([1, None, 2**60], pa.int64()),
            "inner": [{"x": 1.5, "y": None}, None, {"x": None, "y": [1, None]}],
            "raw": pa.array([b"\x01\x02", None, None]),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    with fresh() as db:
        report = db[DOCS].import_from(tmp_path / "x.parquet", on_error="collect")
        assert report.failures[0][0] == 3 and "2**53" in report.failures[0][1].message
        assert db[DOCS].order_by("id").all() == [
            {
                "id": "a", "at": "2026-01-02T03:04:05.000000Z", "day": "2026-01-02", "n": 1,
                "inner": {"x": 1.5}, "raw": "AQI=",
            },
            {"id": "b"},
        ]  # fmt: skip
        db[DOCS].put({"id": "d", "inner": {"x": 2}, "tags": ["t"]})
        db[DOCS].export_to(tmp_path / "y.parquet")
        again = pq.read_table(tmp_path / "y.parquet")
        assert again.schema.field("inner").type == pa.struct([("x", pa.float64())])
        assert again.schema.field("tags").type == pa.list_(pa.string())
