"""The files of a dataset folder, read strictly: an error names the file, the line and what was expected."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .files import leads_out, read_json, read_jsonl

SPLITS = ("train", "val", "test")
READINGS = {"image": "captions", "video": "items"}  # of `visual_to_text`, where a protocol does not say


def _inside(name: str) -> str:
    if leads_out(name):
        raise ValueError("expected a path inside the folder")
    return name


def _said(caption: str) -> str:
    if not caption.strip():
        raise ValueError("expected text that is not blank")
    return caption


Text = Annotated[str, Field(min_length=1)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class Item:
    """One picture or clip with its captions; `start` and `end` (seconds) cut a clip out of a longer file.

    An item without captions can be searched, but neither trained on nor evaluated. Raises ValueError for a
    part that ends before it starts.
    """

    id: Text
    file_name: Annotated[Text, AfterValidator(_inside)]
    captions: tuple[Annotated[str, AfterValidator(_said)], ...]
    split: Literal[SPLITS]
    start: Seconds | None = None
    end: Seconds | None = None

    def __post_init__(self) -> None:
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ValueError(f"expected start ({self.start} s) before end ({self.end} s)")


@dataclass(frozen=True)
class Protocol:
    """How a dataset is evaluated: what a query is, and how visual-to-text is read (see `cma.metrics`)."""

    query: str = "caption"
    visual_to_text: Literal["captions", "items"] | None = None


@dataclass(frozen=True)
class Count:
    """How many items of a split were to be expected; None where nobody published it."""

    expected: int | None = None


@dataclass(frozen=True)
class About:
    """What `dataset.json` says; `protocol` and `recipe` are filled in where it does not."""

    kind: Literal["image", "video"]
    format_version: Literal[1] = 1
    name: str = ""
    protocol: Protocol = Protocol()
    recipe: str = ""
    counts: dict[str, Count] = field(default_factory=dict)
    media_root: Path | None = None


def read_about(folder: Path) -> About:
    """`dataset.json`; FileNotFoundError if it is not there, ValueError if it is not as expected."""
    try:
        about = read_json(_finished(folder / "dataset.json"), About)
    except ValueError as error:
        raise ValueError(f"{error}; prepare the dataset again") from None
    return dataclasses.replace(
        about,
        name=about.name or folder.name,
        recipe=about.recipe or folder.name,
        protocol=dataclasses.replace(
            about.protocol, visual_to_text=about.protocol.visual_to_text or READINGS[about.kind]
        ),
    )


def read_items(folder: Path) -> list[Item]:
    """Every item of `metadata.jsonl`; FileNotFoundError, or ValueError with the number of a bad line."""
    items: dict[str, Item] = {}
    for where, item in read_jsonl(_finished(folder / "metadata.jsonl"), Item):
        if item.id in items:
            raise ValueError(f"{where}: the id {item.id!r} is there twice")
        items[item.id] = item
    return list(items.values())


def _finished(path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file, so its folder is no finished dataset; write it by `python -m data_prep`"
        )
    return path
