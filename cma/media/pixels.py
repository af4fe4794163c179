"""Pictures of any mode and shape as CLIP's image processor is to have them."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image, ImageOps

LONGEST = 16  # of a picture longer than so many times its width, only the middle is given to CLIP
CHANNELS_LAST = "channels_last"  # told to CLIP's image processor, which takes 1 or 3 rows for channels


def as_shown(image: Image.Image) -> Image.Image:
    """A copy of a picture of any mode as viewers show it: upright (EXIF), RGB of 8 bits, on white."""
    image.load()  # the mark may stand behind the pixels
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    return _on_white(image)


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) // 256).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):  # of unknown range: from its darkest to its lightest pixel
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
        span = max(np.ptp(values), np.finfo(np.float64).tiny)
        return Image.fromarray(((values - values.min()) / span * 255).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    white.alpha_composite(image.convert("RGBA"))
    return white.convert("RGB")


def central(picture: Image.Image) -> Image.Image:
    """The picture, cut to its middle where it is longer than `LONGEST` times its width.

    CLIP resizes the short side to its input and takes the square in the middle, which stays the same. Whole,
    a picture of 1 x 20,000 pixels would become one of 224 x 4,480,000 on the way there.
    """
    width, height = picture.size
    short, long = min(width, height), max(width, height)
    cut = max(0, long // short - LONGEST) // 2 * short  # whole squares, so that pixels fall where they did
    if cut == 0:
        return picture
    x, y = (cut, 0) if width > height else (0, cut)
    return picture.crop((x, y, width - x, height - y))
