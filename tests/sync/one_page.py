"""A device program that fetches one page of a cut and is killed: run by test_large_cuts."""

from __future__ import annotations

import os
import signal
import sys

import homeport as hp
from homeport.core import cuts

path, url, token, last = sys.argv[1:]


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


if last == "inside":
    # In the last transaction, when all rows are written and the cursor is not.
    cuts._Cut._sweep = die  # type: ignore[method-assign,assignment]
db = hp.open(path, collections=[hp.Collection("wells")])
sync = db.sync(url, token=token, live=False)
rounds = sync._pump.rounds
print(db["wells"].count(), flush=True)
sync._pump.submit(lambda: rounds.exchange(pull=True)).result(30)
print(db["wells"].count(), flush=True)
die()
