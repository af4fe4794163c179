"""Serve the explorer as a page, from one process, on localhost only.

    python -m explorer --demo               # 200 pictures and 20 clips that come with the package
    python -m explorer                      # the two offline benchmarks and their adapters
    python -m explorer --media ~/pictures ~/clips --adapter runs/mini-flickr30k-cross-modal

The page opens at once. We embed the media meanwhile, keep the embeddings, and follow what changes
in the folders. The page shows small previews, and a whole file only when you open it. Its address
contains a token, so other users of this computer cannot open it. Your browser keeps the token in a
cookie, and we keep it in a file that only you can read, so an open page works again after its
server restarts.
"""

import argparse
import os
import secrets
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import explorer
from cma import log_to_stdout

HOST, PORT = "127.0.0.1", 8866


def private(name: str) -> Path:
    """Return the path of a file in Jupyter's folder of files that only this user can read."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir()) / name


def kept_token() -> str:
    """Return the token of this user's pages, kept in a file that only this user can read.

    Makes it if needed. Raises OSError that says what to do if it cannot be kept.
    """
    from jupyter_core.paths import secure_write

    path = private("cma-explorer-token")
    if (
        not path.is_file()
        or not path.stat().st_size
        or (os.name == "posix" and path.stat().st_mode & 0o077)
    ):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with secure_write(str(path)) as file:
                file.write(secrets.token_hex(24))
        except OSError as error:
            raise OSError(
                f"{path}: {error.strerror or error}; the page keeps its token there, so make room, "
                "or set JUPYTER_RUNTIME_DIR to a folder that can be written to"
            ) from None
    return path.read_text("utf-8")


def serve(galleries: dict, port: int, browser: bool) -> None:
    """Serve the page until Ctrl-C, and open it in a browser if `browser`."""
    from . import server

    token = kept_token()
    address = f"http://{HOST}:{port}/?token={token}"

    def ready() -> None:
        print(f"the explorer is at {address}\nCtrl-C ends it", flush=True)
        if browser:
            show(address, port)

    try:
        server.run(galleries, port, token, ready)
    except KeyboardInterrupt:
        pass
    finally:
        for gallery in galleries.values():
            gallery.stop()
        private(f"cma-explorer-{port}.html").unlink(missing_ok=True)


def show(address: str, port: int) -> None:
    """Open a browser through a file that only this user can read, since others can see the
    addresses in command lines. `serve` removes the file.
    """
    from jupyter_core.paths import secure_write

    path = private(f"cma-explorer-{port}.html")
    with secure_write(str(path)) as file:
        file.write(f'<meta http-equiv="refresh" content="0; url={address}">')
    if webbrowser.open(path.as_uri()) is False:
        print("found no browser: open the address in a browser on this computer", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Embed the media and serve the page. Return 0; 1 after an error message, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser("python -m explorer", description=__doc__)
    parser.formatter_class, add = argparse.RawDescriptionHelpFormatter, parser.add_argument
    add("--demo", action="store_true", help="show the media that come with the package")
    add("--media", nargs="+", default=[], metavar="FOLDER", help="folders of pictures and clips")
    add(
        "--adapter",
        nargs="+",
        default=[],
        metavar="FOLDER",
        dest="adapters",
        help="of trained adapters",
    )
    add(
        "--backbone",
        help="mini, a hub id or a folder (default: that of the adapters, or one for the media)",
    )
    add(
        "--index",
        default="runs/explorer",
        metavar="FOLDER",
        help="for embeddings (default: %(default)s)",
    )
    add("--port", type=int, default=PORT, help="0 for any (default: %(default)s)")
    add("--no-browser", action="store_true", help="print the address, open nothing")
    settings = vars(parser.parse_args(arguments))
    demo = settings.pop("demo")
    if demo and (settings["media"] or settings["adapters"] or settings["backbone"]):
        parser.error("--demo brings its own media, adapters and backbone: leave those options out")
    log_to_stdout()
    port, browser = settings.pop("port"), not settings.pop("no_browser")
    try:
        with socket.create_server((HOST, port)) as probe:
            port = probe.getsockname()[1]
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or str(error).rstrip(".")
        print(
            f"error: port {port}: {why}; choose another, or any free one by --port 0",
            file=sys.stderr,
        )
        return 1
    try:
        galleries = explorer.demo_galleries() if demo else explorer.open_galleries(**settings)
        for gallery in galleries.values():
            gallery.start()
        serve(galleries, port, browser)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"\nstopped; run the same command again to continue from {settings['index']}",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
