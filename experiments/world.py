"""What was frozen before a method was trained: `python -m experiments freeze --help`."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from cma.backbone import MINI
from cma.files import read_json, write_whole
from data_prep.mini.build import BUILD, ORIGIN, READERS
from data_prep.mini.things import LEXICON

from .options import DATA, RESULTS

PROTOCOL = "protocol.json"
FIRST = "first-world"  # in the folder of results: what the backbone before this one gave
WEIGHTS = "model.safetensors"
OPTIONS = {"--data": DATA, "--results": RESULTS, "--states": []}


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(folder: Path) -> str:
    """The name of a state of the backbone: what follows the last dash, such as `700`."""
    return folder.name.rpartition("-")[2]


def kept_in(results: Path, name: str = PROTOCOL) -> dict:
    """Return what a JSON file in a folder of results holds; empty if it is not there."""
    file = results / name
    return read_json(file, dict) if file.exists() else {}


def protocol_of(folder: Path) -> Path:
    """Return the protocol.json of a folder, or of the nearest folder above it that has one."""
    places = [place / PROTOCOL for place in (folder, *folder.absolute().parents)]
    return next(filter(Path.exists, places), places[0])


def single_records(folder: Path) -> list[Path]:
    """Return the files of a folder of results that hold the record of one run."""
    return [file for file in folder.glob("*.json") if b'"metrics"' in file.read_bytes()]


def run(options: argparse.Namespace) -> None:
    """Write the digests of the world, of the backbone and of its states into protocol.json.

    Pixels and weights are those of the files that the rows and the curves use. Run it once, before
    the first row: afterwards the tests compare what is there with what was written. What was
    measured on a backbone before, rows, curves and single records, moves to first-world/ first.
    """
    file = options.results / PROTOCOL
    protocol = read_json(file, dict)
    pixels = {}
    for name in READERS:
        source = read_json(options.data / "sources" / name / ORIGIN, dict)
        if "pixels" in source:
            pixels[name] = source["pixels"]
    protocol["frozen"] = {
        "build": BUILD,
        "lexicon": digest_of(LEXICON),
        "pixels": pixels,
        "backbone": digest_of(MINI / WEIGHTS),
        "states": {state_of(folder): digest_of(folder / WEIGHTS) for folder in options.states},
    }
    write_whole(file, json.dumps(protocol, indent=1, ensure_ascii=False) + "\n")
    print(f"{file}: {len(pixels)} worlds, the backbone and {len(options.states)} states")
