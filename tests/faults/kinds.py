"""The kinds of faults. ``fault`` does one and takes it back, again and again while everybody works."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from homeport.server.processes import descendants
from homeport.testing import FaultProxy
from tests.faults import bouncer
from tests.faults.lifecycle import (
    Pair,
    begin_twins,
    copy_or_restore,
    disturb_twins,
    fail_over,
    freeze_leader,
    prepare_standby,
    put_backup_back,
    take_backup,
)
from tests.faults.oracle import Promises
from tests.faults.world import DeviceProcess, Run, World


def nothing(run: Run) -> None:
    """No fault; the end of a run is the same for all."""


class Kind(NamedTuple):
    text: str
    """One line for the table."""
    fault: Callable[[Run], None]
    prepare: Callable[[Run], None] = nothing
    """After the devices have begun."""
    more_heal: Callable[[Run], None] = nothing
    hold_s: float = 0.0
    """How long the SQL program sits in some of its transactions."""
    promises: Promises = Promises()
    world: Callable[..., World] = World

    def heal(self, run: Run) -> None:
        """Everything works again. Harmless when it does."""
        self.more_heal(run)
        heal(run)


def heal(run: Run) -> None:
    world = run.world
    world.postgres.thaw()
    for node in world.nodes:
        if node.process is None or node.process.poll() is not None:
            node.start()
        else:
            node.process.send_signal(signal.SIGCONT)
    for gate in world.gates:
        gate.heal()
    for device in run.devices:
        device.proxy.heal()
        if device.alive:
            device.signal(signal.SIGCONT)
        else:
            device.up()


def some(run: Run) -> list[DeviceProcess]:
    """One to all of the devices."""
    return run.random.sample(run.devices, run.random.randint(1, len(run.devices)))


def no_fault(run: Run) -> None:
    run.later(0.5, 0.5)


# -- the network between devices and nodes


def disconnect(run: Run) -> None:
    chosen = some(run)
    for device in chosen:
        device.proxy.down()
    run.did("disconnected")
    run.later(0.1, 1.0)
    for device in chosen:
        device.proxy.up()
    run.later(0.05, 0.5)


def cut(run: Run) -> None:
    device = run.random.choice(run.devices)
    match run.random.choice(("cut", "lose", "truncate", "half")):
        case "cut":
            device.proxy.cut()
            run.did("reset")
        case "lose":
            device.proxy.lose_answers += 1
            run.did("answer lost")
        case "truncate":
            device.proxy.truncate_answers += 1
            run.did("answer truncated")
        case _:
            device.proxy.half_close(run.random.choice(("requests", "answers")))
            run.did("half-closed")
    run.later(0, 0.15)


def slow(run: Run) -> None:
    for device in run.devices:
        proxy = device.proxy
        proxy.latency_s, proxy.jitter_s = run.random.uniform(0, 0.1), run.random.uniform(0, 0.2)
        proxy.bytes_per_s = run.random.choice((None, 20_000, 100_000))
        proxy.chunk_bytes = run.random.choice((None, 1, 7, 1000))
    run.did("slowed")
    run.later(0.3, 0.8)


def repeat(run: Run) -> None:
    for device in run.devices:
        device.proxy.duplicate = 0.5
        device.proxy.duplicate_within_s = 0.8
    device = run.random.choice(run.devices)
    if requests := list(device.proxy.requests):
        node = run.random.choice(run.world.nodes)  # not always the one that it was meant for
        with FaultProxy(node.url) as past:
            past.replay(run.random.choice(requests))
        run.did("old request replayed")
    if run.random.random() < 0.3:
        device.proxy.lose_answers += 1
        run.did("answer lost")
    run.later(0, 0.1)


def partition(proxies: list[FaultProxy], run: Run, what: str) -> None:
    direction = run.random.choice(("requests", "answers", "both"))
    for proxy in proxies:
        proxy.held = direction
    run.did(f"{what}, {direction} held")
    run.later(0.2, 1.5)
    for proxy in proxies:
        if run.random.random() < 0.5:
            proxy.cut()  # what was under way is gone; else it arrives late
        proxy.held = None
    run.later(0.1, 0.5)


def partition_device(run: Run) -> None:
    partition([device.proxy for device in some(run)], run, "device")


def partition_node(run: Run) -> None:
    """A node from everybody: its devices and its database."""
    n = run.random.randrange(2)
    url = run.world.nodes[n].url
    devices = [device.proxy for device in run.devices if device.node.url == url]
    partition([*devices, run.world.gates[n]], run, "node")


def partition_database(run: Run) -> None:
    gates = run.world.gates
    chosen = run.random.choice((gates, gates[:1], gates[1:]))
    if run.random.random() < 0.3:
        for gate in chosen:
            gate.down()
        run.did("database unreachable")
        run.later(0.1, 1.0)
        for gate in chosen:
            gate.up()
    else:
        partition(list(chosen), run, "database")


# -- processes


def pause_device(run: Run) -> None:
    chosen = some(run)
    for device in chosen:
        device.signal(signal.SIGSTOP)
    run.did("device stopped")
    run.later(0.1, 1.2)
    for device in chosen:
        device.signal(signal.SIGCONT)
    run.later(0.05, 0.4)


def pause_node(run: Run) -> None:
    nodes = run.world.nodes
    chosen = run.random.choice((nodes, nodes[:1], nodes[1:]))
    for node in chosen:
        _process(node).send_signal(signal.SIGSTOP)
    run.did("node stopped")
    run.later(0.1, 1.2)
    for node in chosen:
        _process(node).send_signal(signal.SIGCONT)
    run.later(0.05, 0.4)


def pause_database(run: Run) -> None:
    postgres = run.world.postgres
    if run.random.random() < 0.5:
        postgres.freeze()
        run.did("PostgreSQL stopped")
        run.later(0.1, 1.2)
        postgres.thaw()
    else:
        backend = run.random.choice(descendants(postgres.pid))
        with suppress(ProcessLookupError):
            os.kill(backend, signal.SIGSTOP)
        run.did("one of its processes stopped")
        run.later(0.1, 1.2)
        with suppress(ProcessLookupError):
            os.kill(backend, signal.SIGCONT)
    run.later(0.05, 0.4)


def close_device(run: Run) -> None:
    chosen = some(run)
    for device in chosen:
        device.close()
    run.did("device closed")
    run.later(0.05, 0.6)
    for device in chosen:
        _again(device)
    run.later(0.1, 0.5)


def kill_device(run: Run) -> None:
    chosen = some(run)
    for device in chosen:
        device.kill()
        run.later(0, 0.005)
    run.did("device killed")
    run.later(0, 0.5)
    for device in chosen:
        _again(device)
    run.later(0.005, 0.5)


def _again(device: DeviceProcess) -> None:
    device.up()
    device.do("work")


def kill_node(run: Run) -> None:
    nodes = run.world.nodes
    chosen = run.random.choice((nodes, nodes[:1], nodes[1:]))
    for node in chosen:
        node.kill()
    run.did("node killed")
    run.later(0, 0.6)
    for node in chosen:
        node.start()
    run.later(0.2, 0.8)


def kill_database(run: Run) -> None:
    postgres = run.world.postgres
    match run.random.choice(("kill", "immediate", "backend", "terminate")):
        case "kill":
            postgres.kill()
            run.did("PostgreSQL killed")
            run.later(0, 0.6)
            postgres.restart()
        case "immediate":
            os.kill(postgres.pid, signal.SIGQUIT)
            run.did("PostgreSQL shut down at once")
            run.later(0, 0.6)
            postgres.restart()
        case "backend":
            # A killed backend has the postmaster restart all the others.
            with suppress(OSError, IndexError):
                pid = run.random.choice(_backends(run))
                os.kill(pid, signal.SIGKILL)
                run.did("a backend killed")
        case _:
            with suppress(Exception):
                run.world.read(
                    "select pg_terminate_backend(pid) from pg_stat_activity"
                    " where application_name = 'homeport'"
                )
                run.did("connections terminated")
    run.later(0.2, 0.8)


def cancel(run: Run) -> None:
    """What statement_timeout and idle_in_transaction_session_timeout do, at any statement."""
    ours = "from pg_stat_activity where application_name = 'homeport' and state"
    if run.random.random() < 0.7:
        run.world.read(f"select pg_cancel_backend(pid) {ours} = 'active'")
        run.did("statements cancelled")
    else:
        run.world.read(f"select pg_terminate_backend(pid) {ours} = 'idle in transaction'")
        run.did("sessions ended in a transaction")
    run.later(0, 0.03)


def _backends(run: Run) -> list[int]:
    try:
        rows = run.world.read(
            "select pid from pg_stat_activity where application_name = 'homeport'"
        )
    except Exception:
        return []
    return [row["pid"] for row in rows]


def _process(node: Any) -> Any:
    assert node.process is not None
    return node.process


def clock(run: Run) -> None:
    device = run.random.choice(run.devices)
    device.clock_s = run.random.choice((-86_400, -3_600, -30, 0, 30, 3_600, 86_400, 40 * 86_400))
    device.do("clock", jump_s=device.clock_s)
    run.did("clock jumped")
    if run.random.random() < 0.2:
        device.kill()  # and begins with the wrong clock
        _again(device)
    run.later(0.05, 0.3)


def locks(run: Run) -> None:
    """Only the SQL program disturbs: it sits in its transactions, holding rows and ids."""
    run.did("rows held by SQL")
    run.later(0.5, 0.5)


KINDS: dict[str, Kind] = {
    "no fault": Kind("everything works", no_fault),
    "disconnect": Kind("devices: connections refused and reset", disconnect),
    "cut": Kind("connections reset or half-closed, answers lost or truncated", cut),
    "slow": Kind("latency, jitter, narrow bandwidth, single bytes", slow),
    "repeat": Kind("requests sent twice; old ones replayed, at either node", repeat),
    "partition device": Kind("bytes held in one or both directions: devices", partition_device),
    "partition node": Kind("the same: a node from its devices and its database", partition_node),
    "partition database": Kind("the same: nodes from PostgreSQL", partition_database),
    "pause device": Kind("SIGSTOP and SIGCONT", pause_device),
    "pause node": Kind("SIGSTOP and SIGCONT, one or both", pause_node),
    "pause database": Kind("SIGSTOP and SIGCONT, all of it or one process", pause_database),
    "stop device": Kind("closed in good order, and opened again", close_device),
    "kill device": Kind("SIGKILL at any instant, and opened again", kill_device),
    "kill node": Kind("SIGKILL, one or both, and started again", kill_node),
    "kill database": Kind(
        "SIGKILL of all, immediate shutdown, SIGKILL of a backend, ended connections",
        kill_database,
    ),
    "cancel": Kind("PostgreSQL cancels statements, and ends sessions inside transactions", cancel),
    "clock": Kind("devices' clocks jump by seconds, hours, days, weeks", clock),
    "SQL": Kind("another program holds rows in open transactions", locks, hold_s=0.8),
    "two programs": Kind(
        "two processes on one file; one stopped or killed", disturb_twins, begin_twins
    ),
    "frozen leader": Kind(
        "the same; the one that replicates stopped beyond its lease", freeze_leader, begin_twins
    ),
    "copied device": Kind("a file copied to another machine, or put back", copy_or_restore),
    "backup": Kind(
        "the server put back to a backup",
        put_backup_back,
        take_backup,
        promises=Promises(sessions=False, views=False, records=False, deletes=False),
    ),
    "PgBouncer": Kind(
        "transaction mode, four sessions for both nodes; killed, stopped, cut off",
        bouncer.disturb,
        more_heal=bouncer.heal,
        world=bouncer.Bouncer,
    ),
    "failover": Kind(
        "the primary killed, its standby promoted", fail_over, prepare_standby, world=Pair
    ),
}
