"""The page of the explorer, served by a thread of the tests, so that they can get in its way."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tornado import httpserver, netutil, web

from explorer import server
from explorer.gallery import Gallery

TOKEN = "t" * 48
PATIENCE = 60  # seconds


@contextmanager
def serving(galleries: Mapping[str, Gallery]) -> Iterator[tuple[int, web.Application]]:
    """Serve galleries until the end of the block; yields the port and the application."""
    made, ready, found = server.application(galleries, TOKEN), threading.Event(), {}

    async def serve():
        found["end"] = asyncio.Event()
        found["loop"] = asyncio.get_running_loop()
        sockets = netutil.bind_sockets(0, server.HOST)
        found["port"] = sockets[0].getsockname()[1]
        one = httpserver.HTTPServer(made)
        one.add_sockets(sockets)
        ready.set()
        await found["end"].wait()
        one.stop()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert ready.wait(PATIENCE)
    try:
        yield found["port"], made
    finally:
        found["loop"].call_soon_threadsafe(found["end"].set)
        thread.join(PATIENCE)
