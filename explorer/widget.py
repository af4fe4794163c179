"""Search pictures and clips in a notebook: `static/explorer.js` shows the results of a session."""

from collections.abc import Mapping
from pathlib import Path

import anywidget
import traitlets

from .gallery import Gallery
from .session import Session

STATIC = Path(__file__).parent / "static"


class Explorer(anywidget.AnyWidget):
    """A query box over named galleries: CLIP beside its adapters, at any strength.

    Args:
        galleries: The galleries to search, by the names that the widget shows.
        query: A sentence to search for at the start.
        k: How many results of each model to show at a time; scrolling loads more.

    Raises:
        ValueError: There are no galleries, or `k` is below 1 or above 200.
    """

    _esm, _css = STATIC / "explorer.js", STATIC / "explorer.css"
    setup = traitlets.Dict().tag(sync=True)

    def __init__(self, galleries: Mapping[str, Gallery], query: str = "", k: int = 60) -> None:
        self.session = Session(galleries, query, k, at_once=True)
        super().__init__(setup=self.session.setup)
        self.session.send = lambda content, buffers=None: self.send(content, buffers)
        self.on_msg(lambda _, wanted, buffers: self.session.receive(wanted, buffers))

    def __repr__(self) -> str:
        """Return the text for places that cannot show widgets."""
        names = ", ".join(self.session.galleries)
        return f"a query box over {names}: run the notebook in JupyterLab to use it"
