"""A table in the terminal that follows a query, with Textual.

    python examples/textual_table.py       # needs textual

d deepens the well under the cursor, n drills a new one, q quits. Start it twice: both follow the
same file.
"""

from __future__ import annotations

import random

import msgspec
from textual.app import App, ComposeResult
from textual.widgets import DataTable, Footer

import homeport as hp


class Well(msgspec.Struct):
    id: str
    name: str
    depth_m: float


WELLS = hp.Collection("wells", Well, indexes=["depth_m"])
COLUMNS = {"id": "Key", "name": "Well", "depth_m": "Depth (m)"}


class WellsApp(App[None]):
    """The deepest wells, deepest first."""

    BINDINGS = [("d", "deepen", "Deepen"), ("n", "new", "New"), ("q", "quit", "Quit")]

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def compose(self) -> ComposeResult:
        yield DataTable(cursor_type="row")
        yield Footer()

    async def on_mount(self) -> None:
        self.table: DataTable[object] = self.query_one(DataTable)
        for key, label in COLUMNS.items():
            self.table.add_column(label, key=key)
        self.db = await hp.open_async(self.path, collections=[WELLS])
        self.wells = self.db[WELLS]
        # On an event loop a subscription calls here, on this loop, where widgets may be touched.
        self.wells.order_by("-depth_m").limit(200).subscribe(self.show)

    async def on_unmount(self) -> None:
        await self.db.close()  # ends the subscription, too

    def show(self, change: hp.LiveChange[Well]) -> None:
        table, under_cursor = self.table, self.key_under_cursor()
        for key in change.removed:
            table.remove_row(str(key))
        for well in change.added:
            table.add_row(*(getattr(well, name) for name in COLUMNS), key=well.id)
        for well in change.changed:
            for name in COLUMNS:
                table.update_cell(well.id, name, getattr(well, name))
        place = {key: row for row, key in enumerate(change.rows.keys())}
        table.sort("id", key=place.__getitem__)
        if under_cursor in place:
            table.move_cursor(row=place[under_cursor])  # it follows its well

    def key_under_cursor(self) -> str | None:
        if not self.table.row_count:
            return None
        return self.table.coordinate_to_cell_key(self.table.cursor_coordinate).row_key.value

    # -- keys

    async def action_deepen(self) -> None:
        key = self.key_under_cursor()
        if key is not None:
            await self.wells.update(
                key, lambda well: msgspec.structs.replace(well, depth_m=well.depth_m + 250)
            )

    async def action_new(self) -> None:
        key = hp.new_id()
        await self.wells.put(Well(key, f"Brent-{key[-4:]}", random.randrange(1000, 4000)))


if __name__ == "__main__":
    WellsApp("textual_table.db").run()
