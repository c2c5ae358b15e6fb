"""Draw the state tables of docs/protocol.md from the tables that the code runs by.

python tools/state_tables.py            # write them
python tools/state_tables.py --check    # fail if the document differs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "protocol.md"
MARK = re.compile(r"(<!-- states: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def drawn(table: Mapping[tuple[str, str], tuple[str, ...]]) -> str:
    """A row for a state, a column for an event; empty: it cannot happen, or changes nothing."""
    states = list(dict.fromkeys(state for state, _ in table))
    events = list(dict.fromkeys(event for _, event in table))
    lines = ["| | " + " | ".join(events) + " |", "|" + "---|" * (len(events) + 1)]
    for state in states:
        cells = [", ".join(table.get((state, event), ())) for event in events]
        lines.append(f"| **{state}** | " + " | ".join(cells) + " |")
    ends = sorted({to for ways in table.values() for to in ways} - set(states))
    if ends:
        lines.append(f"\nEnds: {', '.join(ends)}.")
    return "\n".join(lines)


def tables() -> dict[str, Mapping[tuple[str, str], tuple[str, ...]]]:
    """Those of the code, by the name in the document."""
    sys.path.insert(0, str(ROOT / "src"))
    from homeport.core import lifecycle, session  # noqa: PLC0415 - the path is set first

    handle: dict[tuple[str, str], tuple[str, ...]] = {
        (state, kind.__name__): ways
        for state in session.STATES
        for kind, by_state in session.TRANSITIONS.items()
        if (ways := by_state.get(state)) is not None and ways != (state,)
    }
    found: dict[str, Any] = {
        "units": lifecycle.UNITS,
        "conflicts": lifecycle.CONFLICTS,
        "places": lifecycle.PLACES,
        "handle": handle,
    }
    return found


def written(text: str) -> str:
    """The document with its tables drawn anew. Raises ``KeyError`` for a name without a table."""
    known = tables()
    seen: list[str] = []

    def draw(match: re.Match[str]) -> str:
        seen.append(match[2])
        return f"{match[1]}{drawn(known[match[2]])}\n{match[3]}"

    text = MARK.sub(draw, text)
    if sorted(seen) != sorted(known):
        raise SystemExit(f"docs/protocol.md has marks for {seen}, the code has {sorted(known)}")
    return text


def main() -> int:
    """0 when the document is (now) as it should be."""
    before = DOCUMENT.read_text(encoding="utf-8")
    after = written(before)
    if "--check" in sys.argv[1:]:
        if before != after:
            print(
                "docs/protocol.md: the state tables differ from the code; run tools/state_tables.py"
            )
        return int(before != after)
    DOCUMENT.write_text(after, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
