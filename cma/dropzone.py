"""A place to drop a picture or a clip on, in JupyterLab, VS Code and Voilà alike (an anywidget)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import anywidget
import traitlets

from . import media

MOST = 200  # megabytes that a file may have

_VIEW = """
const PART = 1 << 20;  // a message must stay below what the notebook server takes

function render({ model, el }) {
  const area = document.createElement("label");
  const text = document.createElement("span");
  const input = document.createElement("input");
  area.className = "cma-drop-area";
  text.setAttribute("role", "status");
  input.type = "file";
  input.accept = model.get("suffixes").join(",");
  input.setAttribute("aria-label", "search by a picture or clip");
  const say = () => { text.textContent = model.get("message"); };
  model.on("change:message", say);
  say();

  async function send(file) {
    if (!file) return;
    if (file.size > model.get("most") * 1e6) {
      text.textContent = `${file.name}: ${Math.round(file.size / 1e6)} MB, at most ${model.get("most")}`;
      return;
    }
    text.textContent = `reading ${file.name} …`;
    const parts = Math.max(1, Math.ceil(file.size / PART));
    for (let part = 0; part < parts; part++) {
      const bytes = await file.slice(part * PART, (part + 1) * PART).arrayBuffer();
      model.send({ name: file.name, part, parts }, undefined, [bytes]);
    }
  }
  input.addEventListener("change", () => { send(input.files[0]); input.value = ""; });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    area.addEventListener(kind, (event) => {
      event.preventDefault();
      event.stopPropagation();
      area.classList.toggle("cma-over", kind === "dragenter" || kind === "dragover");
      if (kind === "drop") send(event.dataTransfer.files[0]);
    });
  }
  area.append(text, input);
  el.append(area);
}
export default { render };
"""

_STYLE = """
.cma-drop-area {
  display: inline-block; padding: 4px 10px; border: 1px dashed #5f6368; border-radius: 4px;
  cursor: pointer; position: relative; font-size: 13px; overflow-wrap: anywhere;
}
.cma-drop-area.cma-over { background: rgba(217, 130, 43, 0.2); }
.cma-drop-area:focus-within { outline: 2px solid #3b6ea5; }
.cma-drop-area input { position: absolute; inset: 0; opacity: 0; cursor: pointer; width: 100%; }
"""


class DropZone(anywidget.AnyWidget):
    """Calls `taken(path, name)` with a file's copy in `folder`, which lives until the next file comes, or as
    long as it is held on to.

    A file comes in parts, in order; one of another kind than `cma.media` reads, or too large, is refused in
    the message.
    """

    _esm = _VIEW
    _css = _STYLE
    message = traitlets.Unicode("or drop a picture or clip here").tag(sync=True)
    suffixes = traitlets.List(list(media.SUFFIXES)).tag(sync=True)
    most = traitlets.Int(MOST).tag(sync=True)

    def __init__(self, taken: Callable[[Path, str], None]) -> None:
        super().__init__()
        self.taken = taken
        self.folder: TemporaryDirectory | None = None  # of the last file; deleted with its last reference
        self._next: tuple[str, int] | None = None  # the part that is expected
        self.on_msg(self._part)

    def _part(self, _: object, content: dict, buffers: list) -> None:
        name, part, parts = str(content["name"]), int(content["part"]), int(content["parts"])
        suffix = Path(name).suffix.lower()
        if suffix not in media.SUFFIXES:
            self._say(f"{name}: neither picture nor clip")
            return
        if part == 0:
            self.folder = TemporaryDirectory(prefix="cma-")
        elif self._next != (name, part):
            self._say(f"{name}: a part of it is missing; drop it again")
            return
        self._next = (name, part + 1)
        path = Path(self.folder.name) / f"asked{suffix}"
        with path.open("ab") as stream:
            stream.write(buffers[0])
        if path.stat().st_size > self.most * 1_000_000:
            self.folder = self._next = None
            self._say(f"{name}: more than {self.most} MB")
        elif part + 1 == parts:
            self._say(f"asked by {name}")
            self.taken(path, name)

    def _say(self, message: str) -> None:
        self.message = ""  # the view says other things meanwhile: the same message counts again
        self.message = message
