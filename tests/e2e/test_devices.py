"""Two real device processes, a real node, a real PostgreSQL, and faults between them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from homeport.testing import FaultProxy
from tests.e2e.world import Device, Node, until


@pytest.fixture
def node(database_dsn: str, tmp_path: Path):
    folder = tmp_path / "node"
    folder.mkdir()
    node = Node(database_dsn, folder)
    yield node
    node.stop()


@pytest.fixture
def proxy(node: Node):
    proxy = FaultProxy(node.url)
    yield proxy
    proxy.close()


@pytest.fixture
def device(tmp_path: Path):
    devices: list[Device] = []

    def make(name: str, url: str, token: str) -> Device:
        devices.append(Device(tmp_path / f"{name}.db", url, token))
        return devices[-1]

    yield make
    for d in devices:
        d.quit()


def documents(d: Device) -> dict[str, Any]:
    return json.loads(json.dumps(d.do("all"), sort_keys=True))


def converge(*devices: Device) -> dict[str, Any]:
    """Sync everyone until nothing moves; all must hold the same."""
    for _ in range(10):
        for d in devices:
            d.do("now")
        states = [documents(d) for d in devices]
        if all(s == states[0] for s in states) and all(
            d.do("status")["queued"] == 0 for d in devices
        ):
            return states[0]
    raise AssertionError(f"no convergence: {states}")


def well(n: int, **more: Any) -> dict[str, Any]:
    return {"id": f"w{n}", "field": "Brent", "depth_m": 1000.0 + n, **more}


def test_two_devices_and_a_fresh_third_hold_the_same(node, device):
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    a.do("put_many", c="wells", docs=[well(n) for n in range(300)])
    a.do("now")
    b.do("now")
    assert b.do("count", c="wells") == 300
    b.do("patch", c="wells", key="w1", changes={"operator": "Shell"})
    a.do("patch", c="wells", key="w1", changes={"depth_m": 1.5})
    a.do("delete", c="wells", key="w2")
    b.do("unit", docs=[["wells", well(900)], ["notes", {"id": "n1", "text": "two docs, one unit"}]])
    state = converge(a, b)
    assert state["wells"]["w1"] == {
        "id": "w1", "field": "Brent", "depth_m": 1.5, "operator": "Shell"
    }
    assert "w2" not in state["wells"]
    c = device("c", node.url, node.token)
    c.do("now")
    assert documents(c) == state


def test_r01_pushes_survive_a_killed_node(node, device):
    """SIGKILL of the node during pushes, several times; the timer drains without new writes."""
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    a.do("start")
    a.do("write_on", prefix="A")
    for _ in range(3):
        time.sleep(0.6)
        node.kill()
        time.sleep(0.3)
        node.start()
    written = a.do("write_off")
    assert len(written) > 50
    until("the queue drains", lambda: a.do("status")["queued"] == 0, 60)
    b.do("now")
    assert set(documents(b)["wells"]) == set(written)


def test_r04_a_reply_lost_after_the_commit_applies_once(node, proxy, device):
    a, b = device("a", proxy.url, node.token), device("b", node.url, node.token)
    a.do("put", c="wells", doc={"id": "counter", "n": 0})
    a.do("now")
    for _ in range(4):
        a.do("add_one", c="wells", key="counter", times=2)
        proxy.lose_answers = 1
        a.ask("now", timeout_s=1)  # the node committed; the device never heard of it
        a.do("add_one", c="wells", key="counter")
    assert proxy.lost == 4
    state = converge(a, b)
    assert state["wells"]["counter"]["n"] == 12
    assert a.do("status")["conflicts"] == 0


def test_r06_device_killed_during_a_pull_resumes(node, proxy, device):
    a = device("a", node.url, node.token)
    for start in range(0, 12000, 2000):
        a.do(
            "put_many",
            c="wells",
            docs=[well(n, remark="x" * 900) for n in range(start, start + 2000)],
        )
    a.do("now", timeout_s=120)
    b = device("b", proxy.url, node.token)
    proxy.latency_s = 0.005
    for _ in range(4):
        b.send("now", timeout_s=60)
        time.sleep(0.7)
        b.kill()
        b.start()
    proxy.latency_s = 0.0
    b.do("put", c="notes", doc={"id": "n", "text": "written between two kills"})
    b.do("now", timeout_s=120)
    a.do("now")
    assert documents(a) == documents(b)
    assert b.do("count", c="wells") == 12000


def test_r07_writes_made_while_a_page_is_applied_survive(node, device):
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    a.do("put_many", c="wells", docs=[well(n) for n in range(3000)])
    a.do("now")
    b.do("start")
    b.do("write_on", prefix="B")
    until("first sync done", lambda: b.do("count", c="wells") >= 3000)
    for n in range(0, 60):
        a.do("patch", c="wells", key=f"w{n}", changes={"depth_m": 7.25})
    a.do("now")
    time.sleep(0.5)
    written = b.do("write_off")
    state = converge(a, b)
    assert set(written) <= set(state["wells"])
    assert state["wells"]["w59"]["depth_m"] == 7.25
    assert len(state["wells"]) == 3000 + len(written)


def test_device_killed_while_writing_loses_nothing_acknowledged(node, device):
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    b.do("start")
    acknowledged: list[str] = []
    for round_ in range(3):
        b.do("write_on", prefix=f"B{round_}")
        time.sleep(0.4)
        acknowledged += b.do("written")
        b.kill()
        b.start()
        b.do("start")
    until("the queue drains", lambda: b.do("status")["queued"] == 0)
    a.do("now")
    assert set(acknowledged) <= set(documents(a)["wells"])
    assert documents(a) == documents(b)


def test_r02_offline_is_said_and_the_queue_is_in_sight(node, proxy, device):
    a = device("a", proxy.url, node.token)
    a.do("start")
    a.do("put", c="wells", doc=well(1))
    until("synced", lambda: a.do("status")["queued"] == 0)
    proxy.down()
    a.do("put_many", c="wells", docs=[well(n) for n in range(2, 12)])
    status = until(
        "offline is shown", lambda: (s := a.do("status"))["state"] == "offline" and s
    )
    assert status["queued"] == 10
    assert "unreachable" in status["last_error"].lower() or status["last_error"]
    proxy.up()
    until("the queue drains by the timer", lambda: a.do("status")["queued"] == 0, 40)


def test_realtime_edits_reach_the_other_device_without_polling(node, device):
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    a.do("start")
    b.do("start")
    a.do("put", c="wells", doc=well(1))
    until("the document arrives", lambda: b.do("get", c="wells", key="w1") is not None, 10)


def test_r24_units_are_seen_whole(node, device):
    """A transfers between two accounts in units; no pull of B ever sees half of one."""
    a, b = device("a", node.url, node.token), device("b", node.url, node.token)
    a.do("unit", docs=[["wells", {"id": "x", "n": 100}], ["wells", {"id": "y", "n": 0}]])
    a.do("now")
    b.do("now")
    a.do("start")
    done = threading.Event()
    sums: list[int] = []

    def watch() -> None:
        while not done.is_set():
            b.do("now")
            wells = b.do("all")["wells"]
            sums.append(wells["x"]["n"] + wells["y"]["n"])

    thread = threading.Thread(target=watch)
    thread.start()
    for n in range(1, 61):
        a.do("unit", docs=[["wells", {"id": "x", "n": 100 - n}], ["wells", {"id": "y", "n": n}]])
    done.set()
    thread.join()
    assert sums and set(sums) == {100}
    state = converge(a, b)
    assert state["wells"]["y"]["n"] == 60
