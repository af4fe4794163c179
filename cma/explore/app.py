"""The explorer as a page of its own, which Voilà serves to this computer alone.

    python -m cma.explore.app                      # the two offline benchmarks and their adapters
    python -m cma.explore.app --media ~/pictures ~/clips --adapter runs/mini-flickr30k-cross-modal

The media are embedded before the page opens, and the embeddings are kept for the next time. The page shows
small previews; your files themselves are not served. Its address contains a token, so that other users of
this computer cannot open it.
"""

import argparse
import contextlib
import io
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

HOST, PORT = "127.0.0.1", 8866
POLICY = (  # what a page may load: nothing from elsewhere, such as the icon fonts of Voilà's template
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'; "
    "connect-src 'self' data: blob:"
)
TITLE = "Ask your pictures and clips"


def build(
    media: Sequence[str | Path], adapters: Sequence[str | Path], backbone: str | None, index: str, k: int
) -> object:
    """The widget over `open_galleries`, `k` results a model; raises as that does, ValueError for k < 1."""
    from . import Explorer, open_galleries

    if k < 1:
        raise ValueError(f"k={k}: expected at least one result")
    return Explorer(open_galleries(media, adapters, backbone, index), k=k)


def page_widget(where: str, settings: dict) -> object:
    """What the page shows: `build` with `settings` in the folder `where`. Prints nothing."""
    os.chdir(where)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return build(**settings)


def write_notebook(path: Path, where: Path, settings: dict) -> None:
    """Write the notebook that Voilà shows: a heading and the widget that `page_widget` gives."""
    from nbformat import v4, write

    code = f"from cma.explore import app\n\napp.page_widget({str(where)!r}, {settings!r})"
    metadata = {"title": TITLE, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    cells = [v4.new_markdown_cell(f"# {TITLE}"), v4.new_code_cell(code)]
    write(v4.new_notebook(cells=cells, metadata=metadata), path)


def serve(notebook: Path, port: int, browser: bool) -> None:
    """Show `notebook` as a page on this computer until Ctrl-C; no file beside it is served."""
    from traitlets.config import Config
    from voila.app import Voila

    server = {"ip": HOST, "port": port, "port_retries": 0, "open_browser": browser, "auto_token": True}
    server["tornado_settings"] = {"headers": {"Content-Security-Policy": f"{POLICY} ws://{HOST}:{port}"}}
    shown = {"file_allowlist": [], "show_tracebacks": True}
    here = str(Path(__file__).resolve().parents[2])  # where the kernel finds `cma`, installed or not
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    Voila.launch_instance([str(notebook)], config=Config({"Voila": server, "VoilaConfiguration": shown}))


def free_port(port: int) -> int:
    """`port`, or any free one for 0. Raises OSError if it is taken or there is no such port."""
    try:
        with socket.create_server((HOST, port)) as probe:
            return probe.getsockname()[1]
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        raise OSError(f"port {port}: {why}; choose another, or any free one by --port 0") from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed the media and serve the page; returns 1 if that fails, 130 if stopped, after a message."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("python -m cma.explore.app", description=__doc__, formatter_class=kind)
    add = parser.add_argument
    add("--media", nargs="+", default=[], metavar="FOLDER", help="of pictures and clips")
    add("--adapter", nargs="+", default=[], metavar="FOLDER", dest="adapters", help="of trained adapters")
    add("--backbone", help="mini, a hub id or a folder (default: that of the adapters, or one for the media)")
    add("--index", default="runs/explorer", metavar="FOLDER", help="for embeddings (default: %(default)s)")
    add("--port", type=int, default=PORT, help="0 for any (default: %(default)s)")
    add("--no-browser", action="store_true", help="print the address, open nothing")
    add("-k", type=int, default=5, help="results a model (default: %(default)s)")
    settings = vars(parser.parse_args(arguments))
    port, browser = settings.pop("port"), not settings.pop("no_browser")
    try:
        port = free_port(port)
        explorer = build(**settings)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on from what {settings['index']} holds", file=sys.stderr)
        return 130
    settings["backbone"] = explorer.gallery.model.clip.config.name_or_path  # the page takes the same one
    with TemporaryDirectory(prefix="cma-") as folder:
        write_notebook(Path(folder) / "explorer.ipynb", Path.cwd(), settings)
        serve(Path(folder) / "explorer.ipynb", port, browser)
    return 0


if __name__ == "__main__":
    sys.exit(main())
