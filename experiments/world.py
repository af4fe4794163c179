"""Read a folder of results besides its rows, and check the worlds that it names."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cma.files import read_json
from data_prep.mini.build import ORIGIN

PROTOCOL = "protocol.json"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def kept_in(results: Path, name: str = PROTOCOL) -> dict:
    """Return the content of a JSON file in a folder of results; empty without that file."""
    file = results / name
    return read_json(file, dict) if file.exists() else {}


def protocol_of(folder: Path) -> Path:
    """Return the protocol.json of a folder, or of the nearest folder above it that has one."""
    places = [place / PROTOCOL for place in (folder, *folder.absolute().parents)]
    return next(filter(Path.exists, places), places[0])


def single_records(folder: Path) -> list[Path]:
    """Return the files of a folder of results that hold the record of one run."""
    return [file for file in folder.glob("*.json") if b'"metrics"' in file.read_bytes()]


def check_pixels(data: Path, results: Path) -> None:
    """Raise ValueError if an offline benchmark in `data` is not the one that protocol.json names.

    Another version of Pillow or resvg can draw other pixels, and then nothing measured on them can
    be compared with the records.
    """
    file = protocol_of(results)
    for name, expected in kept_in(file.parent).get("frozen", {}).get("pixels", {}).items():
        found = kept_in(data / "sources" / name, ORIGIN).get("pixels", expected)
        if found != expected:
            raise ValueError(
                f"{data / name}: its pixels are {found[:12]}, expected {expected[:12]} ({file}): "
                "this machine's Pillow or resvg draws them differently, so no record can be "
                "compared with it"
            )


def warn_of_other_pixels(data: Path, results: Path) -> None:
    """Print a line if `check_pixels` raises, for notebooks, which then continue without records."""
    try:
        check_pixels(data, results)
    except ValueError as error:
        print(f"warning: {error}")
