"""Runs a node as a program: ``homeport serve``."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from homeport.errors import MissingDependency, SchemaError, ServerError

from .app import application
from .auth import DEV_TTL_S, Authenticator, development
from .limits import DEVICE_REQUESTS, USER_BYTES, USER_REQUESTS, RateLimit
from .live import MAX_STREAMS, MAX_STREAMS_OF_USER
from .node import Node
from .patience import patient
from .postgres import Postgres
from .rules import ServerCollection

try:
    import uvicorn
except ImportError as missing:
    raise MissingDependency(
        "A node needs the package uvicorn.", action="pip install 'homeport[server]'."
    ) from missing

DEFAULT_PORT = 7080
DEFAULT_DATA_DIR = ".homeport"
DRAIN_S = 10

_BANNER = """\
**********************************************************************
  HOMEPORT DEVELOPMENT NODE - not for production
  Any collection is accepted, the key is in {data_dir}.
  Listening on this machine only: {url}
**********************************************************************
"""


def serve(
    postgres: str | None = None,
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    dev: bool = False,
    json_line: bool = False,
    data_dir: Path | str | None = None,
    collections_module: str | None = None,
    key_file: Path | str | None = None,
    audience: str = "homeport",
    issuer: str | None = None,
    origins: Sequence[str] = (),
    device_requests: RateLimit | None = DEVICE_REQUESTS,
    user_requests: RateLimit | None = USER_REQUESTS,
    user_bytes: RateLimit | None = USER_BYTES,
    max_streams: int = MAX_STREAMS,
    max_streams_per_user: int = MAX_STREAMS_OF_USER,
) -> None:
    """Run a node until SIGTERM or SIGINT, then drain and stop (the embedded PostgreSQL too).

    Args:
        postgres: connection string; None = ``$DATABASE_URL``, else an embedded server.
        host, port: where to listen; port 0 = a free one.
        dev: any collection, an own key, loopback only.
        json_line: print ``{"url": …, "token": …}`` as the first line of stdout when ready
            (token: user ``dev`` of tenant ``dev``; null without ``dev``).
        data_dir: holds the embedded PostgreSQL and the development key; default ``.homeport``.
        collections_module: ``package.module:attribute``, an iterable of ``ServerCollection``.
        key_file: secret (HS256) or public key (PEM) that verifies tokens; needed without ``dev``.
        audience, issuer: pinned claims of tokens.
        origins: of pages in browsers that may speak to it; ``*`` = all.
        device_requests, user_requests, user_bytes, max_streams, max_streams_per_user: as ``Node``
            has them.

    Raises:
        ServerError: a start that would be unsafe (open development mode, no key, standby, …).
        LaunchFailed: the embedded PostgreSQL did not start.
        DatabaseUnavailable: PostgreSQL does not answer.
    """
    folder = Path(data_dir if data_dir is not None else DEFAULT_DATA_DIR).absolute()
    if dev and not _is_loopback(host):
        raise ServerError(
            f"A development node listens on this machine only, not on {host}.",
            action="Leave out --host, or leave out --dev and configure keys and collections.",
        )
    auth = development(folder) if dev else _production_auth(key_file, audience, issuer)
    declared = _load(collections_module) if collections_module else None
    if declared is None and not dev:
        raise ServerError(
            "No collections are declared.",
            action="Name them with --collections package.module:attribute, or use --dev.",
        )
    dsn = postgres or os.environ.get("DATABASE_URL")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(host, port))
        if dsn is None:
            dsn = stack.enter_context(Postgres.start(folder)).dsn
        node = Node(
            dsn,
            auth=auth,
            collections=declared,
            device_requests=device_requests,
            user_requests=user_requests,
            user_bytes=user_bytes,
            max_streams=max_streams,
            max_streams_per_user=max_streams_per_user,
        )
        url = f"http://{_bracket(host)}:{listener.getsockname()[1]}"
        token = auth.mint("dev", "dev", DEV_TTL_S) if dev else None
        if dev:
            sys.stderr.write(_BANNER.format(data_dir=folder, url=url))
        asyncio.run(_run(node, listener, url, token, json_line=json_line, origins=origins))


def mint(
    subject: str, tenant: str, ttl_s: float = 3600.0, *, data_dir: Path | str | None = None
) -> str:
    """A token of the development node whose data is in ``data_dir``."""
    folder = Path(data_dir if data_dir is not None else DEFAULT_DATA_DIR).absolute()
    return development(folder).mint(subject, tenant, ttl_s)


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: they raise the signal again before PostgreSQL stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(
    node: Node,
    listener: socket.socket,
    url: str,
    token: str | None,
    *,
    json_line: bool,
    origins: Sequence[str],
) -> None:
    await node.start()
    config = uvicorn.Config(
        application(node, lifespan=False, origins=origins),
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        ws_max_size=65_536,
        backlog=4096,
        timeout_graceful_shutdown=DRAIN_S,
        server_header=False,
    )
    config.load()
    config.http_protocol_class = patient(config.http_protocol_class)
    server = _Server(config)

    def drain() -> None:
        logging.getLogger("homeport.server").info("stopping")
        node.hub.leave()
        if server.should_exit:
            server.force_exit = True
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, drain)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        while not (server.started or serving.done()):  # noqa: ASYNC110 - uvicorn has no event
            await asyncio.sleep(0.01)
        if server.started:
            line = json.dumps({"url": url, "token": token}) if json_line else f"ready on {url}"
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        await serving
    finally:
        await node.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Inherited by its connections, where asyncio sets it only for sockets that it has opened.
        # Without it an answer, written as head and body, waits 40 ms for the peer's delayed
        # acknowledgement of the head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise ServerError(
            f"Cannot listen on {host}:{port}: {error.strerror}.",
            action="Choose another --port (0 = a free one), or stop what listens there.",
        ) from error
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _production_auth(
    key_file: Path | str | None, audience: str, issuer: str | None
) -> Authenticator:
    if key_file is None:
        raise ServerError(
            "No key to verify tokens with.",
            action="Give --key-file (a secret of 32 bytes or more, or a public key as PEM), "
            "or use --dev.",
        )
    try:
        key = Path(key_file).read_bytes()
    except OSError as error:
        raise ServerError(f"The key file {key_file} cannot be read: {error.strerror}.") from error
    return Authenticator(key, audience=audience, issuer=issuer)


def _load(reference: str) -> list[ServerCollection]:
    name, _, attribute = reference.partition(":")
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            f"The module {name} with the collections cannot be imported: {error}.",
            action="Run the command where the module can be imported.",
        ) from error
    found = getattr(module, attribute or "collections", None)
    if not isinstance(found, Iterable):
        raise SchemaError(f"{reference} is no list of ServerCollection.")
    collections = list(found)
    if not all(isinstance(item, ServerCollection) for item in collections):
        raise SchemaError(f"{reference} is no list of ServerCollection.")
    return collections


if __name__ == "__main__":
    serve(dev=True, json_line=True)
