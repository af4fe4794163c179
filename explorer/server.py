"""The explorer's page: one process serves all tabs, on localhost only.

The printed address contains the token. The browser then keeps it in a cookie, so that no other
address and no history contains it. Each tab has its own WebSocket and `Session`, which end with the
tab. We serve only files that were opened in that tab.
"""

import asyncio
import hmac
import json
import mimetypes
import secrets
import struct
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, cast
from urllib.parse import urlsplit

from tornado import httpserver, ioloop, netutil, web, websocket

from .gallery import Gallery
from .session import Session
from .widget import STATIC

HOST = "127.0.0.1"
NAMES = ("127.0.0.1", "localhost")  # names that a browser may use for this computer
MAX_BYTES = 4_000_000  # the largest message
FRONT = {"explorer.js": "text/javascript", "page.js": "text/javascript", "explorer.css": "text/css"}
ALIVE = 20  # seconds between two pings of a tab
# the page may load nothing from other hosts
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; connect-src 'self' ws://{host}; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
FILES = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Ask your pictures and clips</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="explorer.css"></head>
<body data-page="1"><script type="module" src="page.js"></script></body></html>
"""
REFUSED = "open the address that `python -m explorer` printed: it contains the token of this page"


def pack(content: dict, buffers: Sequence[bytes] | None = None) -> bytes:
    """Return a message as bytes: the length of its JSON in four bytes, the JSON, the buffers."""
    buffers = [bytes(one) for one in buffers or ()]
    text = json.dumps({"content": content, "sizes": list(map(len, buffers))}).encode()
    return b"".join([struct.pack(">I", len(text)), text, *buffers])


def unpack(message: bytes) -> tuple[dict, list[memoryview]]:
    """Return content and buffers of a message. Raises ValueError if it is malformed."""
    view = memoryview(message)
    if len(view) < 4:
        raise ValueError("a message has at least four bytes")
    (length,) = struct.unpack(">I", view[:4])
    header = json.loads(bytes(view[4 : 4 + length]))
    at, buffers = 4 + length, []
    for size in header["sizes"]:
        buffers.append(view[at : at + size])
        at += size
    return header["content"], buffers


class Page(web.Application):
    """The page: its galleries by name, and the sessions of open tabs."""

    galleries: Mapping[str, Gallery]
    tabs: dict[str, Session]


class Guarded(web.RequestHandler):
    """Answers only requests that have the token and use one of this computer's names.

    Other pages on this computer share the cookies; `POLICY`, tornado's check of a WebSocket's
    `Origin`, and Cross-Origin-Resource-Policy keep them out.
    """

    application: Page

    def set_default_headers(self) -> None:
        self.set_header("Content-Security-Policy", POLICY.format(host=self.request.host))
        self.set_header("X-Content-Type-Options", "nosniff")
        self.set_header("Referrer-Policy", "no-referrer")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Cross-Origin-Resource-Policy", "same-origin")

    @property
    def cookie(self) -> str:
        """The name of the cookie, which differs between the servers of different ports."""
        return f"cma-explorer-{urlsplit(f'//{self.request.host}').port}"

    def prepare(self) -> None:
        given = self.get_query_argument("token", "") or self.get_cookie(self.cookie) or ""
        known = hmac.compare_digest(given.encode(), self.settings["token"].encode())
        if not known or urlsplit(f"//{self.request.host}").hostname not in NAMES:
            raise web.HTTPError(403)

    def log_exception(
        self,
        error_class: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Log errors, but no refusals: their addresses may contain the token."""
        if not isinstance(error, web.HTTPError):
            super().log_exception(error_class, error, trace)

    def write_error(self, status_code: int, **_: object) -> None:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.finish(REFUSED if status_code == 403 else f"{status_code}: not here")


class Front(Guarded):
    """Serves the page itself and the files of the front end, and nothing else."""

    def get(self, name: str) -> None:
        if not name and self.get_query_argument("token", ""):
            self.set_cookie(self.cookie, self.settings["token"], httponly=True, samesite="Lax")
            self.redirect("./")
        elif not name:
            self.finish(PAGE)
        elif name in FRONT:
            self.set_header("Content-Type", FRONT[name])
            self.finish((STATIC / name).read_bytes())
        else:
            raise web.HTTPError(404)


class File(Guarded, web.StaticFileHandler):
    """Serves a gallery's file that was opened in a tab, or a range of its bytes."""

    async def get(  # type: ignore[override]  # an address has two parts
        self, tab: str, number: str, include_body: bool = True
    ) -> None:
        session = self.application.tabs.get(tab)
        if session is None or number not in session.opened:
            raise web.HTTPError(404)
        path = session.opened[number]
        self.root = str(path.parent)
        await super().get(path.name, include_body)

    async def head(self, tab: str, number: str) -> None:  # type: ignore[override]  # as `get`
        await self.get(tab, number, include_body=False)

    def compute_etag(self) -> None:
        """Return None, because an ETag would need the whole file."""

    def get_content_type(self) -> str:
        """Return the type of a picture or clip; browsers download anything else."""
        kind = mimetypes.guess_type(self.path)[0] or ""
        shows = kind.startswith(("image/", "video/")) and "svg" not in kind
        return kind if shows else "application/octet-stream"

    def set_extra_headers(self, path: str) -> None:
        self.set_header("Content-Security-Policy", FILES)
        self.set_header("Cache-Control", "no-store")


class Socket(Guarded, websocket.WebSocketHandler):
    """Exchanges the messages of one tab, until it is closed."""

    def open(self) -> None:
        loop = ioloop.IOLoop.current()

        def send(content: dict, buffers: Sequence[bytes] | None = None) -> None:
            loop.add_callback(self.deliver, pack(content, buffers))

        self.tab = secrets.token_urlsafe(9)
        self.session = Session(self.application.galleries, send=send, on_page=True)
        self.application.tabs[self.tab] = self.session
        send({"is": "setup", "setup": self.session.setup | {"tab": self.tab}})

    def deliver(self, message: bytes) -> None:
        """Send a message, unless the tab was closed meanwhile."""
        try:
            self.write_message(message, binary=True)
        except websocket.WebSocketClosedError:
            self.on_close()

    def on_message(self, message: str | bytes) -> None:
        try:
            content, buffers = unpack(cast(bytes, message))  # TypeError for a text
            self.session.receive(content, buffers)
        except (KeyError, TypeError, ValueError):
            self.close(1003, "not a message of the explorer")

    def on_close(self) -> None:
        if session := self.application.tabs.pop(self.tab, None):
            session.close()


def application(galleries: Mapping[str, Gallery], token: str) -> Page:
    """Return the page of these galleries, which only opens with the token."""
    routes: list[Any] = [
        (r"/file/([\w-]+)/(\w+)", File, {"path": ""}),
        (r"/socket", Socket),
        (r"/(.*)", Front),
    ]
    made = Page(
        routes,
        token=token,
        log_function=lambda _: None,  # addresses contain the token
        websocket_ping_interval=ALIVE,
        websocket_max_message_size=MAX_BYTES,
    )
    made.tabs, made.galleries = {}, galleries
    return made


def run(galleries: Mapping[str, Gallery], port: int, token: str, ready: Callable[[], None]) -> None:
    """Serve the page until Ctrl-C; `ready` is called once it answers. Raises OSError."""
    made = application(galleries, token)

    async def serve() -> None:
        server = httpserver.HTTPServer(made)
        server.add_sockets(netutil.bind_sockets(port, HOST))
        ready()
        await asyncio.Event().wait()

    try:
        asyncio.run(serve())
    finally:
        for session in made.tabs.values():
            session.close()
