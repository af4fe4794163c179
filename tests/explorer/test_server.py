"""The page's server: who gets in, what is served, and one session for each tab."""

import asyncio
import http.client
import urllib.error
import urllib.request

import pytest
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

from explorer import server
from explorer.gallery import Gallery
from tests.explorer.serving import PATIENCE, TOKEN, serving
from tests.toy_media import write_clip, write_picture


@pytest.fixture(scope="module")
def served(galleries, tmp_path_factory):
    """The page over a folder of a picture and a clip."""
    folder = tmp_path_factory.mktemp("served") / "media"
    write_picture(folder / "a.png", 1)
    write_clip(folder / "b.mp4", 2, frames=24)
    (folder / "c <b>.html").write_text("<script>alert(1)</script>")
    gallery = Gallery(galleries["pictures"].model, folder)
    with serving({"mine": gallery}) as (port, made):
        yield port, made, folder


def get(port, path, token=TOKEN, **headers):
    cookie = {"Cookie": f"cma-explorer-{port}={token}"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=cookie | headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


class Tab:
    """One tab: it asks, and reads until the answer comes."""

    @classmethod
    async def open(cls, port, token=TOKEN, **headers):
        self = cls()
        headers = {"Cookie": f"cma-explorer-{port}={token}"} | headers
        address = f"ws://127.0.0.1:{port}/socket"
        self.socket = await websocket_connect(HTTPRequest(address, headers=headers))
        self.setup = (await self.read("setup"))[0]["setup"]
        return self

    async def read(self, kind):
        while True:
            message = await asyncio.wait_for(self.socket.read_message(), PATIENCE)
            content, buffers = server.unpack(message)
            if content["is"] in (kind, "error"):
                return content, buffers

    async def ask(self, do, **wanted):
        content = {"do": do, "id": 1, "media": "mine"} | wanted
        await self.socket.write_message(server.pack(content), binary=True)
        return await self.read({"search": "hits"}.get(do, do))

    async def search(self, text=""):
        wanted = {"text": text, "like": "", "file": "", "kind": "", "folder": "", "year": ""}
        wanted |= {"order": "", "names": False}
        found, _ = await self.ask("search", **wanted, adapters=[None], strength=1.0)
        return {hit["file"]: hit["item"] for hit in found["columns"][0]["hits"]}


@pytest.mark.parametrize("path", ["/", "/explorer.js", "/page.js", "/file/x/0", "/nothing"])
def test_without_the_token_or_under_another_name_nothing_is_served(served, path):
    port, *_ = served
    for token in ("", "0" * 48):
        assert get(port, path, token)[0] == 403
    assert get(port, path, Host=f"evil.example:{port}")[0] == 403
    status, headers, _ = get(port, path)
    assert status == (404 if path in ("/file/x/0", "/nothing") else 200)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"


def test_the_token_of_the_printed_address_becomes_a_cookie_and_no_refusal_is_logged(served, caplog):
    port, *_ = served
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    connection.request("GET", f"/?token={TOKEN}")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Location"]) == (302, "./")
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith(f"cma-explorer-{port}={TOKEN}") and "HttpOnly" in cookie
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    connection.close()
    connection.request("GET", "/?token=a-guess")
    assert connection.getresponse().status == 403
    connection.close()
    assert "a-guess" not in caplog.text


@pytest.mark.parametrize(
    "given",
    [
        {"token": "0" * 48},
        {"Origin": "http://evil.example"},
        {"Host": "evil.example"},
    ],
)
def test_no_other_page_gets_a_tab(served, given):
    with pytest.raises(HTTPClientError, match="403"):
        asyncio.run(Tab.open(served[0], **given))


def test_ranges_of_files_that_were_opened_in_the_tab_are_served_and_no_others(served):
    port, _, folder = served

    async def talk():
        tab, other = await Tab.open(port), await Tab.open(port)
        items = await tab.search("a cat")
        assert set(items) == {"a.png", "b.mp4"}
        name = tab.setup["tab"]
        assert (await asyncio.to_thread(get, port, f"/file/{name}/0"))[0] == 404, "not opened yet"
        opened, _ = await tab.ask("open", column="zero-shot", item=items["b.mp4"])
        at = f"/file/{name}/{opened['file']}"
        content = (folder / "b.mp4").read_bytes()
        status, headers, body = await asyncio.to_thread(get, port, at)
        assert (status, body, headers["Content-Type"]) == (200, content, "video/mp4")
        assert "sandbox" in headers["Content-Security-Policy"]
        for given, wanted in (("bytes=10-19", slice(10, 20)), ("bytes=-5", slice(-5, None))):
            status, headers, body = await asyncio.to_thread(get, port, at, Range=given)
            assert (status, body) == (206, content[wanted])
            assert headers["Content-Range"].endswith(f"/{len(content)}")
        assert (await asyncio.to_thread(get, port, at, Range=f"bytes={len(content)}-"))[0] == 416
        wrong = [f"/file/{name}/7", f"/file/{other.setup['tab']}/{opened['file']}"]
        wrong += [f"/file/{name}/..%2f..%2fetc%2fpasswd", f"/file/{name}/0/../../explorer.js"]
        for path in wrong:
            assert (await asyncio.to_thread(get, port, path))[0] == 404, path
        again, _ = await tab.ask("open", column="zero-shot", item=items["b.mp4"], id=1)
        assert again["file"] == opened["file"]
        tab.socket.close()
        other.socket.close()
        for _ in range(100):
            if (await asyncio.to_thread(get, port, at))[0] == 404:
                return
            await asyncio.sleep(0.05)
        pytest.fail("the tab was closed")

    asyncio.run(talk())


def test_a_closed_tab_leaves_no_session_and_a_strange_message_closes_it(served):
    port, made, _ = served

    async def talk():
        tabs = [await Tab.open(port) for _ in range(3)]
        assert len(made.tabs) == 3
        sessions = list(made.tabs.values())
        await tabs[0].search("a cat")
        assert sessions[0]._found
        tabs[0].socket.close()
        await tabs[1].socket.write_message(b"\0\0\0\x02{}", binary=True)
        await tabs[2].socket.write_message(server.pack({"do": 3}), binary=True)
        assert await asyncio.wait_for(tabs[1].socket.read_message(), PATIENCE) is None
        for _ in range(100):
            if len(made.tabs) == 1:
                break
            await asyncio.sleep(0.05)
        assert len(made.tabs) == 1 and not sessions[0]._found
        await tabs[2].socket.write_message(server.pack({"do": "ping", "id": 0}), binary=True)
        assert (await tabs[2].read("pong"))[0]["id"] == 0, "what it does not know is left alone"
        tabs[2].socket.close()

    asyncio.run(talk())
