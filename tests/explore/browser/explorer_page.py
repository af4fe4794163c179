"""The explorer as a person meets it in a browser: its controls by their classes, and what it shows."""

import base64
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import ConsoleMessage, Locator, Page, Request

PATIENCE = 120_000  # milliseconds, for a slow machine
DROP = """([bytes, name, type]) => {
  const held = new DataTransfer();
  held.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
  return held;
}"""


class ExplorerPage:
    """The widget on a page. `outside` lists the requests that left this computer, `errors` the console's."""

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
        if not ours and request.failure != "csp":  # those that the page's policy stops are never sent
            self.outside.append(request.url)

    def _listen(self, message: ConsoleMessage) -> None:
        if message.type == "error" and "Content Security Policy" not in message.text:
            self.errors.append(message.text)

    # ---- controls

    @property
    def root(self) -> Locator:
        """All of the widget."""
        return self.page.locator(".cma-explorer")

    def control(self, name: str) -> Locator:
        """What a person uses of a control: the box, the list, the button, the handle, the file input."""
        inner = "input, select, [role=slider]"
        return self.root.locator(f"button.cma-{name}, .cma-{name} :is({inner})").first

    def part(self, name: str) -> Locator:
        """A part of the widget that only shows something."""
        return self.root.locator(f".cma-{name}")

    def ask(self, text: str) -> dict[str, list[str]]:
        """Type a query, press Enter; the results."""
        with self.searching():
            self.control("query").fill(text)
            self.control("query").press("Enter")
        return self.results()

    def drop(self, path: Path) -> None:
        """Drop a file on the widget, as from a file manager."""
        kind = mimetypes.guess_type(path.name)[0] or ""
        content = base64.b64encode(path.read_bytes()).decode()
        held = self.page.evaluate_handle(DROP, [content, path.name, kind])
        for event in ("dragenter", "dragover", "drop"):
            self.control("drop").dispatch_event(event, {"dataTransfer": held})

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Wait at the end of the block until other results are shown than at its beginning."""
        mark = "(all) => all.forEach((one) => one.setAttribute('data-old', ''))"
        self.part("results").locator(".cma-sides").evaluate_all(mark)
        yield
        self.part("results").locator(".cma-sides:not([data-old])").first.wait_for()

    # ---- what is shown

    def results(self) -> dict[str, list[str]]:
        """The files of every column, best first, by its label."""
        return self.part("results").evaluate(
            """(results) => Object.fromEntries([...results.querySelectorAll("section")].map((side) => [
              side.getAttribute("aria-label"),
              [...side.querySelectorAll("figure")].map((figure) => figure.dataset.file)]))"""
        )

    def preview_widths(self) -> list[float]:
        """The widths of all results in pixels."""
        figures = self.part("results").locator("figure")
        return figures.evaluate_all("(all) => all.map((one) => one.getBoundingClientRect().width)")

    def playing(self) -> dict:
        """The first clip's width and time, once it plays."""
        video = self.part("results").locator("video").first
        video.scroll_into_view_if_needed()
        plays = "(one) => one.videoWidth > 0 && !one.paused && one.currentTime > 0.1"
        self.page.wait_for_function(plays, arg=video.element_handle(), timeout=PATIENCE)
        return video.evaluate("(one) => ({ width: one.videoWidth, time: one.currentTime })")

    def focused(self) -> str:
        """The class `cma-…` of the control that has the keyboard's focus, empty for none of ours."""
        return self.page.evaluate(
            """() => { for (let at = document.activeElement; at; at = at.parentElement) {
              const names = [...at.classList].filter((name) => name.startsWith("cma-"));
              if (names.length && !names.includes("cma-drop-area")) return names[0]; } return ""; }"""
        )

    def too_wide(self) -> list[str]:
        """The parts of the widget that reach beyond its right edge or the window's."""
        return self.root.evaluate(
            """(root) => { const edge = Math.min(root.getBoundingClientRect().right, innerWidth) + 1;
              return [...root.querySelectorAll("*")].filter((one) => one.offsetParent
                && one.getBoundingClientRect().right > edge).map((one) => one.outerHTML.slice(0, 120)); }"""
        )

    def nameless(self) -> list[str]:
        """The pictures, clips and controls that a screen reader has no name for."""
        return self.root.evaluate(
            """(root) => [...root.querySelectorAll("img, video, input, select, button")]
              .filter((one) => one.offsetParent && !(one.getAttribute("alt") || one.ariaLabel
                || one.title || one.textContent.trim() || one.labels?.length
                || document.getElementById(one.getAttribute("aria-labelledby"))))
              .map((one) => one.outerHTML.slice(0, 120))"""
        )
