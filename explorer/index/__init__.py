"""An index of pictures and clips: list, embed and store files, then search by sentence, picture or
clip.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "copies": ["fold", "picture_hash"],
        "index": ["MediaIndex"],
        "listing": ["MediaFile", "SUFFIXES", "Where", "find", "kind_of"],
        "moments": ["IndexConfig", "frames_of"],
    },
)
