"""Pictures and frames of clips as a CLIP should see them."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "pictures": ["MediaError", "is_animation", "printable", "shown_name", "with_content"],
        "pixels": ["CHANNELS_LAST", "as_shown", "central"],
        "video": [
            "frame_indices",
            "frames_of_folder",
            "read_frames",
            "read_image",
            "seconds",
            "stream_frames",
        ],
    },
)
