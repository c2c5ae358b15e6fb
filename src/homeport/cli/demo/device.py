"""The process of one device: opens its own file and does the tasks that come in as JSON lines.

``python -m homeport.cli.demo.device NAME FILE``. Answers go to standard output, one JSON object a
line: ``{"event": "done", "result": …}`` or ``{"event": "failed", "message": …}`` ends a task, any
other event is news on the way.
"""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

import homeport as hp
from homeport.cli.demo.models import COLLECTIONS
from homeport.cli.demo.tasks import TASKS, Device


def main() -> None:
    """Serve tasks until standard input ends."""
    name, file = sys.argv[1:3]
    lock = threading.Lock()  # a live query speaks from its own thread

    def emit(event: str, **facts: Any) -> None:
        line = json.dumps({"event": event, **facts})
        with lock:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    with hp.open(file, collections=COLLECTIONS) as db:
        device = Device(name, db, emit)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                emit("done", result=TASKS[request.pop("task")](device, **request))
            except hp.HomeportError as error:
                emit("failed", code=error.code, message=str(error))
        device.close()


if __name__ == "__main__":
    main()
