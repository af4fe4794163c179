"""Paragraph-to-video retrieval: a clip's descriptions are joined to the one text that is queried."""

from collections.abc import Iterable

from data_prep.dataset import CaptionCleaner

PROTOCOL = {"query": "paragraph", "visual_to_text": "items"}


def paragraph(descriptions: Iterable[object], clean: CaptionCleaner, where: str) -> tuple[str, ...]:
    """The one caption of a clip: its descriptions, each cleaned, joined by a space in their order.

    Without any description that is not blank, there is none. `BadInput` naming `where` if one is no text.
    """
    text = " ".join(clean(descriptions, where))
    return (text,) if text else ()
