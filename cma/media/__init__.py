"""Read pictures and frames of clips as viewers show them, and convert them to CLIP's pixels.

Both may be files, or members of a WebDataset shard (see `opening`). Video files need the extra
`video`, HEIC and camera raw the extra `formats`; other pictures, animations and folders of frames
need no extra.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "animation": ["is_animation"],
        "images": ["InMemoryImage", "read_image", "shown_name", "to_pixels"],
        "opening": ["MediaError", "exists", "members", "open_media", "stamp", "with_content"],
        "suffixes": ["ANIMATABLE", "CLIPS", "LACKING", "PICTURES", "not_read"],
        "video": [
            "FrameFolder",
            "frame_at",
            "frame_indices",
            "read_frames",
            "read_media",
            "seconds",
            "stream_frames",
        ],
    },
)
