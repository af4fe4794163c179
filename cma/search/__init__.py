"""An index of pictures and clips: listed, embedded, kept on disk and asked."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "listing": ["MediaFile", "SUFFIXES", "find", "kind_of", "read_pictures"],
        "embedding": ["IndexConfig"],
        "index": ["MediaIndex"],
        "store": ["identify"],
    },
)
