"""R15: programs of several versions on one server, with and without a node that knows the steps."""

from __future__ import annotations

import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from homeport.errors import ReadOnly, SchemaError, SchemaMismatch, UpgradeRequired
from homeport.server.rules import ServerCollection

from .site import Site, settle


class Well1(msgspec.Struct):
    id: str
    name: str
    depth: float = 0  # in feet


class Well2(msgspec.Struct):
    id: str
    name: str
    depth: float = 0  # in metres: the same field means something else
    first: str = ""


def to_2(doc: dict[str, Any]) -> dict[str, Any]:
    doc["depth"] = round(doc.get("depth", 0) * 0.3048, 6)
    doc["first"] = doc["name"].split()[0] if doc["name"] else ""
    return doc


def to_3(doc: dict[str, Any]) -> dict[str, Any]:
    doc["depth_m"] = doc.pop("depth", 0)
    return doc


STEPS = {1: to_2, 2: to_3}


def wells(version: int, model: Any = None, **more: Any) -> Any:
    steps = {number: STEPS[number] for number in STEPS if number < version}
    return hp.Collection("wells", model, version=version, upcasters=steps, **more)


@pytest.fixture(params=["plain", "knowing"])
def site(request, database_dsn):
    """A node that knows nothing of versions, and one that knows the steps."""
    known = None
    if request.param == "knowing":
        known = [ServerCollection("wells", version=3, upcasters=STEPS)]
    with Site(database_dsn, known) as site:
        yield site


def test_r15_an_old_document_is_read_edited_and_sent_whole_by_a_new_program(site, tmp_path):
    with (
        hp.open(tmp_path / "1.db", collections=[wells(1)]) as one,
        hp.open(tmp_path / "2.db", collections=[wells(2)]) as two,
        hp.open(tmp_path / "3.db", collections=[wells(3)]) as three,
    ):
        syncs = [site.sync(db) for db in (one, two, three)]
        one["wells"].put({"id": "w", "name": "Brent 7", "depth": 1000, "extra": [1]})
        settle(*syncs)
        old = {"id": "w", "name": "Brent 7", "depth": 1000, "extra": [1]}
        assert two["wells"].get("w") == {**old, "depth": 304.8, "first": "Brent"}
        newest = three["wells"].get("w")
        assert newest == {"id": "w", "name": "Brent 7", "first": "Brent", "depth_m": 304.8, "extra": [1]}
        # Reading has written nothing, on the server or in the queues.
        token = one["wells"].meta("w").token
        assert {db["wells"].meta("w").token for db in (one, two, three)} == {token}
        assert [sync.status().pushed for sync in syncs[1:]] == [0, 0]
        # Equal copies, although one shows another form than the server has.
        assert [sync.verify().different for sync in syncs] == [0, 0, 0]

        two["wells"].patch("w", depth=305)
        settle(*syncs)
        assert two["wells"].get("w") == {**old, "depth": 305, "first": "Brent"}
        assert three["wells"].get("w") == {**newest, "depth_m": 305}
        three["wells"].patch("w", {"name": "Brent 8"})
        settle(*syncs)
        for db in (one, two, three):
            assert db["wells"].get("w")["name"] == "Brent 8"
            assert db["wells"].get("w")["extra"] == [1]
        assert three["wells"].get("w")["depth_m"] == 305
        # An old program edits what it does not understand all of: the rest stays.
        one["wells"].patch("w", {"note": "old"})
        settle(*syncs)
        assert three["wells"].get("w") == {**newest, "depth_m": 305, "name": "Brent 8", "note": "old"}
        quiet = [sync.status().pushed for sync in syncs]
        settle(*syncs)
        assert [sync.status().pushed for sync in syncs] == quiet  # nobody writes it back and forth
        for sync in syncs:
            sync.stop()


def test_r15_a_program_is_updated_with_a_full_queue(site, tmp_path):
    path = tmp_path / "w.db"
    with hp.open(path, collections=[wells(1, Well1, indexes=["depth"])]) as db:
        sync = site.sync(db)
        db["wells"].put_many([Well1(f"w{n}", f"Brent {n}", 1000 * n) for n in range(5)])
        sync.now(timeout_s=30)
        db["wells"].put(Well1("new", "Beryl 1", 100))
        db["wells"].patch("w1", name="Alwyn 1")
        db["wells"].patch("w2", depth=5000)
        db["wells"].delete("w3")
        sync.stop()
    collection = wells(2, Well2, indexes=["depth"])
    with hp.open(path, collections=[collection]) as db:
        # Offline, at once: documents, indexes and queue are those of the new version.
        assert db[collection].get("w4") == Well2("w4", "Brent 4", 1219.2, "Brent")
        assert db[collection].get("w1") == Well2("w1", "Alwyn 1", 304.8, "Alwyn")
        deep = db[collection].where(hp.F.depth > 1000).order_by("depth").keys()
        assert deep == ["w4", "w2"]
        db[collection].patch("w4", name="Beryl 4")
        sync = site.sync(db)
        assert sync.status().queued == 5
        sync.now(timeout_s=30)
        assert sync.status().queued == 0 and sync.status().dead == sync.status().conflicts == 0
        with hp.open(tmp_path / "other.db", collections=[collection]) as other:
            site.sync(other).now(timeout_s=30)
            found = {well.id: well for well in other[collection].all()}
            assert found == {well.id: well for well in db[collection].all()}
            assert found == {
                "w0": Well2("w0", "Brent 0", 0, "Brent"),
                "w1": Well2("w1", "Alwyn 1", 304.8, "Alwyn"),
                "w2": Well2("w2", "Brent 2", 1524, "Brent"),
                "w4": Well2("w4", "Beryl 4", 1219.2, "Brent"),
                "new": Well2("new", "Beryl 1", 30.48, "Beryl"),
            }
        sync.stop()
    # Again: nothing is raised twice.
    with hp.open(path, collections=[collection]) as db:
        assert db[collection].get("w4").depth == 1219.2
    with pytest.raises(SchemaMismatch, match="version 2; this program knows 1"):
        hp.open(path, collections=[wells(1, Well1)])


def test_r15_a_node_may_ask_for_a_version(sites, database_dsn, tmp_path):
    served_here = [ServerCollection("wells", version=2, upcasters={1: to_2}, minimum=2)]
    site = sites(database_dsn, served_here)
    path = tmp_path / "w.db"
    with hp.open(path, collections=[wells(1)]) as db:
        db["wells"].put({"id": "w", "name": "Brent 7", "depth": 1000})
        sync = site.sync(db)
        with pytest.raises(UpgradeRequired, match="wells needs version 2"):
            sync.now(timeout_s=10)
        status = sync.status()
        assert (status.state, status.queued, status.dead) == ("incompatible", 1, 0)
        assert "version 2" in (status.last_error or "")
        sync.start()
        deadline = time.monotonic() + 10
        while sync.status().last_attempt_ms is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        db["wells"].put({"id": "v", "name": "Brent 8", "depth": 10})  # it goes on offline
        sync.stop()
    with hp.open(path, collections=[wells(2)]) as db:
        sync = site.sync(db)
        assert sync.now(timeout_s=30).queued == 0
        assert db["wells"].get("v")["depth"] == 3.048
        sync.stop()


def test_r15_what_plain_sql_left_in_an_old_form(sites, database_dsn, tmp_path):
    site = sites(database_dsn, [ServerCollection("wells", version=2, upcasters={1: to_2})])

    site.sql(
        "insert into homeport.documents (tenant, collection, key, body) values"
        """ ('t1', 'wells', 'w', '{"id": "w", "name": "Brent 7", "depth": 1000}'),"""
        """ ('t1', 'wells', 'bad', '{"id": "bad", "name": 7}')"""
    )
    with (
        hp.open(tmp_path / "1.db", collections=[wells(1)]) as one,
        hp.open(tmp_path / "2.db", collections=[wells(2)]) as two,
    ):
        first, second = site.sync(one), site.sync(two)
        events: list[Any] = []
        second.on_event(events.append)
        settle(first, second)
        assert one["wells"].get("w")["depth"] == 1000  # an old program gets it as it can read it
        assert two["wells"].get("w")["depth"] == 304.8
        # Rule G: what a function cannot read is stored all the same, and told.
        assert two["wells"].get("bad") == {"id": "bad", "name": 7}
        assert [event.key for event in events if event.kind == "unreadable"] == ["bad"]
        one["wells"].patch("w", depth=2000)
        settle(first, second)
        assert two["wells"].get("w")["depth"] == 609.6
        for sync in (first, second):
            sync.stop()


def test_conflicts_and_dead_letters_are_raised_with_the_rest(sites, database_dsn, tmp_path):
    def refuse(claims: Any, old: Any, new: Any) -> bool:
        return (new or {}).get("name") != "no"

    declared = ServerCollection(
        "wells", policy="manual", version=2, upcasters={1: to_2}, write=refuse
    )
    site = sites(database_dsn, [declared])
    path = tmp_path / "w.db"
    manual = {"sync": hp.Synced(policy="manual")}
    with (
        hp.open(path, collections=[wells(1, **manual)]) as one,
        hp.open(tmp_path / "x.db", collections=[wells(1, **manual)]) as other,
    ):
        first, second = site.sync(one), site.sync(other)
        one["wells"].put({"id": "w", "name": "Brent 7", "depth": 1000})
        settle(first, second)
        one["wells"].patch("w", depth=3000)
        other["wells"].patch("w", depth=2000)
        one["wells"].put({"id": "n", "name": "no", "depth": 100})
        settle(second, first)
        assert len(first.conflicts()) == len(first.dead_letters()) == 1
        for sync in (first, second):
            sync.stop()
    with hp.open(path, collections=[wells(2, **manual)]) as db:
        sync = site.sync(db)
        (conflict,), (letter,) = sync.conflicts(), sync.dead_letters()
        assert conflict.local["depth"] == 914.4 and conflict.remote["depth"] == 609.6
        assert conflict.base["depth"] == 304.8
        sync.resolve(conflict.id, "mine")
        sync.retry(letter.id)
        assert db["wells"].get("n") == {"id": "n", "name": "no", "depth": 30.48, "first": "no"}
        db["wells"].patch("n", name="yes")
        sync.now(timeout_s=30)
        assert db["wells"].get("w")["depth"] == 914.4 and sync.status().queued == 0
        sync.stop()


def test_a_readonly_file_of_an_older_version_says_so(tmp_path):
    path = tmp_path / "w.db"
    with hp.open(path, collections=[wells(1)]) as db:
        db["wells"].put({"id": "w", "name": "Brent 7", "depth": 1000})
    with pytest.raises(ReadOnly, match="older version"):
        hp.open(path, collections=[wells(2)], readonly=True)
    with hp.open(path, collections=None) as db:
        assert db["wells"].get("w")["depth"] == 1000


@pytest.mark.parametrize(
    "wrong",
    [{"version": 0}, {"version": True}, {"version": 2, "upcasters": {2: to_2}}, {"upcasters": [to_2]}],
)
def test_a_wrong_declaration_is_refused(wrong):
    with pytest.raises(SchemaError):
        hp.Collection("wells", **wrong)
    with pytest.raises(SchemaError):
        ServerCollection("wells", **wrong)
    with pytest.raises(SchemaError):
        ServerCollection("wells", minimum=2)


# The steps of the property add and rename, and lose nothing by themselves.
LOSSLESS = {
    1: lambda doc: {**doc, "b": {"was": doc.get("a")}},
    2: lambda doc: {**{k: v for k, v in doc.items() if k != "b"}, "c": doc.get("b")},
}
FIELDS = ["own1", "own2", "own3", "note"]
edits = st.lists(
    st.tuples(
        st.integers(0, 1),  # which device
        st.sampled_from(["edit", "make", "delete", "sync", "update"]),
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(FIELDS),
    ),
    min_size=3,
    max_size=14,
)


@pytest.mark.parametrize("knowing", [False, True])
def test_r15_random_pairs_of_versions_converge_and_lose_no_field(sites, database_dsn, knowing):
    known = [ServerCollection("wells", version=3, upcasters=LOSSLESS)] if knowing else None
    site = sites(database_dsn, known)
    tenants = iter(range(10_000))

    def collection(version: int) -> Any:
        steps = {n: LOSSLESS[n] for n in LOSSLESS if n < version}
        return hp.Collection("wells", version=version, upcasters=steps)

    @settings(max_examples=12)
    @given(st.tuples(st.integers(1, 3), st.integers(1, 3)), edits)
    def check(versions: tuple[int, int], plan: Any) -> None:
        tenant = f"tenant{next(tenants)}"
        token = site.token(tenant=tenant)
        dbs = [hp.open(":memory:", collections=[collection(v)]) for v in versions]
        syncs = [db.sync(site.url, token=token, live=False) for db in dbs]
        written: dict[tuple[str, str], int] = {}
        deleted: set[str] = set()
        for number, (device, what, key, name) in enumerate(plan, 1):
            there = dbs[device]["wells"].get(key)
            if what == "sync":
                syncs[device].now(timeout_s=30)
            elif what == "make" and there is None and key not in deleted:
                made = collection(versions[device]).versions.raised({"id": key, "a": number}, 1)
                dbs[device]["wells"].put(made)
            elif what == "edit" and there is not None:
                dbs[device]["wells"].patch(key, {name: number})
                written[key, name] = number
            elif what == "delete" and there is not None:
                dbs[device]["wells"].delete(key)
                deleted.add(key)
        settle(*syncs)
        last = [sync.status().pushed for sync in syncs]
        settle(*syncs)
        assert [sync.status().pushed for sync in syncs] == last
        low, high = sorted(range(2), key=lambda n: versions[n])
        found = {doc["id"]: doc for doc in dbs[high]["wells"].all()}
        seen = {doc["id"]: doc for doc in dbs[low]["wells"].all()}
        assert seen.keys() == found.keys()
        rows = site.sql(
            "select key, body, schema from homeport.documents"
            " where tenant = $1 and collection = 'wells'", tenant
        )  # fmt: skip
        for row in rows:
            body = msgspec.json.decode(row["body"])
            for n, db in enumerate(dbs):
                shown = collection(versions[n]).versions.raised(dict(body), row["schema"])
                assert db["wells"].get(row["key"]) == shown
            for name in FIELDS:
                if (row["key"], name) in written:
                    assert name in body, "a field was lost"
            if row["schema"] >= 2:
                assert ("b" if row["schema"] == 2 else "c") in body, "half of a form was sent"
        for sync in syncs:
            sync.stop()
        for db in dbs:
            db.close()

    check()


def test_r15_an_older_program_writes_no_more_once_a_newer_one_has_the_file(tmp_path) -> None:
    """Each has the file open. What the older one wrote would be taken for the newer form, and would
    never be brought up to it."""
    path = str(tmp_path / "a.db")
    with hp.open(path, collections=[wells(1)]) as before:
        before["wells"].put({"id": "w1", "name": "Ada", "depth": 10.0})
        with hp.open(path, collections=[wells(2)]) as after:
            assert after["wells"].get("w1")["first"] == "Ada"
            for write in (
                lambda: before["wells"].put({"id": "w2", "name": "Ida", "depth": 10.0}),
                lambda: before["wells"].patch("w1", depth=20.0),
                lambda: before["wells"].delete("w1"),
            ):
                with pytest.raises(SchemaMismatch, match="brought the documents of wells"):
                    write()
            after["wells"].patch("w1", name="Eva")  # the newer one goes on
            assert after["wells"].keys() == ["w1"]
    with hp.open(path, collections=[wells(2)]) as again:
        again["wells"].put({"id": "w2", "name": "Ida"})
