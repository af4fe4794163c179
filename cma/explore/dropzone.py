"""A field to drop a picture or a clip on; an anywidget, which works in JupyterLab, VS Code and Voilà."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import anywidget
import traitlets

from ..search import SUFFIXES

MOST = 200  # megabytes that a file may have
STATIC = Path(__file__).parent / "static"


class DropZone(anywidget.AnyWidget):
    """Calls `taken(path, name)` with a copy of the dropped file and the name that the file had.

    The copy is in `folder`, which is deleted once another file has come and nothing refers to it any more. A
    file comes in parts, in order. A file that `cma.search` cannot read or that is too large is refused, and
    `message` says so.
    """

    _esm = (STATIC / "dropzone.js").read_text("utf-8")
    _css = (STATIC / "dropzone.css").read_text("utf-8")
    message = traitlets.Unicode("or drop a picture or clip here").tag(sync=True)
    suffixes = traitlets.List(list(SUFFIXES)).tag(sync=True)
    most = traitlets.Int(MOST).tag(sync=True)

    def __init__(self, taken: Callable[[Path, str], None]) -> None:
        super().__init__()
        self.taken = taken
        self.folder: TemporaryDirectory | None = None  # of the last file; deleted with its last reference
        self._next: tuple[str, int] | None = None  # the part that is expected
        self.on_msg(self.receive)

    def receive(self, _: object, content: dict, buffers: list) -> None:
        """Take one part: `content` has the file's name, the part's number from 0 and how many there are."""
        name, part, parts = str(content["name"]), int(content["part"]), int(content["parts"])
        suffix = Path(name).suffix.lower()
        if suffix not in SUFFIXES:
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
