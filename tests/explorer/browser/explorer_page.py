"""The explorer as a person meets it in a browser: what one types, presses, drops and sees."""

import base64
import mimetypes
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import ConsoleMessage, Error, Locator, Page, Request

PATIENCE = 120_000  # milliseconds, for a slow machine
DROP = """([bytes, name, type]) => {
  const held = new DataTransfer();
  held.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
  return held;
}"""


class ExplorerPage:
    """The widget on a page. `outside` lists the requests that left this computer, `errors` the
    console's.
    """

    def __init__(self, page: Page) -> None:
        self.page, self.outside, self.errors = page, [], []
        page.set_default_timeout(PATIENCE)
        page.on("requestfinished", self._note)
        page.on("requestfailed", self._note)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))

    def _note(self, request: Request) -> None:
        ours = request.url.startswith(("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:"))
        # those that the page's policy stops are never sent
        if not ours and request.failure != "csp":
            self.outside.append(request.url)

    def _listen(self, message: ConsoleMessage) -> None:
        lost = "ERR_CONNECTION_REFUSED" in message.text  # of a server that was stopped
        if message.type == "error" and not lost:
            self.errors.append(message.text)

    def until(self, script: str, arg: object = None) -> None:
        """Wait until a script is true. Playwright's own way is stopped by the page's policy."""
        deadline = time.monotonic() + PATIENCE / 1000
        true = False
        while not true:
            assert time.monotonic() < deadline, script
            try:
                true = self.page.evaluate(script, arg)
            except Error as error:  # the page loads itself anew
                assert "context was destroyed" in str(error), error
            time.sleep(0.05)

    # ---- controls

    def open(self, address: str) -> None:
        """Load the page, until the media can be asked."""
        self.page.goto(address, timeout=PATIENCE)
        self.ready()

    def ready(self) -> None:
        """Wait until the media are open, all are embedded, and the newest are listed."""
        self.root.locator(".cma-column").first.wait_for()
        self.until(
            """() => !document.querySelector(".cma-explorer [data-part=grown]").textContent
              && !document.querySelector(".cma-results[aria-busy]")"""
        )

    @property
    def root(self) -> Locator:
        """All of the widget."""
        return self.page.locator(".cma-explorer")

    @property
    def box(self) -> Locator:
        """Where the query is typed."""
        return self.root.get_by_label("query")

    @property
    def viewer(self) -> Locator:
        """The one result that is shown large."""
        return self.root.locator("dialog.cma-viewer")

    def press(self, key: str) -> None:
        """Press a key where the focus is."""
        self.page.keyboard.press(key)

    def wait_for_text(self, text: str) -> None:
        """Wait until a text is anywhere in the widget."""
        self.root.get_by_text(text).wait_for()

    def wait_in_viewer(self, text: str) -> None:
        """Wait until a text is beside the result that is shown large."""
        self.viewer.get_by_text(text).wait_for()

    @property
    def tiles(self) -> Locator:
        """All results."""
        return self.root.locator(".cma-tile")

    def button(self, name: str) -> Locator:
        """A button by its text."""
        return self.root.get_by_role("button", name=name, exact=True)

    def control(self, name: str) -> Locator:
        """One of the choices: "media", "strength", "kind" or "folder"."""
        return self.root.locator(f"[data-part={name}]")

    def ask(self, text: str) -> dict[str, list[str]]:
        """Type a query, press Enter; the results. No picture asks any more."""
        if self.control("chips").is_visible():
            with self.searching():
                self.control("chips").get_by_role("button").click()
        with self.searching():
            self.box.fill(text)
            self.box.press("Enter")
        return self.results()

    def drop(self, path: Path) -> None:
        """Drop a file on the widget, as from a file manager."""
        kind = mimetypes.guess_type(path.name)[0] or ""
        content = base64.b64encode(path.read_bytes()).decode()
        held = self.page.evaluate_handle(DROP, [content, path.name, kind])
        for event in ("dragenter", "dragover", "drop"):
            self.root.locator(".cma-results").dispatch_event(event, {"dataTransfer": held})

    def compare(self) -> None:
        """Open the choice of models."""
        if not self.control("comparing").is_visible():
            self.button("Compare").click()

    def set_strength(self, step: int) -> None:
        """Move the slider to one of its steps, from 0."""
        self.compare()
        slider = self.control("strength")
        slider.fill(str(step))
        slider.dispatch_event("change")

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Wait at the end of the block until other results are shown than at its beginning."""
        columns = self.root.locator(".cma-column")
        columns.evaluate_all("(all) => all.forEach((one) => one.setAttribute('data-old', ''))")
        yield
        self.root.locator(".cma-column:not([data-old])").first.wait_for()

    # ---- what is shown

    def results(self) -> dict[str, list[str]]:
        """The files of every column so far, best first, by its label."""
        return self.root.evaluate(
            """(root) => Object.fromEntries(
              [...root.querySelectorAll(".cma-column")].map((column) => [column.dataset.label,
                [...column.querySelectorAll(".cma-tile")].map((one) => one.dataset.file)]))"""
        )

    def previews(self) -> int:
        """Wait until every result in sight has its picture; how many have one in all."""
        self.until(
            """() => { const edge = document.querySelector(".cma-results").getBoundingClientRect();
              const near = [...document.querySelectorAll(".cma-line")].filter((line) => {
                const { top, bottom } = line.getBoundingClientRect();
                return bottom > edge.top && top < edge.bottom;
              });
              const tiles = near.flatMap((line) => [...line.children]);
              return tiles.every((one) => one.image.naturalWidth > 0); }"""
        )
        return self.root.locator(".cma-tile img[src]").count()

    def focused(self) -> str:
        """The name of what has the keyboard's focus."""
        return self.page.evaluate(
            "document.activeElement.ariaLabel || document.activeElement.textContent"
        )

    def wait_for_focus(self, beginning: str) -> None:
        """Wait until what has the keyboard's focus has a name that begins so."""
        script = "(text) => document.activeElement.ariaLabel?.startsWith(text)"
        self.until(script, beginning)

    def too_wide(self) -> list[str]:
        """The parts of the widget that reach beyond its right edge or the window's for good."""
        return self.root.evaluate(
            """(root) => {
              const edge = Math.min(root.getBoundingClientRect().right, innerWidth) + 1;
              const scrolls = (one) => getComputedStyle(one).overflowX === "auto";
              const lines = [...root.querySelectorAll(".cma-top > .cma-row")].filter(scrolls);
              const out = (one) => !lines.some((line) => line.contains(one.parentElement));
              const wide = (one) => one.getBoundingClientRect().right > edge;
              return [...root.querySelectorAll("*")]
                .filter((one) => one.offsetParent && out(one) && wide(one))
                .map((one) => one.outerHTML.slice(0, 120)); }"""
        )

    def axe(self, within: str | None = None) -> list[str]:
        """What axe-core finds wrong for people with disabilities, on the page or in a part."""
        axe = pytest.importorskip(
            "axe_playwright_python.sync_playwright", reason="axe-core is not installed"
        )
        found = axe.Axe().run(self.page, context=within).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in found for node in one["nodes"]]
