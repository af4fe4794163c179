"""The explorer as a page of its own, served by Voilà on this computer alone.

    python -m cma.explore.app                      # the two offline benchmarks and their adapters
    python -m cma.explore.app --media ~/pictures ~/clips --adapter runs/mini-flickr30k-cross-modal

The media are embedded before the page opens, and kept for the next time. No file of theirs is served: the
page holds small previews. Its address carries a token, so that nobody else on this computer sees them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import socket
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from traitlets.config import Config

from .. import data, recipes
from ..backbone import PHOTOGRAPHS, load_first
from ..checkpoints import trained_on
from ..model import RetrievalModel
from ..search import IndexConfig
from .gallery import Gallery, folder_name
from .page import backbone_text
from .widget import Explorer

HOST, PORT = "127.0.0.1", 8866
BENCHMARKS = {"mini-flickr30k": "03", "mini-msrvtt": "04"}  # and the notebook that trains the adapter of each
KEPT = Path("runs") / "explorer"  # the embeddings
POLICY = (  # what a page may load: nothing that lies elsewhere, such as the icon fonts of Voilà's template
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
    "connect-src 'self' data: blob:"
)
TITLE = "Ask your pictures and clips"


def build(
    media: Sequence[str | Path] = (),
    adapters: Sequence[str | Path] = (),
    backbone: str | None = None,
    index: str | Path = KEPT,
    k: int = 5,
) -> Explorer:
    """The widget over folders of `media`, or without them over the offline benchmarks' test splits.

    `adapters` are folders written by `save_adapter`, `index` is where embeddings are kept. Without a
    `backbone` it is the adapters'; without them, for `media`, the hub's CLIP for photographs, or "mini" where
    that cannot be had. Prints how far it is. Raises FileNotFoundError, ValueError or OSError that name what
    is missing and what to do.
    """
    if k < 1:
        raise ValueError(f"k={k}: expected at least one result")
    own, kept = [Path(folder).expanduser().absolute() for folder in adapters], Path(index).expanduser()
    model = RetrievalModel(*load_first(_backbones(backbone, own, bool(media))))
    print("backbone", backbone_text(model.clip.config.name_or_path))
    for name, folder in named(own, "-cross-modal").items():
        _add_adapter(model, folder, name.replace(".", "·"))  # torch takes no dots
    first = next(iter(model.adapters), None)
    if media:
        folders = [Path(folder).expanduser().absolute() for folder in media]
        galleries = {name: _gallery(model, folder, kept, first) for name, folder in named(folders).items()}
    else:
        galleries = {name: _benchmark(model, name, kept, first) for name in BENCHMARKS}
    for gallery in galleries.values():
        gallery.indexes([None, *filter(None, [gallery.adapter])])
    return Explorer(galleries, k=k)


def named(folders: Sequence[Path], suffix: str = "") -> dict[str, Path]:
    """Each folder by its name without `suffix`, or by the last parts of its path that tell all apart."""
    folders = list(dict.fromkeys(folders))
    names, parts = [folder.name.removesuffix(suffix) or str(folder) for folder in folders], 0
    while len(set(names)) < len(folders):
        parts += 1
        names = ["/".join(folder.parts[-parts:]) for folder in folders]
    return dict(zip(names, folders, strict=True))


def page(where: str, settings: dict) -> Explorer:
    """What the page runs: `build` with `settings` in the folder `where`. Prints nothing."""
    os.chdir(where)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return build(**settings)


def write_notebook(path: Path, where: Path, settings: dict) -> None:
    """The notebook that Voilà shows: a heading and the widget that `page` gives."""
    v4 = nbformat.v4
    code = f"from cma.explore import app\n\napp.page({str(where)!r}, {settings!r})"
    metadata = {"title": TITLE, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [v4.new_markdown_cell(f"# {TITLE}"), v4.new_code_cell(code)]
    nbformat.write(v4.new_notebook(cells=cells, metadata=metadata), path)


def serve(notebook: Path, port: int, browser: bool) -> None:
    """Show `notebook` as a page on this computer until Ctrl-C; no file beside it is served."""
    from voila.app import Voila

    server = {"ip": HOST, "port": port, "port_retries": 0, "open_browser": browser, "auto_token": True}
    server["tornado_settings"] = {"headers": {"Content-Security-Policy": f"{POLICY} ws://{HOST}:{port}"}}
    shown = {"file_allowlist": [], "show_tracebacks": True}
    here = str(Path(__file__).resolve().parents[1])
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    Voila.launch_instance([str(notebook)], config=Config({"Voila": server, "VoilaConfiguration": shown}))


def free_port(port: int) -> int:
    """`port`, or any free one for 0. Raises OSError if it is taken."""
    with socket.socket() as probe:
        if os.name == "posix":  # as servers do: a port that was closed just now is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise OSError(
                f"port {port}: {error.strerror}; choose another, or any free one by --port 0"
            ) from error
        return probe.getsockname()[1]


# ---- what is searched, and with what


def _backbones(given: str | None, adapters: Sequence[Path], own_media: bool) -> list[str]:
    """The names of the backbones to try, in order."""
    if given is not None:
        return [given]
    if adapters:
        return [trained_on(adapters[0])]
    return [PHOTOGRAPHS, "mini"] if own_media else ["mini"]


def _add_adapter(model: RetrievalModel, folder: Path, name: str) -> None:
    """Load an adapter of this very backbone. Raises FileNotFoundError or ValueError."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # trained on another backbone
        try:
            model.load_adapter(folder, name)
        except UserWarning as warning:
            raise ValueError(f"{warning}; name the backbone it was trained on by --backbone") from None


def _benchmark(model: RetrievalModel, name: str, kept: Path, adapter: str | None) -> Gallery:
    """The test split of an offline benchmark, with `adapter` or the one that its notebook has left."""
    folder, trained = Path("data") / name, Path("runs") / f"{name}-cross-modal"
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no such folder here; `python -m data_prep mini` builds it, or give --media"
        )
    if adapter is None:
        try:
            _add_adapter(model, trained, name)
            adapter = name
        except (FileNotFoundError, ValueError) as error:
            trains = f"python notebooks/run.py {BENCHMARKS[name]}"
            print(f"{name}: CLIP alone; `{trains}` trains an adapter ({error})")
    test = data.load(folder, "test")
    settings = recipes.recipe(test.recipe).config
    config = IndexConfig(settings.similarity, max_frames=settings.max_frames, fps=settings.fps)
    return Gallery(model, test, config, kept / name, adapter)


def _gallery(model: RetrievalModel, folder: Path, kept: Path, adapter: str | None) -> Gallery:
    """Any folder; its embeddings are kept under its name and a digest of where it lies."""
    return Gallery(model, folder, None, kept / folder_name(folder.name, str(folder)), adapter)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, embed, serve; 1 on a user's error."""
    parser = argparse.ArgumentParser(
        prog="python -m cma.explore.app",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--media", nargs="+", default=[], metavar="FOLDER", help="of pictures and clips")
    parser.add_argument("--adapter", nargs="+", default=[], metavar="FOLDER", help="of trained adapters")
    parser.add_argument(
        "--backbone",
        help=f"mini, a hub id or a folder (default: the adapters'; for --media {PHOTOGRAPHS}, or else mini)",
    )
    parser.add_argument(
        "--index", default=KEPT, metavar="FOLDER", help="for embeddings (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=PORT, help="0 for any (default: %(default)s)")
    parser.add_argument("--no-browser", action="store_true", help="print the address, open nothing")
    parser.add_argument("-k", type=int, default=5, help="results a model (default: %(default)s)")
    options = parser.parse_args(arguments)
    settings = {
        "media": options.media,
        "adapters": options.adapter,
        "backbone": options.backbone,
        "index": str(options.index),
        "k": options.k,
    }
    try:
        port = free_port(options.port)
        explorer = build(**settings)
        settings["backbone"] = explorer.gallery.model.clip.config.name_or_path  # the page takes the same
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    with TemporaryDirectory(prefix="cma-") as folder:
        write_notebook(Path(folder) / "explorer.ipynb", Path.cwd(), settings)
        serve(Path(folder) / "explorer.ipynb", port, not options.no_browser)
    return 0


if __name__ == "__main__":
    sys.exit(main())
