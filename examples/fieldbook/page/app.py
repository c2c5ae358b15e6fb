"""The field book in the page: what the tables show comes from live queries, and what a hand does on
them is written to the database. Neither knows of the other, so nothing can go round in circles.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

from fieldbook.chart import draw
from fieldbook.models import CHARTS, COLLECTIONS, CURVES, MAIN, WELLS, Chart, Well

import homeport as hp

EDITABLE = ("status", "remark", "field")


class FieldBook:
    """The page's Python side. ``page``: functions of the page's JavaScript; each takes one JSON
    text."""

    def __init__(self, page: Any, db: hp.AsyncDatabase, sync: Any) -> None:
        self.page = page
        self.db = db
        self.sync = sync
        self.wells = db[WELLS]
        self.curves = db[CURVES]
        self.charts = db[CHARTS]
        self.selected: list[str] = []
        self.settled = 0
        """Number of the last selection by hand that the database has."""
        self.writes = 0
        self._showing = asyncio.Lock()
        self._drawing: asyncio.Task[None] | None = None
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Show what is there, and follow it."""
        for work in (
            self._hands(),
            self._follow_wells(),
            self._follow_chart(),
            self._follow_badges(),
            self._follow_sync(),
        ):
            self._tasks.append(asyncio.create_task(self._guarded(work)))

    def receive(self, text: str) -> None:
        """Somebody did something in the page."""
        self._events.put_nowait(json.loads(text))

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except hp.errors.Closed:
            return
        except Exception as error:
            self.page.say(json.dumps({"text": f"{type(error).__name__}: {error}"}))
            raise

    # -- from the hands to the database

    async def _hands(self) -> None:
        """One after the other, in their order."""
        actions: dict[str, Callable[[dict[str, Any]], Coroutine[Any, Any, None]]] = {
            "open": self._open,
            "toggle": self._toggle,
            "edit": self._edit,
            "resolve": self._resolve,
            "pause": self._pause,
            "conflicts": self._show_conflicts,
        }
        while True:
            event = await self._events.get()
            try:
                await actions[event["type"]](event)
            except hp.HomeportError as error:
                self.page.say(json.dumps({"text": str(error)}))

    async def _open(self, event: dict[str, Any]) -> None:
        """The curves of a well."""
        well = await self.wells.get(event["well"])
        found = await self.curves.where(hp.F.well_id == event["well"]).order_by("mnemonic").all()
        rows = [
            {
                "id": curve.id,
                "mnemonic": curve.mnemonic,
                "unit": curve.unit,
                "text": curve.text,
                "top": curve.top,
                "base": curve.base,
                "samples": len(curve.samples),
            }
            for curve in found
        ]
        title = well.name if well else event["well"]
        self.page.showCurves(json.dumps({"title": title, "rows": rows}))

    async def _toggle(self, event: dict[str, Any]) -> None:
        """Select or deselect curves. The page shows it already, and is told when that is true."""
        off = set(event["off"])

        def change(chart: Chart) -> Chart:
            kept = [key for key in chart.curves if key not in off]
            chart.curves = kept + [key for key in event["on"] if key not in kept]
            return chart

        self.writes += 1
        try:
            await self.charts.update(MAIN, change, Chart(id=MAIN))
        finally:
            self.settled = event["number"]
            await self._show_selection()

    async def _edit(self, event: dict[str, Any]) -> None:
        """A cell was edited."""
        if event["field"] in EDITABLE:
            self.writes += 1
            await self.wells.patch(event["well"], {event["field"]: event["value"] or ""})

    async def _resolve(self, event: dict[str, Any]) -> None:
        """Somebody has decided a conflict."""
        if event.get("fields"):
            await self.sync.resolve(event["id"], fields=event["fields"])
        else:
            await self.sync.resolve(event["id"], event["choice"])
        await self._show_conflicts({})

    async def _pause(self, event: dict[str, Any]) -> None:
        """The switch "offline"."""
        await (self.sync.pause() if event["on"] else self.sync.resume())
        await self._show_status()

    # -- from the database to the page

    async def _follow_wells(self) -> None:
        async with self.wells.order_by("name").live() as live:
            async for change in live:
                wells = {
                    "add": [_row(well) for well in change.added],
                    "update": [_row(well) for well in change.changed],
                    "remove": [{"id": key} for key in change.removed],
                    "all": len(change.rows),
                }
                self.page.showWells(json.dumps(wells))

    async def _follow_chart(self) -> None:
        async with self.charts.where(hp.F.id == MAIN).live() as live:
            async for _ in live:
                await self._show_selection()

    async def _show_selection(self) -> None:
        """What is selected, as the database has it now, and up to which click that is."""
        async with self._showing:  # one behind the other, so that none shows what was before
            settled = self.settled
            chart = await self.charts.get(MAIN) or Chart(id=MAIN)
            self.page.showSelection(json.dumps({"curves": chart.curves, "settled": settled}))
            if chart.curves != self.selected or self._drawing is None:
                self.selected = list(chart.curves)
                if self._drawing is not None:
                    self._drawing.cancel()
                self._drawing = asyncio.create_task(self._guarded(self._draw(self.selected)))

    async def _draw(self, keys: list[str]) -> None:
        """The chart of these curves, also of those that are only on their way from the server."""
        async with self.curves.where(hp.F.id.any_of(*keys)).live() as live:
            async for change in live:
                found = {curve.id: curve for curve in change.rows}
                drawn = [found[key] for key in keys if key in found]
                self.page.showChart(json.dumps({"svg": draw(drawn)}))

    async def _follow_badges(self) -> None:
        async for changes in self.db.badges(WELLS):
            shown = {change.key: change.badge for change in changes}
            self.page.showBadges(json.dumps(shown))

    async def _follow_sync(self) -> None:
        while True:
            await self._show_status()
            await asyncio.sleep(0.25)

    async def _show_status(self) -> None:
        status = await self.sync.status()
        shown = {
            "state": _state(status),
            "queued": status.queued - status.conflicts,
            "conflicts": status.conflicts,
            "error": status.last_error,
            "rows": status.rows,
            "total": status.total,
            "writes": self.writes,
        }
        self.page.showStatus(json.dumps(shown))

    async def _show_conflicts(self, _: dict[str, Any]) -> None:
        found = [
            {
                "id": conflict.id,
                "title": ((conflict.local or conflict.remote) or {}).get("name", conflict.key),
                "fields": conflict.fields,
                "mine": conflict.local,
                "theirs": conflict.remote,
            }
            for conflict in await self.sync.conflicts()
        ]
        self.page.showConflicts(json.dumps(found))


def _state(status: Any) -> str:
    """Of the page and all others of the site: one of them syncs for all."""
    if status.state == "standby":
        return "idle" if status.next_attempt_s is None else "offline"
    return status.state


def _row(well: Well) -> dict[str, Any]:
    return {
        "id": well.id,
        "name": well.name,
        "field": well.field,
        "company": well.company,
        "top_m": well.top_m,
        "base_m": well.base_m,
        "curves": well.curves,
        "status": well.status,
        "remark": well.remark,
    }


async def main(page: Any, url: str, token: Callable[[], Any]) -> FieldBook:
    """Open the browser's database, begin to sync, show it → the book."""
    db = await hp.open_async("fieldbook", collections=COLLECTIONS)
    sync = db.sync(url, token=token)
    await sync.start()
    book = FieldBook(page, db, sync)
    await book.start()
    return book
