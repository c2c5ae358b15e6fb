"""Run a part of a test as an ordinary user, because root may write everywhere."""

from __future__ import annotations

import os
import pwd
import traceback
from collections.abc import Callable


def as_ordinary_user(fn: Callable[[], str]) -> str:
    """What ``fn`` returns; under root it runs in a child process of the user nobody. Its modules
    must be loaded before: the interpreter itself may lie where nobody may not read."""
    if os.geteuid() != 0:
        return fn()
    nobody = pwd.getpwnam("nobody")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(nobody.pw_gid)
            os.setuid(nobody.pw_uid)
            os.write(writing, fn().encode())
        except BaseException:
            os.write(writing, traceback.format_exc().encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with open(reading, "rb") as pipe:
        return pipe.read().decode()
