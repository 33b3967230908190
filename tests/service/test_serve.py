from __future__ import annotations

import asyncio
import socket

from cuckoo_zfsiscsi.service import serve
from tests.waiting import HANG


def test_answers_leave_at_once() -> None:
    """Without TCP_NODELAY an answer's body waits 40 ms for the acknowledgment of its head."""

    async def accepted() -> int:
        found = asyncio.get_running_loop().create_future()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            peer = writer.get_extra_info("socket")
            found.set_result(peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        with serve._listen("127.0.0.1", 0, "boot") as listener:
            server = await asyncio.start_server(accept, sock=listener)
            async with server:
                _, writer = await asyncio.open_connection(*listener.getsockname())
                nodelay: int = await asyncio.wait_for(found, HANG)
                writer.close()
        return nodelay

    assert asyncio.run(accepted())
