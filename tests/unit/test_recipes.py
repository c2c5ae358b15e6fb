"""The recipes under examples/ run: the Qt model with Qt's own tester, the Textual app by its pilot."""

from __future__ import annotations

import importlib.util
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import homeport as hp

EXAMPLES = Path(__file__).parent.parent.parent / "examples"


def recipe(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"recipe_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# -- Qt: QtCore and QtTest alone, no screen and no system libraries of one


class Mirror:
    """A list of rows that is built from the signals of a model alone."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.rows: list[Any] = []
        self.signals: list[str] = []
        model.modelReset.connect(self.reset)
        model.rowsInserted.connect(self.inserted)
        model.rowsRemoved.connect(self.removed)
        model.rowsMoved.connect(self.moved)
        model.dataChanged.connect(self.changed)

    def row(self, row: int) -> tuple[Any, ...]:
        return tuple(
            self.model.data(self.model.index(row, column))
            for column in range(self.model.columnCount())
        )

    def reset(self) -> None:
        self.signals.append("reset")
        self.rows = [self.row(row) for row in range(self.model.rowCount())]

    def inserted(self, parent: Any, first: int, last: int) -> None:
        self.signals.append("inserted")
        self.rows[first:first] = [self.row(row) for row in range(first, last + 1)]

    def removed(self, parent: Any, first: int, last: int) -> None:
        self.signals.append("removed")
        del self.rows[first : last + 1]

    def moved(self, parent: Any, first: int, last: int, _: Any, before: int) -> None:
        self.signals.append("moved")
        taken = self.rows[first : last + 1]
        del self.rows[first : last + 1]
        at = before - len(taken) if before > first else before
        self.rows[at:at] = taken

    def changed(self, top: Any, bottom: Any, *_: Any) -> None:
        self.signals.append("changed")
        for row in range(top.row(), bottom.row() + 1):
            self.rows[row] = self.row(row)


@pytest.fixture
def qt(tmp_path: Path) -> Iterator[tuple[ModuleType, hp.Database, Callable[..., None]]]:
    try:
        from PySide6.QtCore import QCoreApplication, qInstallMessageHandler
    except ImportError as error:
        raise AssertionError(
            f"PySide6 does not load ({error}). QtCore needs libglib-2.0 from the system "
            "(Debian, Ubuntu: libglib2.0-0)."
        ) from error
    app = QCoreApplication.instance() or QCoreApplication([])
    complaints: list[str] = []
    previous = qInstallMessageHandler(lambda kind, context, text: complaints.append(text))
    module = recipe("qt_table")

    def until(test: Callable[[], object]) -> None:
        end = time.monotonic() + 20
        while not test():
            assert time.monotonic() < end, "it never came"
            app.processEvents()
            time.sleep(0.001)

    with hp.open(tmp_path / "a.db", collections=[module.WELLS], durability="relaxed") as db:
        yield module, db, until
    qInstallMessageHandler(previous)
    assert not complaints


def model_of(module: ModuleType, query: Any) -> Any:
    columns = {"Well": lambda well: well.name, "Depth (m)": lambda well: well.depth_m}
    return module.LiveTableModel(query, columns)


def test_the_qt_table_moves_row_by_row(qt: Any) -> None:
    from PySide6.QtCore import QPersistentModelIndex, Qt

    module, db, until = qt
    wells = db[module.WELLS]
    wells.put_many(module.Well(f"w{n}", f"Brent-{n}", float(n)) for n in range(10))
    model = model_of(module, wells.where(hp.F.depth_m >= 0).order_by("-depth_m"))
    mirror = Mirror(model)
    until(lambda: model.rowCount() == 10)
    assert mirror.signals == ["reset"]
    assert (model.columnCount(), model.headerData(1, Qt.Orientation.Horizontal)) == (2, "Depth (m)")
    assert model.headerData(0, Qt.Orientation.Vertical) == 1
    assert model.data(model.index(0, 0), Qt.ItemDataRole.EditRole) is None
    assert model.rowCount(model.index(0, 0)) == model.columnCount(model.index(0, 0)) == 0
    selected = QPersistentModelIndex(model.index(3, 0))
    assert model.document(selected).id == "w6"

    def step(write: Callable[[], object], *signals: str) -> None:
        mirror.signals.clear()
        write()
        until(lambda: len(mirror.signals) >= len(signals))
        assert mirror.signals == list(signals)

    step(lambda: wells.put(module.Well("x", "New", 8.5)), "inserted")
    assert model.document(selected).id == "w6", "the selection stays on its document"
    step(lambda: wells.patch("w2", name="Named"), "changed")
    step(lambda: wells.patch("w6", depth_m=0.5), "moved", "changed")
    assert model.document(selected).id == "w6"
    assert selected.row() == 9
    step(lambda: wells.delete("w9"), "removed")
    assert [name for name, _ in mirror.rows] == [
        "New", "Brent-8", "Brent-7", "Brent-5", "Brent-4", "Brent-3", "Named", "Brent-1", "Brent-6",
        "Brent-0",
    ]  # fmt: skip
    model.close()


def test_the_qt_table_keeps_what_qt_demands_of_a_model(qt: Any) -> None:
    """Qt's tester looks at every signal; writes come from a thread and from another process."""
    from PySide6.QtTest import QAbstractItemModelTester

    module, db, until = qt
    wells = db[module.WELLS]
    model = model_of(module, wells.order_by("-depth_m").offset(2).limit(12))
    tester = QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Warning)
    mirror = Mirror(model)
    until(lambda: mirror.signals)
    program = f"""
import random, msgspec
import homeport as hp
class Well(msgspec.Struct):
    id: str
    name: str
    depth_m: float
wells = hp.Collection("wells", Well, indexes=["depth_m"])
with hp.open({db.path!r}, collections=[wells]) as db:
    for n in range(60):
        db[wells].put(Well(f"p{{n % 9}}", "theirs", random.random()))
"""
    other = subprocess.Popen([sys.executable, "-c", program])
    rng = random.Random(7)

    def act() -> None:
        with db.transaction():
            for _ in range(rng.randrange(1, 6)):
                key = f"w{rng.randrange(20)}"
                if rng.random() < 0.3:
                    wells.delete(key)
                else:
                    wells.put(module.Well(key, key, rng.random()))

    for n in range(150):
        act()
        if n % 3:
            until(lambda: True)
    until(lambda: other.poll() is not None)
    wells.put(module.Well("last", "last", 2.0))
    wanted = [(w.name, w.depth_m) for w in wells.order_by("-depth_m").offset(2).limit(12).all()]
    until(lambda: mirror.rows == wanted)
    assert mirror.rows == [mirror.row(row) for row in range(model.rowCount())]
    assert {"inserted", "removed", "moved", "changed"} <= set(mirror.signals)
    assert other.returncode == 0
    model.close()
    del tester


def test_the_qt_table_lets_go_when_it_is_closed(qt: Any) -> None:
    module, db, until = qt
    model = model_of(module, db[module.WELLS].order_by("-depth_m"))
    mirror = Mirror(model)
    until(lambda: mirror.signals)
    model.close()
    engine = db._driver.engine
    until(lambda: not engine._listeners)
    db[module.WELLS].put(module.Well("w", "w", 1.0))
    until(lambda: True)
    assert mirror.rows == []


# -- Textual


async def test_the_textual_table_follows(tmp_path: Path) -> None:
    module = recipe("textual_table")
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[module.WELLS]) as db:
        wells = db[module.WELLS]
        wells.put_many(module.Well(f"w{n}", f"Brent-{n}", 1000.0 + n) for n in range(5))
        app = module.WellsApp(path)
        async with app.run_test() as pilot:

            async def until(test: Callable[[], object]) -> None:
                end = time.monotonic() + 20
                while not test():
                    assert time.monotonic() < end, "it never came"
                    await pilot.pause(0.005)

            def shown() -> list[Any]:
                table = app.table
                return [tuple(table.get_row_at(row)) for row in range(table.row_count)]

            def wanted() -> list[Any]:
                found = wells.order_by("-depth_m").limit(200).all()
                return [(well.id, well.name, well.depth_m) for well in found]

            await until(lambda: shown() == wanted() and len(shown()) == 5)
            # By this program, outside the app.
            wells.put(module.Well("w9", "Troll-1", 1002.5))
            wells.delete("w0")
            await until(lambda: shown() == wanted())
            # By its keys: the cursor stands on the deepest well, and follows the one it is moved to.
            await pilot.press("down", "down")
            assert app.key_under_cursor() == "w9"
            await pilot.press("d")
            await until(lambda: wells.get("w9").depth_m == 1252.5)
            await until(lambda: shown() == wanted())
            assert shown()[0][0] == "w9"
            assert app.key_under_cursor() == "w9"
            await pilot.press("n")
            await until(lambda: len(shown()) == 6)
            assert shown() == wanted()
            wells.clear()
            await until(lambda: not shown())
            await pilot.press("d")
            await pilot.press("q")
        assert app.return_code == 0
