"""The public names are those of ``__all__``, sorted, and nothing else is public by accident."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import homeport as hp

ROOT = Path(__file__).parent.parent
LAZY = {"Sync", "AsyncSync"}


def test_all_is_sorted_and_complete() -> None:
    def rank(name: str) -> tuple[int, str]:
        return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)

    assert hp.__all__ == sorted(hp.__all__, key=rank)
    modules = {"core", "drivers", "storage", "transport", "server", "cli", "testing", "ids"}
    public = {
        name
        for name, value in vars(hp).items()
        if not name.startswith("_")
        and name not in modules
        and not (isinstance(value, ModuleType) and name not in {"agg", "errors"})
        and name not in {"annotations", "TYPE_CHECKING", "Any"}
    }
    assert public | LAZY == set(hp.__all__)


def test_every_public_name_can_be_had() -> None:
    for name in hp.__all__:
        assert getattr(hp, name) is not None


def test_public_things_are_documented() -> None:
    for name in set(hp.__all__):
        value = getattr(hp, name)
        if isinstance(value, type) and value.__module__.startswith("homeport"):
            assert value.__doc__, name
            for member, function in vars(value).items():
                if callable(function) and not member.startswith("_") and member in _wordy(value):
                    assert function.__doc__, f"{name}.{member}"


def _wordy(cls: type) -> set[str]:
    """Methods that need words: all but Dexie's, whose names say everything."""
    return set() if cls.__name__.endswith("Where") else set(vars(cls))


def test_the_blocking_facade_is_generated_from_the_async_one() -> None:
    done = subprocess.run(
        [sys.executable, "tools/async_to_sync.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[:3000] + done.stderr


def test_both_facades_have_the_same_names() -> None:
    for name in ("Database", "Documents", "Query", "LiveQuery", "Sync"):
        ours, theirs = getattr(hp, name), getattr(hp, f"Async{name}")
        assert {m for m in vars(ours) if not m.startswith("_")} == {
            m for m in vars(theirs) if not m.startswith("_")
        }
