"""The simulator: thousands of schedules, the nastiest ones by name, and bugs that must be caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from homeport.core import cuts, freeze
from homeport.core.outbox import META_CURSOR, META_IN_FLIGHT
from homeport.core.requests import SetMeta, Write
from homeport.server import decide, feed, push
from homeport.testing import Simulation
from homeport.testing.simulation import Step, main, mixed
from homeport.testing.simulation import connection, postgres

CHUNKS, EACH = 20, 105


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_r04_r06_r07_r14_r24_random_schedules_end_well(chunk: int) -> None:
    """2,100 schedules: all policies, both stores, crashes, restored servers and files."""
    for seed in range(chunk * EACH, (chunk + 1) * EACH):
        simulation = mixed(seed, steps=50)
        if not simulation.run().ok:
            pytest.fail(str(simulation.shrink()), pytrace=False)


def test_a_seed_is_a_schedule_and_replays() -> None:
    first, second = Simulation(seed=11, steps=80).run(), Simulation(seed=11, steps=80).run()
    assert first.ok, first.violations
    assert (first.trace, first.final, first.statements) == (second.trace, second.final, second.statements)
    again = Simulation(seed=99, schedule=first.trace).run()
    assert again.final == first.final
    assert Simulation(seed=12, steps=80).run().trace != first.trace
    assert "seed 11: ok" in str(first)


def test_r21_clocks_decide_nothing() -> None:
    """With and without clocks that jump by days, everybody ends with the same documents."""
    for seed in range(40):
        plain = Simulation(seed, steps=60, policy="merge", leave_out=frozenset({"skew"})).run()
        weights_of_days = Simulation(seed, steps=60, policy="merge")
        jumping = weights_of_days.run()
        assert plain.ok and jumping.ok
        assert plain.final == jumping.final, seed


def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "3", "--count", "5", "--steps", "20"]) == 0
    assert "5 schedules of 20 steps, nothing wrong" in capsys.readouterr().out


# -- the nastiest schedules


def play(*steps: str, clients: int = 2, **options: Any) -> None:
    """``"put 0 p"`` is a step put of device 0 on the document p."""
    schedule = []
    for text in steps:
        words = text.split()
        client = int(words[1]) if len(words) > 1 else 0
        key = words[2] if len(words) > 2 else "p"
        other = words[3] if len(words) > 3 else "x"
        number = int(words[4]) if len(words) > 4 else 0
        schedule.append(Step(words[0], client, key, other, number))
    report = Simulation(clients=clients, schedule=schedule, **options).run()
    assert report.ok, str(report)


BASE = ("put 0 p", "put 0 q", "sync 0", "sync 0", "sync 1", "sync 1")

NASTY = {
    "a reborn transaction id": (*BASE, "burn", "burn", "sql 0 q", "sync 0", "burn", "sync 0", "crash", "sql 0 p",
                                "sync 0", "sync 1"),
    "an asynchronous commit that a crash takes back": (*BASE, "sql-async 0 p", "sync 0", "crash", "sql 0 p y", "sync 1"),
    "commits against the order of ids": (*BASE, "open 0 p", "sql 0 q", "sync 0", "sync 1", "commit", "sync 0", "sql 0 q",
                                         "sync 1"),
    "an idle transaction through a prune": (*BASE, "open 0 p", "sync 0", "prune", "sql 0 q", "sync 0", "commit", "sync 1"),
    "a lost reply and more edits": (*BASE, "set 0 p", "lose 0", "set 0 p", "set 0 p y", "delete 0 p", "put 0 p",
                                    "replay 0 p x 2", "killed 0 p x 0", "set 0 p", "replay 0 p x 1", "sync 0"),
    "a pull that is overtaken by a push": (*BASE, "set 0 p", "lose 0", "sql 0 p", "sync 1", "delete 1 p", "sync 1", "set 0 p",
                                           "sync 0"),
    "the connection is lost at the commit": (*BASE, "set 0 p", "unit 0", "uncertain 0", "set 0 p", "uncertain 0", "cut 0 p x 6",
                                             "cut 0 p x 3", "sync 0"),
    "a week offline with units": ("unit 0", "sync 0", "sync 1", "partition 1", *("unit 1", "unit 0", "sync 0") * 8, "heal 1",
                                  "sync 1"),
    "delete, purge, create anew, and return": (*BASE, "partition 1", "set 1 p", "delete 0 p", "sync 0", "prune", "put 0 p",
                                               "sync 0", "delete 1 p", "heal 1", "sync 1"),
    "a copied file goes on beside a restored one": (*BASE, "save 0", "set 0 p", "sync 0", "set 0 q", "lose 0", "restore 0",
                                                    "set 0 p y", "sync 0", "replay 0 p x 5"),
    "a server set back forgets which ids were given up": (*BASE, "backup", "delete 1 q", "sql 0 p", "prune", "sync 1",
                                                          "sync 1", "set-back", "sync 1", "sync 1", "sync 1", "sync 0",
                                                          "put 0 q", "sync 0"),
    "a server set back to before a document was deleted and made anew": (*BASE, "delete 0 p", "backup", "sync 0", "put 0 p",
                                                                          "sync 0", "set 0 p y", "sync 0", "set-back"),
    "a server set back to before it settled a conflict itself": (*BASE, "backup", "set 0 p", "sync 0", "sync 0", "delete 1 p",
                                                                 "sync 1", "sync 1", "sync 0", "set-back"),
    "a record that the server wrote and lost": ("put 0 q", "sync 0", "sync 1", "backup", "put 0 p", "put 1 p", "sync 0", "sync 1",
                                                "sync 0", "sync 1", "sync 0", "set-back", "set 0 p"),
    "a server set back under a batch in flight": (*BASE, "backup", "set 0 p", "sync 0", "set 0 q", "lose 0", "set-back",
                                                  "replay 0 p x 3", "sync 0", "replay 0 p x 2", "sync 1"),
}  # fmt: skip


@pytest.mark.parametrize("policy", ["merge", "remote-wins", "last-write-wins"])
@pytest.mark.parametrize("name", NASTY)
def test_nasty(name: str, policy: str) -> None:
    play(*NASTY[name], policy=policy, server_backups=True)


@pytest.mark.parametrize("policy", ["merge", "last-write-wins"])
def test_r14_a_record_that_the_server_lost_is_not_written_over_by_the_next(policy: str) -> None:
    """Both settlements are of one change of one document; each has its record, whoever wrote it."""
    steps = ("backup", "put 0 q", "put 1 q", "sync 0", "sync 1", "sync 1", "sync 0", "set-back", "set 0 q")
    play(*steps, policy=policy, server_backups=True)


# -- planted bugs


def no_conflict_detection(patch: pytest.MonkeyPatch) -> None:
    plain = decide._patched

    def careless(change: Any, row: Any, settled: Any) -> Any:
        if row is not None:
            change.base = row.token
        return plain(change, row, settled)

    patch.setattr(decide, "_patched", careless)


def no_marker(patch: pytest.MonkeyPatch) -> None:
    async def believe(self: Any, connection: Any, snapshot: str, nonce: str) -> float:
        return 1.0

    patch.setattr(feed.SnapshotFeed, "age_s", believe)


def sequence_before_commit(patch: pytest.MonkeyPatch) -> None:
    """Ids below the highest one seen count as seen, committed or not."""
    plain = postgres.parts
    patch.setattr(connection, "parts", lambda text: (*plain(text)[:2], frozenset()))


def no_tombstones(patch: pytest.MonkeyPatch) -> None:
    plain = postgres.SimulatedPostgres.__init__

    def init(self: Any, now_s: Any) -> None:
        plain(self, now_s)
        self.log_deletes = False

    patch.setattr(postgres.SimulatedPostgres, "__init__", init)


def tombstones_purged_without_reset(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(connection, "pruned", lambda horizon, cursor: False)


def batches_are_not_frozen(patch: pytest.MonkeyPatch) -> None:
    """A retry sends what is queued now, under the old number."""
    plain = freeze.freeze

    def again(tables: Any) -> Any:
        waiting = freeze.read_in_flight((yield freeze.Meta(META_IN_FLIGHT)))
        if waiting is not None:
            number = str(waiting.number - 1)
            yield Write([SetMeta(META_IN_FLIGHT, None), SetMeta(freeze.META_NUMBER, number)])
        return (yield from plain(tables))

    patch.setattr("homeport.core.exchange.freeze", again)
    patch.setattr(push._Job, "_digest", property(lambda self: "same", lambda self, value: None), raising=False)
    patch.setattr(cuts, "read_in_flight", _any_hash(freeze.read_in_flight))
    patch.setattr("homeport.core.exchange.read_in_flight", _any_hash(freeze.read_in_flight))


def _any_hash(plain: Callable[..., Any]) -> Callable[..., Any]:
    def read(text: str | None) -> Any:
        found = plain(text)
        if found is not None:
            found = type(found)(found.number, "same", found.body, found.units, found.entries)
        return found

    return read


def one_verdict_for_a_batch(patch: pytest.MonkeyPatch) -> None:
    """A whole batch is refused for one conflict, and its changes are dropped."""
    plain = push._Job._apply_all

    async def all_or_nothing(self: Any, connection_: Any, context: Any) -> Any:
        verdicts = await plain(self, connection_, context)
        if any(verdict.result == "conflict" for verdict in verdicts):
            for verdict in verdicts:
                verdict.result = "applied"
        return verdicts

    patch.setattr(push._Job, "_apply_all", all_or_nothing)


def nulls_dropped(patch: pytest.MonkeyPatch) -> None:
    plain = decide.apply_patch

    def without(body: bytes, changed: Any, unset: Any) -> bytes:
        return plain(body, {p: v for p, v in changed.items() if bytes(v) != b"null"}, unset)

    patch.setattr(decide, "apply_patch", without)


def cursor_ahead_of_its_documents(patch: pytest.MonkeyPatch) -> None:
    """The cursor is kept while the pages of a cut are still coming in."""
    plain = cuts.stage

    def stage(reply: Any, position: str, before: Any) -> Any:
        done = yield from plain(reply, position, before)
        yield Write([SetMeta(META_CURSOR, "ahead")])
        return done

    patch.setattr(cuts, "stage", stage)


def conflict_check_outside_the_transaction(patch: pytest.MonkeyPatch) -> None:
    """Rows are compared as they were when the device was last here."""
    remembered: dict[Any, Any] = {}
    plain = push._Job._lock

    async def lock(self: Any, connection_: Any, units: Any) -> Any:
        rows = await plain(self, connection_, units)
        seen = {place: remembered.get((self.client, place), row) for place, row in rows.items()}
        remembered.update({(self.client, place): row for place, row in rows.items()})
        for place, row in seen.items():
            row.token = rows[place].token
        return seen

    patch.setattr(push._Job, "_lock", lock)


def everything_acknowledged_is_sent_again(patch: pytest.MonkeyPatch) -> None:
    """After a reset the number of the last batch is not believed."""
    async def none(*_: Any) -> Any:
        return {}

    patch.setattr("homeport.server.pull.last_answers", none)


def nothing_acknowledged_is_kept(patch: pytest.MonkeyPatch) -> None:
    def nothing(*_: Any) -> Any:
        return []
        yield

    patch.setattr(cuts, "keep", nothing)


def units_are_torn(patch: pytest.MonkeyPatch) -> None:
    plain = decide.decide

    def member_by_member(unit: Any, rows: Any, context: Any, taken: Any) -> Any:
        verdict, writes = plain(unit, rows, context, taken)
        return verdict, writes[:-1] if len(writes) > 1 else writes

    patch.setattr(push, "decide", member_by_member)


PLANTED = [
    no_conflict_detection,
    no_marker,
    sequence_before_commit,
    no_tombstones,
    tombstones_purged_without_reset,
    batches_are_not_frozen,
    one_verdict_for_a_batch,
    nulls_dropped,
    cursor_ahead_of_its_documents,
    conflict_check_outside_the_transaction,
    everything_acknowledged_is_sent_again,
    nothing_acknowledged_is_kept,
    units_are_torn,
]


@pytest.mark.parametrize("bug", PLANTED, ids=lambda bug: bug.__name__)
def test_a_planted_bug_is_caught(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    for seed in range(250):
        if not mixed(seed, steps=60).run().ok:
            return
    pytest.fail(f"{bug.__name__} was not noticed in 250 schedules")


def test_a_failing_schedule_shrinks(monkeypatch: pytest.MonkeyPatch) -> None:
    no_tombstones(monkeypatch)
    failing = next(s for s in (mixed(seed, steps=60) for seed in range(100)) if not s.run().ok)
    shrunk = failing.shrink()
    assert not shrunk.ok and len(shrunk.trace) < 12
    assert not Simulation(
        failing.seed, failing.clients, policy=failing.policy, deletes=failing.deletes, store=failing.store,
        small_pages=failing.small_pages, schedule=shrunk.trace,
    ).run().ok  # fmt: skip
