"""A seeded run of real devices, node and PostgreSQL under faults, and what must hold at its end.

``python -m tests.e2e.chaos --seed N --seconds S`` runs one; ``test_chaos.py`` a short sample.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from homeport.server.postgres import Postgres
from homeport.testing import FaultProxy
from tests.e2e.oracle import Ledger, record_values
from tests.e2e.world import Device, Node

ACCOUNTS = [f"acc{n}" for n in range(4)]
TOTAL = 100 * len(ACCOUNTS)
COLLECTIONS = ("docs", "last", "accounts", "pairs")
KEYS = [f"d{n}" for n in range(10)]
FIELDS = ["f0", "f1", "f2", "f3"]


class Member:
    """A device, its proxy, and a copy of its file that may be put back."""

    def __init__(self, name: str, folder: Path, node: Node) -> None:
        self.name = name
        self.path = folder / name / "device.db"
        self.path.parent.mkdir()
        self.proxy = FaultProxy(node.url)
        self.token = node.token
        self.copy: Path | None = None
        self.device: Device | None = None

    def up(self) -> None:
        self.device = Device(
            self.path, self.proxy.url, self.token, program="tests.e2e.chaos_device"
        )
        self.do("start")

    def down(self) -> None:
        if self.device is not None:
            self.device.kill()
            self.device = None

    def do(self, do: str, **arguments: Any) -> Any:
        assert self.device is not None
        return self.device.do(do, **arguments)

    def save(self, name: str) -> Path:
        """Copy the file while nobody has it open."""
        target = self.path.parent.parent / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.path.parent, target)
        return target

    def load(self, folder: Path) -> None:
        shutil.rmtree(self.path.parent)
        shutil.copytree(folder, self.path.parent)


class Chaos:
    """One run."""

    def __init__(self, seed: int, seconds: float, folder: Path) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.seconds = seconds
        self.folder = folder
        self.ledger = Ledger()
        self.counter = 0
        self.tally: Counter[str] = Counter()
        self.clones = 0
        self.postgres = Postgres.start(folder / "postgres", settings={"fsync": "off"})
        self.node = Node(self.postgres.dsn, folder)
        self.members = [Member(name, folder, self.node) for name in "ABC"]
        self.frozen_until = 0.0
        self.stalls: list[tuple[float, Callable[[], None]]] = []

    def close(self) -> None:
        for member in self.members:
            member.down()
            member.proxy.close()
        self.node.stop()
        self.postgres.stop()

    def run(self) -> None:
        for member in self.members:
            member.up()
        self.members[0].do("accounts", names=ACCOUNTS)
        for member in self.members:
            member.do("now")
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            self._mend_due()
            if self.random.random() < 0.08:
                self._fault()
            else:
                self._edit()
            if self.random.random() < 0.1:
                self._look()
            time.sleep(self.random.choice((0, 0, 0.01, 0.05)))
        self._heal()
        self._settle()
        self._check()

    # -- edits

    def _edit(self) -> None:
        r = self.random
        member = r.choice(self.members)
        kind = r.choices(
            ("set_field", "set_alone", "replace", "delete", "pair", "transfer", "sql"),
            (5, 6, 2, 1.5, 2, 5, 1),
        )[0]
        self.counter += 1
        self.tally[kind] += 1
        value = f"{member.name}{self.counter}"
        if kind == "pair":
            member.do("pair", name=f"p{self.counter}")
            self.ledger.pairs[f"p{self.counter}"] = member.name
        elif kind == "transfer":
            a, b = r.sample(ACCOUNTS, 2)
            member.do("transfer", source=a, target=b, amount=r.randint(1, 3))
        elif kind == "sql":
            self._sql(f"sql{self.counter}")
        else:
            c, key, field = r.choice(("docs", "last")), r.choice(KEYS), r.choice(FIELDS)
            if kind == "delete":
                old = member.do("delete", c=c, key=key)
                self.ledger.deleted(c, key, old)
            else:
                old = member.do(kind, c=c, key=key, field=field, value=value)
                self.ledger.wrote(
                    c, key, field, value, old, member.name, replaced=kind == "replace"
                )

    def _sql(self, value: str) -> None:
        """Another program writes the table itself."""
        c, key, field = "docs", self.random.choice(KEYS), self.random.choice(FIELDS)

        async def work() -> tuple[Any, Any]:
            connection = await asyncpg.connect(self.postgres.dsn, timeout=3)
            try:
                async with connection.transaction():
                    where = "tenant = 'dev' and collection = $1 and key = $2"
                    body = await connection.fetchval(
                        f"select body from homeport.documents where {where} for update", c, key
                    )
                    old = None if body is None else json.loads(body)
                    if old is not None and self.random.random() < 0.2:
                        await connection.execute(
                            f"delete from homeport.documents where {where}", c, key
                        )
                        return old, None
                    new = {**(old or {"id": key}), field: value}
                    await connection.execute(
                        "insert into homeport.documents (tenant, collection, key, body)"
                        " values ('dev', $1, $2, $3) on conflict (tenant, collection, key)"
                        " do update set body = excluded.body",
                        c,
                        key,
                        json.dumps(new),
                    )
                    return old, new
            finally:
                connection.terminate()

        try:
            old, new = asyncio.run(asyncio.wait_for(work(), 4))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return
        if new is None:
            self.ledger.deleted(c, key, old)
        else:
            self.ledger.wrote(c, key, field, value, old, "sql")

    # -- faults

    def _fault(self) -> None:
        r = self.random
        member = r.choice(self.members)
        kind = r.choices(
            ("lose", "cut", "down", "stall", "slow", "kill", "half", "node", "postgres", "freeze",
             "replay", "clone", "save", "restore"),
            (4, 3, 2, 2, 2, 3, 2, 1, 0.7, 1, 4, 0.7, 1.5, 1.0),
        )[0]  # fmt: skip
        self.tally[kind] += 1
        if kind == "lose":
            member.proxy.lose_answers += r.randint(1, 2)
        elif kind == "cut":
            member.proxy.cut()
        elif kind == "down":
            member.proxy.down()
            self._later(r.uniform(0.2, 2), lambda: self._up(member))
        elif kind == "stall":
            member.proxy.held = "both"
            self._later(r.uniform(0.2, 2), lambda: setattr(member.proxy, "held", None))
        elif kind == "slow":
            member.proxy.latency_s = r.uniform(0.01, 0.15)
            self._later(2, lambda: setattr(member.proxy, "latency_s", 0.0))
        elif kind == "kill":
            member.down()
            member.up()
        elif kind == "half":
            # Killed in the middle of a write: nobody knows whether it happened.
            self.counter += 1
            assert member.device is not None
            member.device.send("pair", name=f"p{self.counter}")
            time.sleep(r.uniform(0, 0.01))
            member.down()
            member.up()
        elif kind == "node":
            self.node.kill()
            time.sleep(r.uniform(0, 0.5))
            self.node.start()
        elif kind == "postgres":
            self.postgres.kill()
            time.sleep(r.uniform(0, 0.5))
            self.postgres.restart()
        elif kind == "freeze":
            self.postgres.freeze()
            time.sleep(r.uniform(0.1, 1.0))
            self.postgres.thaw()
        elif kind == "replay":
            self._replay(member)
        elif kind == "clone" and self.clones < 2:
            self._clone(member)
        elif kind == "save":
            member.down()
            member.copy = member.save(f"{member.name}-copy")
            self.ledger.saved(member.name)
            member.up()
        elif kind == "restore" and member.copy is not None:
            member.down()
            member.load(member.copy)
            self.ledger.restored(member.name)
            member.up()

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        self.stalls.append((time.monotonic() + seconds, work))

    def _mend_due(self, *, all_of_them: bool = False) -> None:
        now = time.monotonic()
        due = [work for at, work in self.stalls if all_of_them or at <= now]
        self.stalls = [] if all_of_them else [s for s in self.stalls if s[0] > now]
        for work in due:
            work()

    def _up(self, member: Member) -> None:
        member.proxy.down()
        member.proxy.up()

    def _clone(self, member: Member) -> None:
        member.down()
        self.clones += 1
        twin = Member(f"{member.name}{self.clones}", self.folder, self.node)
        shutil.rmtree(twin.path.parent)
        shutil.copytree(member.path.parent, twin.path.parent)
        self.members.append(twin)
        member.up()
        twin.up()

    def _replay(self, member: Member) -> None:
        """A request that the network kept arrives (again)."""
        if not member.proxy.requests:
            return
        answer = member.proxy.replay(self.random.choice(list(member.proxy.requests)[-6:]))
        if not answer:
            return
        status = int(answer.split()[1])
        self.tally[f"replay:{status}"] += 1
        assert status in (200, 409, 410, 503), f"a replayed request was answered with {status}"

    # -- what must hold

    def _look(self) -> None:
        """Units are whole in every view, at any time."""
        member = self.random.choice(self.members)
        self._units_whole(member.name, member.do("view"))

    def _units_whole(self, who: str, view: Any) -> None:
        accounts = view["accounts"]
        assert len(accounts) in (0, len(ACCOUNTS)), (who, accounts)
        if accounts:
            balances = {name: doc["balance"] for name, doc in accounts.items()}
            assert sum(balances.values()) == TOTAL, f"{who} sees a torn transfer: {balances}"
        names = Counter(key.rpartition("-")[0] for key in view["pairs"])
        assert set(names.values()) <= {2}, f"{who} sees half a unit: {names}"

    def _heal(self) -> None:
        self._mend_due(all_of_them=True)
        for member in self.members:
            member.proxy.heal()
            self._up(member)

    def _settle(self) -> None:
        """Sync everybody until nothing moves."""
        views: list[Any] = []
        for _ in range(12):
            for member in self.members:
                member.do("now", timeout_s=60)
                if member.do("settle"):
                    member.do("now", timeout_s=60)
            views = [member.do("view") for member in self.members]
            queued = [member.do("status")["queued"] for member in self.members]
            if all(view == views[0] for view in views) and not any(queued):
                return
        raise AssertionError(f"no convergence: {differences(views)} {queued}")

    def _check(self) -> None:
        fresh = Member("fresh", self.folder, self.node)
        self.members.append(fresh)
        fresh.up()
        fresh.do("now")
        view = fresh.do("view")
        rests = {}
        for member in self.members:
            self._units_whole(member.name, member.do("view"))
            found = member.do("view")
            assert found == view, f"{member.name}: {differences([found, view])}"
            rests[member.name] = member.do("rest")
            state = rests[member.name]["state"]
            assert state in ("idle", "syncing"), f"{member.name} is {state}"
        assert self._stored() == view
        known = record_values(rests.values())
        lost = self.ledger.missing(view, known)
        assert not lost, f"gone without a record: {lost}"
        self._cursors_work()

    def _stored(self) -> Any:
        async def read() -> list[Any]:
            connection = await asyncpg.connect(self.postgres.dsn)
            try:
                return await connection.fetch(
                    "select collection, key, body from homeport.documents"
                    " where tenant = 'dev' and collection = any ($1)",
                    COLLECTIONS,
                )
            finally:
                await connection.close()

        out: dict[str, Any] = {name: {} for name in COLLECTIONS}
        for row in asyncio.run(read()):
            out[row["collection"]][row["key"]] = json.loads(row["body"])
        return out

    def _cursors_work(self) -> None:
        """One more change costs one row, not everything again."""
        # A copy of a file that has not pushed since still has the id of its twin, and begins anew
        # when that one pushes: so all of them push first.
        for member in self.members:
            member.do("set_alone", c="docs", key=f"of {member.name}", field="f0", value="end")
        for member in self.members * 3:
            member.do("now")
        before = {member.name: member.do("status")["pulled"] for member in self.members}
        self.members[0].do("set_alone", c="docs", key="last one", field="f0", value="end")
        self.members[0].do("now")
        for member in self.members[1:]:
            member.do("now")
            pulled = member.do("status")["pulled"] - before[member.name]
            assert 1 <= pulled <= 2, f"{member.name} pulled {pulled} rows for one change"


def differences(views: list[Any]) -> Any:
    out = {}
    for name in COLLECTIONS:
        keys = {key for view in views for key in view[name]}
        for key in sorted(keys):
            found = [view[name].get(key) for view in views]
            if any(one != found[0] for one in found):
                out[f"{name}/{key}"] = found
    return out


def run(seed: int, seconds: float) -> Counter[str]:
    folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
    folder.chmod(0o755)
    chaos = Chaos(seed, seconds, folder)
    try:
        chaos.run()
    except BaseException:
        sys.stderr.write(f"seed {seed}: files are in {folder}; {dict(chaos.tally)}\n")
        raise
    finally:
        chaos.close()
    shutil.rmtree(folder, ignore_errors=True)
    return chaos.tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--runs", type=int, default=1)
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.runs):
        print(seed, dict(run(seed, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
