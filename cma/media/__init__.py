"""Read pictures and frames of clips as viewers show them, and convert them to CLIP's pixels.

Both may be files, or members of a WebDataset shard (see `opening`). Video files need the extra
`video`, HEIC and camera raw the extra `formats`; other pictures, animations and folders of frames
need no extra.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
