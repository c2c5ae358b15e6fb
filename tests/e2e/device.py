"""A device in its own process: JSON commands on standard input, one JSON answer a line.

Started by the tests as ``python -m tests.e2e.device FILE URL TOKEN``.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from typing import Any

import homeport as hp

WELLS = hp.Collection("wells", indexes=["depth_m", ("field", "depth_m")])
NOTES = hp.Collection("notes", indexes=[hp.FullText("text")])
COLLECTIONS = [WELLS, NOTES]


def main() -> None:
    path, url, token = sys.argv[1:4]
    db = hp.open(path, collections=COLLECTIONS)
    sync = db.sync(url, token=token, poll_s=0.5)
    print(json.dumps({"ready": True}), flush=True)
    writers: list[threading.Thread] = []
    stop = threading.Event()
    written: list[str] = []

    def write_on(prefix: str) -> None:
        n = 0
        while not stop.is_set():
            key = f"{prefix}-{n}"
            db["wells"].put({"id": key, "field": prefix, "depth_m": float(n)})
            written.append(key)
            n += 1

    for line in sys.stdin:
        command: dict[str, Any] = json.loads(line)
        do = command.pop("do")
        try:
            out: Any = None
            if do == "put":
                out = db[command["c"]].put(command["doc"])
            elif do == "put_many":
                out = len(db[command["c"]].put_many(command["docs"]))
            elif do == "patch":
                out = db[command["c"]].patch(command["key"], command["changes"])
            elif do == "delete":
                out = db[command["c"]].delete(command["key"])
            elif do == "unit":
                with db.transaction():
                    for c, doc in command["docs"]:
                        db[c].put(doc)
            elif do == "add_one":
                for _ in range(command.get("times", 1)):
                    db[command["c"]].update(
                        command["key"], lambda d: {**d, "n": d.get("n", 0) + 1}
                    )
            elif do == "get":
                out = db[command["c"]].get(command["key"])
            elif do == "all":
                out = {c.name: {d["id"]: d for d in db[c].all()} for c in COLLECTIONS}
            elif do == "count":
                out = db[command["c"]].count()
            elif do == "start":
                sync.start()
            elif do == "stop":
                sync.stop()
            elif do == "now":
                sync.now(timeout_s=command.get("timeout_s", 30))
            elif do == "status":
                s = sync.status()
                out = {
                    "state": s.state,
                    "queued": s.queued,
                    "last_error": s.last_error and str(s.last_error),
                    "conflicts": s.conflicts,
                    "dead": s.dead,
                }
            elif do == "write_on":
                thread = threading.Thread(target=write_on, args=(command["prefix"],), daemon=True)
                writers.append(thread)
                thread.start()
            elif do == "write_off":
                stop.set()
                for thread in writers:
                    thread.join()
                out = list(written)
            elif do == "written":
                out = list(written)
            elif do == "quit":
                sync.stop()
                db.close()
                print(json.dumps({"ok": None}), flush=True)
                return
            else:
                raise ValueError(do)
            print(json.dumps({"ok": out}), flush=True)
        except hp.HomeportError as e:
            print(json.dumps({"error": e.code, "message": str(e)}), flush=True)
        except Exception:
            print(json.dumps({"error": "unexpected", "message": traceback.format_exc()}), flush=True)


if __name__ == "__main__":
    main()
