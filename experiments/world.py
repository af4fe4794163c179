"""What was frozen before the first row: `python -m experiments freeze --help`."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from cma.backbone import MINI
from cma.files import read_json, write_whole
from data_prep.mini.build import BUILD, ORIGIN, READERS
from data_prep.mini.things import LEXICON

from .curves import state_of
from .study import PROTOCOL

FIRST = "first-world"  # in the folder of results: what the backbone before this one gave
WEIGHTS = "model.safetensors"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revision(weights: str) -> str:
    """Return what `cma.backbone.identity` calls a backbone whose weights have this digest."""
    return hashlib.sha256(bytes.fromhex(weights)).hexdigest()[:12]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments freeze`."""
    parser.add_argument("--data", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--states", nargs="*", type=Path, default=[], help="folders such as OUT-700 of pretrain"
    )


def run(options: argparse.Namespace) -> None:
    """Write the digests of the world, of the backbone and of its states into protocol.json.

    Pixels and weights are those of the files that the rows and the curves use. Run it once, before
    the first row: afterwards the tests compare what is there with what was written.
    """
    file = options.results / PROTOCOL
    protocol = read_json(file, dict)
    pixels = {}
    for name in READERS:
        source = read_json(options.data / "sources" / name / ORIGIN, dict)
        if "pixels" in source:
            pixels[name] = source["pixels"]
    states = {state_of(folder): digest_of(folder / WEIGHTS) for folder in options.states}
    protocol["frozen"] = {
        "build": BUILD,
        "lexicon": digest_of(LEXICON),
        "pixels": pixels,
        "backbone": digest_of(MINI / WEIGHTS),
        "states": states or protocol.get("frozen", {}).get("states", {}),
    }
    write_whole(file, json.dumps(protocol, indent=1, ensure_ascii=False) + "\n")
    print(f"{file}: {len(pixels)} worlds, the backbone and {len(states)} states")
