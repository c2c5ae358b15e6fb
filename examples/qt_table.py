"""A Qt table that follows a query: rows appear, move, change and go one by one, so the selection
and the scroll position stay where they are.

    python examples/qt_table.py            # needs PySide6 (PySide6-Essentials is enough)

Start it twice: both windows follow the same file.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from PySide6.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
)

import homeport as hp

Place = QModelIndex | QPersistentModelIndex
NOWHERE = QModelIndex()


class LiveTableModel(QAbstractTableModel):
    """The result of a query as a Qt model.

    columns: header → function of a document that gives the value to show.
    """

    _changed = Signal(object)

    def __init__(
        self,
        query: hp.Query[Any],
        columns: Mapping[str, Callable[[Any], object]],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._headers, self._cells = list(columns), list(columns.values())
        self._documents: list[Any] = []
        # The subscription calls from its own thread; this brings each change over to the thread of
        # the model, and waits for it: what happens meanwhile comes as one change afterwards.
        self._changed.connect(self._apply, Qt.ConnectionType.BlockingQueuedConnection)
        self._subscription = query.subscribe(self._changed.emit)

    def document(self, index: Place) -> Any:
        """The document in the row of an index."""
        return self._documents[index.row()]

    def close(self) -> None:
        """Follow no longer."""
        self._subscription.close()

    def _apply(self, change: hp.LiveChange[Any]) -> None:
        if change.reset:
            self.beginResetModel()
            self._documents = list(change.rows)
            self.endResetModel()
            return
        documents = self._documents
        for kind, row, to, document in change.edits:
            if kind == "insert":
                self.beginInsertRows(NOWHERE, row, row)
                documents.insert(row, document)
                self.endInsertRows()
            elif kind == "remove":
                self.beginRemoveRows(NOWHERE, row, row)
                del documents[row]
                self.endRemoveRows()
            elif kind == "move":
                # Qt names the row in front of which it goes, counted before it leaves.
                self.beginMoveRows(NOWHERE, row, row, NOWHERE, to + 1 if to > row else to)
                documents.insert(to, documents.pop(row))
                self.endMoveRows()
            else:
                documents[row] = document
                self.dataChanged.emit(self.index(row, 0), self.index(row, len(self._cells) - 1))

    # -- what Qt asks

    def rowCount(self, parent: Place = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self._documents)

    def columnCount(self, parent: Place = NOWHERE) -> int:
        return 0 if parent.isValid() else len(self._cells)

    def data(self, index: Place, role: int = Qt.ItemDataRole.DisplayRole) -> object:
        if role != Qt.ItemDataRole.DisplayRole or not index.isValid():
            return None
        return self._cells[index.column()](self._documents[index.row()])

    def headerData(
        self,
        section: int,
        orientation: Qt.Orientation,
        role: int = Qt.ItemDataRole.DisplayRole,
    ) -> object:
        if role != Qt.ItemDataRole.DisplayRole:
            return None
        return self._headers[section] if orientation == Qt.Orientation.Horizontal else section + 1


class Well(msgspec.Struct):
    id: str
    name: str
    depth_m: float


WELLS = hp.Collection("wells", Well, indexes=["depth_m"])


def main() -> int:
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication, QTableView

    app = QApplication(sys.argv)
    with hp.open("qt_table.db", collections=[WELLS]) as db:
        wells = db[WELLS]
        model = LiveTableModel(
            wells.order_by("-depth_m").limit(500),
            {"Well": lambda well: well.name, "Depth (m)": lambda well: well.depth_m},
        )

        def drill() -> None:
            n = random.randrange(30)
            wells.put(Well(f"w{n}", f"Brent-{n}", round(random.uniform(1000, 4000), 1)))

        timer = QTimer(interval=500)
        timer.timeout.connect(drill)
        timer.start()
        view = QTableView()
        view.setModel(model)
        view.show()
        try:
            return app.exec()
        finally:
            model.close()


if __name__ == "__main__":
    sys.exit(main())
