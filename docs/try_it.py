"""The explorer as a page of the book that needs no server: the pictures and clips of the demo."""

from pathlib import Path

from pages import TRY_IT

from explorer import demo_galleries
from explorer.site import publish

PREVIEW = 128  # pixels; the pictures have 192


def write_page(book: Path) -> None:
    """Write the page into the built book."""
    publish(demo_galleries(), book / TRY_IT, preview=PREVIEW, yes=True)
