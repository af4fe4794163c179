"""Read pictures as viewers show them, and convert them to CLIP's pixels."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from .. import require
from ..files import short
from .opening import MediaError, head_of, open_media, with_content
from .suffixes import HEIC, LACKING, NEEDS, RAW

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import BaseImageProcessor

ENOUGH = 672  # pixels of the shorter side: twice the input of the largest CLIP
LONGEST = 16  # a picture longer than this many times its width is cropped to its middle
# to recognise a white drawing
NEARLY_WHITE = 240
NEARLY_ALL = 0.98
KNOWN = {  # what files without a picture often start with
    b"<": ", but a page of HTML or XML",
    b"version https://git-lfs": ", but a pointer of Git LFS; run `git lfs pull`",
}
DARK = "#404040"  # its background
if HEIC[0] not in LACKING:
    import pillow_heif.HeifImagePlugin  # noqa: F401 (from here on Pillow reads HEIC, whatever its name)


def shown_name(name: str) -> str:
    """Return a file name as text; bytes that are not UTF-8 become the replacement character."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def read_image(path: str | Path, enough: int | None = ENOUGH) -> Image.Image:
    """Read a picture, or an animation's first frame: upright, opaque, 8-bit RGB (`as_shown`).

    A large JPEG is decoded at a half, a quarter or an eighth of its size, as long as its shorter
    side keeps at least `enough` pixels; this is several times faster. With None it is decoded at
    full size. Camera raw uses the camera's white balance, and half its size under the same
    condition. Pillow's warnings, about small damage or many pixels, reach the caller. Raises
    MediaError for a file that is missing, empty, damaged, not a picture, or has more than twice
    `PIL.Image.MAX_IMAGE_PIXELS`; ImportError for HEIC and camera raw without the extra `formats`.
    """
    path = Path(path)
    with_content(path, "a picture")
    if (suffix := path.suffix.lower()) in LACKING:
        require("formats", NEEDS[suffix])
    try:
        if suffix in RAW:  # Pillow would read it as a TIFF with a small picture
            return _developed(path, enough)
        with open_media(path) as stream, Image.open(stream) as image:
            if image.format == "EPS":  # whatever its name; Pillow would run it by Ghostscript
                raise ValueError("PostScript, which is a program; save it as .png")
            if enough and min(image.size) >= 2 * enough:  # smaller pictures are decoded as they are
                image.draft(None, (enough, enough))
            return as_shown(image)
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise MediaError(
            f"{path}: cannot be read as a picture ({reason_of(path, error)})"
        ) from error


class InMemoryImage(NamedTuple):
    """A picture in row `number` of a dataset in memory (`cma.load_dataset`), in place of a path."""

    rows: Any
    column: str
    number: int

    def __str__(self) -> str:
        return f"{self.column!r} of row {self.number}"

    def picture(self) -> Image.Image:
        """Return the picture as `read_image` would. Raises MediaError."""
        try:
            picture = self.rows[self.number][self.column]
            if not isinstance(picture, Image.Image):
                raise ValueError(f"expected a PIL image, found {short(picture)}")
            return as_shown(picture)
        except Exception as error:  # a damaged picture can make a decoder raise anything
            raise MediaError(f"{self}: {error}") from error


def _developed(path: Path, enough: int | None) -> Image.Image:
    import rawpy

    with open_media(path) as stream, rawpy.imread(stream) as raw:  # rawpy takes only UTF-8 names
        about = raw.sizes
        Image._decompression_bomb_check((about.raw_width, about.raw_height))
        half = enough is not None and min(about.width, about.height) >= 2 * enough
        # [H, W, 3]; 1 from a grey camera
        pixels = raw.postprocess(use_camera_wb=True, half_size=half)
        return Image.fromarray(pixels.squeeze()).convert("RGB")


def to_pixels(
    pictures: Sequence[Image.Image], image_processor: BaseImageProcessor, **settings: Any
) -> Tensor:
    """Convert F pictures of any mode and size to CLIP's input [F, 3, H, W].

    `settings`, such as `do_normalize=False`, go to the image processor. Without rescaling and
    normalising the pixels stay whole numbers, which fit uint8, a quarter of the size.
    """
    fit = _central if getattr(image_processor, "do_center_crop", False) else lambda shown: shown
    return image_processor(
        images=[fit(as_shown(picture)) for picture in pictures],
        # else 1 or 3 rows of pixels would be mistaken for channels
        input_data_format="channels_last",
        return_tensors="pt",
        **settings,
    )["pixel_values"]


def as_shown(image: Image.Image) -> Image.Image:
    """Return a picture as viewers show it: upright (EXIF), 8-bit RGB, opaque.

    Transparent parts become white, like most pages. A white drawing would be invisible on white, so
    a picture gets dark grey instead if a share `NEARLY_ALL` of its visible pixels have all channels
    at `NEARLY_WHITE` or above. 16-bit grey may use only 8, 10, 12 or 14 bits, so white is the
    lowest of 255, 1023 … 65535 that no pixel exceeds. Other number types have no known range: black
    is the lowest value, white the highest.
    """
    if 0 in image.size:
        raise ValueError("{} x {} pixels; expected at least 1 x 1".format(*image.size))
    image.load()  # the EXIF data may come after the pixels
    with suppress(Exception):  # damaged EXIF data
        if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:  # else it would be copied
            image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(image, np.float64), posinf=0.0, neginf=0.0)
        black = values.min()
        white = values.max()
        if image.mode.startswith("I;16"):
            black = 0
            white = next(top for top in (255, 1023, 4095, 16383, 65535) if white <= top)
        levels = (values - black) / max(white - black, np.finfo(np.float64).tiny) * 255
        return Image.fromarray(np.rint(levels).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    drawing = image.convert("RGBA")
    *colours, alpha = np.moveaxis(np.asarray(drawing), -1, 0)
    white_part = alpha[np.min(colours, axis=0) >= NEARLY_WHITE].sum()
    page = Image.new(
        "RGBA", drawing.size, DARK if 0 < alpha.sum() * NEARLY_ALL <= white_part else "white"
    )
    page.alpha_composite(drawing)
    return page.convert("RGB")


def _central(picture: Image.Image) -> Image.Image:
    """Crop a picture to its middle if it is longer than `LONGEST` times its width.

    CLIP's processor resizes the short side and then crops the square in the middle, which stays the
    same. Without this, a picture of 1 x 20,000 pixels would first be resized to 224 x 4,480,000.
    """
    width, height = picture.size
    side = min(width, height)
    # whole squares, so that the resized pixels are equal
    cut = max(0, max(width, height) // side - LONGEST) // 2 * side
    if cut == 0:
        return picture
    x, y = (cut, 0) if width > height else (0, cut)
    return picture.crop((x, y, width - x, height - y))


def reason_of(path: Path, error: Exception) -> str:
    """Say what is wrong with a picture and, if possible, what to do about it."""
    if isinstance(error, Image.DecompressionBombError):
        return f"{error} Save a smaller copy of it"
    if isinstance(error, UnidentifiedImageError):
        extra = "; HEIC needs the extra `formats`" if LACKING and b"ftyp" in head_of(path) else ""
        # what the file starts with is not shown: it may be a link to a private one
        what = next((text for start, text in KNOWN.items() if head_of(path).startswith(start)), "")
        return f"no picture that Pillow knows{what}{extra}"
    return str(error) or type(error).__name__
