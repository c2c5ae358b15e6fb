"""The socket of a node."""

from __future__ import annotations

import socket

from homeport.server.serve import _listen


def test_connections_do_not_wait_for_delayed_acknowledgements() -> None:
    with _listen("127.0.0.1", 0) as listener:
        listener.listen()
        with socket.create_connection(listener.getsockname()):
            connection, _ = listener.accept()
            with connection:
                assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
