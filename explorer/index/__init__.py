"""An index of pictures and clips, searched by sentence, picture or clip.

Picture a table. Each picture or clip is one row; a long clip is as many rows as it has moments. A
row holds what is known about the file and the embeddings of its frames; the row of a moment holds
the frames of its own seconds.

`listing` finds the files and `embed` turns them into rows, for which `moments` cuts clips and
`copies` hashes pictures; `rows` defines a row, `table` stores them (LanceDB), `ask` compares a
query with them, and `chance` decides which answers are better than chance. `weights` identifies the
model that made the embeddings, so that no other model is compared with them.
"""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:  # the lazy names, for type checkers
    from .ask import MediaIndex as MediaIndex
    from .copies import fold as fold
    from .copies import picture_hash as picture_hash
    from .embed import WhenIdle as WhenIdle
    from .listing import SUFFIXES as SUFFIXES
    from .listing import MediaFile as MediaFile
    from .listing import Where as Where
    from .listing import find as find
    from .listing import kind_of as kind_of
    from .listing import taken as taken
    from .moments import IndexConfig as IndexConfig
    from .moments import frames_of as frames_of

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "copies": ["fold", "picture_hash"],
        "ask": ["MediaIndex"],
        "embed": ["WhenIdle"],
        "listing": ["MediaFile", "SUFFIXES", "Where", "find", "kind_of", "taken"],
        "moments": ["IndexConfig", "frames_of"],
    },
)
