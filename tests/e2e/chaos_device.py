"""A device of the chaos run: edits that tell what they saw. One JSON command a line.

Started as ``python -m tests.e2e.chaos_device FILE URL TOKEN``.
"""

from __future__ import annotations

import json
import sys
import traceback
from typing import Any

import homeport as hp

COLLECTIONS = [
    hp.Collection("docs", sync=hp.Synced("merge")),
    hp.Collection("last", sync=hp.Synced("last-write-wins")),
    hp.Collection("accounts", sync=hp.Synced("remote-wins")),
    hp.Collection("pairs", sync=hp.Synced("merge")),
]


class Runner:
    def __init__(self, path: str, url: str, token: str) -> None:
        self.db = hp.open(path, collections=COLLECTIONS)
        self.sync = self.db.sync(url, token=token, poll_s=0.7)

    def set_field(self, c: str, key: str, field: str, value: str) -> Any:
        with self.db.transaction():
            old = self.db[c].get(key)
            if old is None:
                self.db[c].put({"id": key, field: value})
            else:
                self.db[c].patch(key, {field: value})
        return old

    def set_alone(self, c: str, key: str, field: str, value: str) -> Any:
        """Without a transaction, so that neighbours are coalesced."""
        return self._update(c, key, lambda old: {**old, field: value})

    def replace(self, c: str, key: str, field: str, value: str) -> Any:
        return self._update(c, key, lambda old: {"id": key, field: value})

    def _update(self, c: str, key: str, change: Any) -> Any:
        """One atomic write: a cut that comes in between is seen, or waits."""
        seen: list[Any] = []

        def make(old: dict[str, Any]) -> dict[str, Any]:
            seen[:] = [dict(old)]
            return change(old)

        self.db[c].update(key, make, default={"id": key})
        return seen[0]

    def delete(self, c: str, key: str) -> Any:
        with self.db.transaction():
            old = self.db[c].get(key)
            self.db[c].delete(key)
        return old

    def pair(self, name: str) -> None:
        with self.db.transaction():
            self.db["pairs"].put({"id": f"{name}-1"})
            self.db["pairs"].put({"id": f"{name}-2"})

    def transfer(self, source: str, target: str, amount: int) -> bool:
        with self.db.transaction():
            a, b = self.db["accounts"].get(source), self.db["accounts"].get(target)
            if a is None or b is None:
                return False
            self.db["accounts"].patch(source, {"balance": a["balance"] - amount})
            self.db["accounts"].patch(target, {"balance": b["balance"] + amount})
        return True

    def accounts(self, names: list[str]) -> None:
        self.db["accounts"].put_many([{"id": name, "balance": 100} for name in names])

    def view(self) -> Any:
        """Everything, in one snapshot."""
        with self.db.transaction():
            out = {c.name: {d["id"]: d for d in self.db[c].all()} for c in COLLECTIONS}
        return out

    def rest(self) -> Any:
        s = self.sync.status()
        as_dict = hp_to_json
        return {
            "state": s.state,
            "queued": s.queued,
            "error": s.last_error,
            "pulled": s.pulled,
            "records": [as_dict(r) for r in self.sync.resolutions(100_000)],
            "dead": [as_dict(r) for r in self.sync.dead_letters()],
            "conflicts": [as_dict(r) for r in self.sync.conflicts()],
        }

    def status(self) -> Any:
        return hp_to_json(self.sync.status())

    def settle(self) -> int:
        """Choose one's own side of every open conflict."""
        found = self.sync.conflicts()
        for one in found:
            self.sync.resolve(one.id, "mine")
        return len(found)

    def start(self) -> None:
        self.sync.start()

    def stop(self) -> None:
        self.sync.stop()

    def now(self, timeout_s: float = 30.0) -> None:
        self.sync.now(timeout_s=timeout_s)

    def quit(self) -> None:
        self.sync.stop()
        self.db.close()


def hp_to_json(value: Any) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def main() -> None:
    runner = Runner(*sys.argv[1:4])
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        do = command.pop("do")
        try:
            answer: dict[str, Any] = {"ok": getattr(runner, do)(**command)}
        except hp.HomeportError as e:
            answer = {"error": e.code, "message": str(e)}
        except Exception:
            answer = {"error": "unexpected", "message": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
        if do == "quit":
            return


if __name__ == "__main__":
    main()
