"""Joins the parts of an index and frees the room of what was deleted; a kill leaves the index as it was."""

import argparse
import sys
from pathlib import Path

from . import store


def compact(folder: Path) -> int:
    """Write the items of the index in `folder` into new segments; returns how many there are."""
    store.read(folder)  # or the folder would be made
    with store.writing(folder):
        header, index = store.read(folder)
        for segment in index.segments:
            segment.check()
        store.publish(folder, header, store.joined(folder, header, index))
    return len(index)


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m cma.search.compact", description=__doc__)
    parser.add_argument("folder", type=Path, help="that of `MediaIndex.build` or `save`")
    options = parser.parse_args()
    try:
        print(f"{options.folder}: {compact(options.folder):,} files")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
