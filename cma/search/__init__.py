"""An index of pictures and clips: files are listed, embedded and stored, then asked by sentence or media."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "copies": ["fold", "picture_hash"],
        "listing": ["MediaFile", "SUFFIXES", "find", "kind_of"],
        "index": ["LanceIndex", "MediaIndex"],
    },
)
