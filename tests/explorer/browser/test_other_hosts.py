"""The widget where neither JupyterLab nor the page is around it, as in VS Code: its colours, window
and bytes.

VS Code shows all outputs of a notebook in one frame that is as high as the notebook, gives its
colours as `--vscode-…`, and defines those of JupyterLab as if its theme were always light.
"""

import base64

import pytest

from explorer.widget import STATIC, Explorer
from tests.explorer.browser.explorer_page import ExplorerPage
from tests.toy_galleries import build_galleries

pytestmark = pytest.mark.browser

PAGE = """<style>:root {
  --vscode-editor-background: #1f1f1f; --vscode-editor-foreground: #cccccc;
  --vscode-editorWidget-background: #202020;
  --jp-layout-color1: white; --jp-layout-color2: #eee; --jp-ui-font-color1: black; }</style>
<div style="height: 3000px"></div><div id="output"></div><div style="height: 3000px"></div>"""
HOST = """async ([source, setup, view]) => {
  const address = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  const { default: widget } = await import(address);
  const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer;
  const listeners = [];
  window.heard = [];
  addEventListener("keydown", ({ key }) => window.heard.push(key));
  const send = async (message) => {
    const [answer, contents] = await window.ask(message);
    const views = contents.map((one) => (view ? new DataView(bytes(one)) : bytes(one)));
    listeners.forEach((listener) => listener(answer, views));
  };
  const on = (_, listener) => listeners.push(listener);
  const model = { get: () => setup, on, off() {}, send };
  widget.render({ model, el: document.getElementById("output") });
}"""


@pytest.fixture(params=[True, False], ids=["DataView", "ArrayBuffer"])
def shown(request, browser, tmp_path, kept):
    """The widget in a window much higher than the screen, with one kind of bytes in messages."""
    galleries = build_galleries(tmp_path)
    for gallery in galleries.values():
        gallery.indexes([None, gallery.adapter])
    explorer = Explorer(galleries)
    sent = []

    def ask(message):
        explorer.session.receive(message, [])
        if message["do"] == "stop":
            return {"is": ""}, []
        while not (answers := [one for one in sent if one[0]["is"] != "progress"]):
            pass
        sent.clear()
        content, buffers = answers[0]
        return content, [base64.b64encode(one).decode() for one in buffers or []]

    explorer.session.send = lambda content, buffers=None: sent.append((content, buffers))
    sizes = {"viewport": {"width": 1000, "height": 7000}, "screen": {"width": 1300, "height": 1000}}
    page = browser.new_page(**sizes)
    page.set_content(PAGE)
    page.expose_function("ask", ask)
    page.add_style_tag(content=(STATIC / "explorer.css").read_text("utf-8"))
    page.evaluate(
        HOST, [(STATIC / "explorer.js").read_text("utf-8"), explorer.setup, request.param]
    )
    yield ExplorerPage(page)
    page.screenshot(path=kept / f"vscode-{request.node.callspec.id}.png")
    page.close()


def test_it_has_the_colours_shows_bytes_of_any_kind_and_one_result_within_sight(shown):
    shown.ask("a red cat")
    assert shown.previews() == 28, "14 pictures, by two models"
    background, colour = shown.root.evaluate(
        "(r) => [getComputedStyle(r).backgroundColor, getComputedStyle(r).color]"
    )
    assert (background, colour) == ("rgb(31, 31, 31)", "rgb(204, 204, 204)")
    assert shown.root.bounding_box()["height"] == 860 and not shown.axe(".cma-explorer")
    shown.tiles.nth(1).focus()
    shown.press("Enter")
    shown.wait_in_viewer("Why it matches")
    shown.wait_in_viewer("What the model saw")
    assert shown.viewer.bounding_box() == shown.root.bounding_box()
    shown.press("ArrowRight")
    shown.wait_in_viewer("zero-shot: rank 3, match ")
    shown.press("Escape")
    shown.wait_for_focus("3. ")
    assert not shown.viewer.is_visible()
    shown.press("ArrowLeft")
    assert "ArrowLeft" not in shown.page.evaluate("heard"), "the notebook would go to another cell"
    assert not shown.errors
