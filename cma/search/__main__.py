"""Joins the parts of an index, and frees the room of what was deleted; a kill leaves it as it was."""

import argparse
import sys
from pathlib import Path

from . import store


def main(arguments: list[str] | None = None) -> None:
    """The command line: `python -m cma.search compact FOLDER`."""
    parser = argparse.ArgumentParser("python -m cma.search", description=__doc__)
    parser.add_argument("command", choices=["compact"])
    parser.add_argument("folder", type=Path, help="that of `MediaIndex.build` or `save`")
    options = parser.parse_args(arguments)
    try:
        print(f"{options.folder}: {len(store.compact(options.folder)):,} files")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
