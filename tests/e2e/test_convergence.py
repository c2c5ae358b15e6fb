"""Any interleaving of edits and syncs of three clients converges, on the real node.

Each document carries what was written to it, so the end state is checked, not only its equality:
nothing is invented, nothing acknowledged disappears without a record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import homeport as hp
from tests.e2e.world import Node

KEYS = ["k0", "k1", "k2"]
FIELDS = ["a", "b", "c"]
CLIENTS = 3


@pytest.fixture(scope="module")
def node(module_database_dsn: str, tmp_path_factory: pytest.TempPathFactory):
    node = Node(module_database_dsn, tmp_path_factory.mktemp("node"))
    yield node
    node.stop()


STEP = st.one_of(
    st.tuples(st.just("sync"), st.integers(0, CLIENTS - 1)),
    st.tuples(st.just("reopen"), st.integers(0, CLIENTS - 1)),
    st.tuples(
        st.just("patch"),
        st.integers(0, CLIENTS - 1),
        st.sampled_from(KEYS),
        st.sampled_from(FIELDS),
    ),
    st.tuples(st.just("put"), st.integers(0, CLIENTS - 1), st.sampled_from(KEYS)),
    st.tuples(st.just("delete"), st.integers(0, CLIENTS - 1), st.sampled_from(KEYS)),
    st.tuples(st.just("unit"), st.integers(0, CLIENTS - 1), st.sampled_from(FIELDS)),
)


class Client:
    def __init__(self, path: Path, node: Node, collection: hp.Collection[Any]) -> None:
        self.path, self.node, self.collection = path, node, collection
        self.open()

    def open(self) -> None:
        self.db = hp.open(str(self.path), collections=[self.collection])
        self.sync = self.db.sync(self.node.url, token=self.node.token, live=False)

    def close(self) -> None:
        self.sync.stop()
        self.db.close()

    def all(self) -> dict[str, Any]:
        return {d["id"]: d for d in self.db[self.collection].all()}


count = 0


def run(policy: str, steps: list[tuple[Any, ...]], node: Node, folder: Path) -> None:
    global count
    count += 1
    # a collection of its own for each example: the node and its database serve them all
    collection = hp.Collection(
        f"{policy.replace('-', '_')}_{count}", sync=hp.Synced(policy=policy)
    )
    clients = [Client(folder / f"{count}-{n}.db", node, collection) for n in range(CLIENTS)]
    written: set[str] = set()
    value = 0
    try:
        for step in steps:
            client = clients[step[1]]
            docs = client.db[collection]
            value += 1
            mark = f"v{value}"
            if step[0] == "sync":
                client.sync.now(timeout_s=30)
            elif step[0] == "reopen":
                client.close()
                client.open()
            elif step[0] == "patch":
                if docs.get(step[2]) is not None:
                    docs.patch(step[2], {step[3]: mark})
                    written.add(mark)
            elif step[0] == "put":
                docs.put({"id": step[2], "a": mark})
                written.add(mark)
            elif step[0] == "delete":
                docs.delete(step[2])
            else:
                with client.db.transaction():
                    for key in KEYS[:2]:
                        if docs.get(key) is not None:
                            docs.patch(key, {step[2]: mark})
                            written.add(mark)
        for _ in range(6):
            for client in clients:
                client.sync.now(timeout_s=30)
        states = [c.all() for c in clients]
        assert states[0] == states[1] == states[2]
        assert all(c.sync.status().queued == 0 for c in clients)
        fresh = Client(folder / f"{count}-fresh.db", node, collection)
        clients.append(fresh)
        fresh.sync.now(timeout_s=30)
        assert fresh.all() == states[0]
        seen = {v for d in states[0].values() for f, v in d.items() if f != "id"}
        assert seen <= written
    finally:
        for client in clients:
            client.close()


@settings(max_examples=25)
@given(steps=st.lists(STEP, min_size=5, max_size=40))
def test_merge_converges(steps, node, tmp_path_factory):
    run("merge", steps, node, tmp_path_factory.mktemp("merge"))


@settings(max_examples=15)
@given(steps=st.lists(STEP, min_size=5, max_size=40))
def test_last_write_wins_converges(steps, node, tmp_path_factory):
    run("last-write-wins", steps, node, tmp_path_factory.mktemp("lww"))


@settings(max_examples=10)
@given(steps=st.lists(STEP, min_size=5, max_size=30))
def test_remote_wins_converges(steps, node, tmp_path_factory):
    run("remote-wins", steps, node, tmp_path_factory.mktemp("remote"))


@settings(max_examples=10)
@given(steps=st.lists(STEP, min_size=5, max_size=30))
def test_local_wins_converges(steps, node, tmp_path_factory):
    run("local-wins", steps, node, tmp_path_factory.mktemp("local"))
