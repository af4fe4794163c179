"""How an index reads media and compares them."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from pydantic import Field

from ..config import ReadConfig
from ..files import checked_dataclass


@checked_dataclass
class IndexConfig(ReadConfig):
    """`ReadConfig`, and how a long clip is cut into moments, which are found apart.

    Only clips of a plain folder are cut; those of a dataset keep their own `start` and `end`. A
    clip of at most `window` seconds is one item, read as `max_frames` and `fps` say. A longer one
    is read at `rate` frames a second, in windows of about `window` seconds that overlap by half.
    Raises ValueError that names the field and its value.
    """

    rate: Annotated[float, Field(ge=1e-3)] = 0.5  # frames a second of a clip that is cut
    window: Annotated[float, Field(ge=1e-3)] = 24.0  # seconds

    @classmethod
    def of(cls, given: ReadConfig | None) -> IndexConfig:
        """Return what `given` (None: nothing) says about reading; a `TrainConfig` says more.

        Raises TypeError for anything else.
        """
        if given is None:
            return cls()
        if not isinstance(given, ReadConfig):
            raise TypeError(f"config: expected a cma.search.IndexConfig, not {given!r:.100}")
        names = [field.name for field in fields(cls) if hasattr(given, field.name)]
        return cls(**{name: getattr(given, name) for name in names})

    @property
    def frames(self) -> int:
        """The number of frames in a window; `max_frames` of them are kept."""
        return max(2, round(self.window * self.rate))

    @property
    def step(self) -> int:
        """The number of frames from the start of a window to that of the next."""
        return self.frames // 2
