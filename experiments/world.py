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

from .options import DATA, RESULTS

PROTOCOL = "protocol.json"
FIRST = "first-world"  # in the folder of results: what the backbone before this one gave
WEIGHTS = "model.safetensors"
# what was measured on a backbone, in a folder of results, besides the records of single runs
FOLDERS = ("methods", "curves", "ablations", "second-world")
MEASURED = (*FOLDERS, "forgetting.json", "parts.json", "headroom.json")
ABOUT_FIRST = """# The backbone before

Records here are of the backbone before, with the protocol that was fixed for them. They stay for \
those who want to see what changed; nothing of them stands in a table.
"""
OPTIONS = {"--data": DATA, "--results": RESULTS, "--states": [], "--retire": False}


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revision(weights: str) -> str:
    """Return what `cma.backbone.identity` calls a backbone whose weights have this digest."""
    return hashlib.sha256(bytes.fromhex(weights)).hexdigest()[:12]


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


def retire(results: Path) -> int:
    """Move what was measured on the backbone before to `FIRST`; return how many files and folders.

    The protocol is copied there, unless one is there. Raises ValueError, before anything is moved,
    for a name that is there already.
    """
    first = results / FIRST
    places = [results / name for name in MEASURED] + single_records(results)
    moved = [place for place in places if place.exists()]
    for place in moved:
        if (first / place.name).exists():
            raise ValueError(f"{first / place.name}: it is there; move it away, then do this again")
    for name, text in (("README.md", ABOUT_FIRST), (PROTOCOL, (results / PROTOCOL).read_text())):
        if not (first / name).exists():
            write_whole(first / name, text)
    for place in moved:
        place.rename(first / place.name)
    return len(moved)


def run(options: argparse.Namespace) -> None:
    """Write the digests of the world, of the backbone and of its states into protocol.json.

    Pixels and weights are those of the files that the rows and the curves use. Run it once, before
    the first row: afterwards the tests compare what is there with what was written. With --retire,
    another backbone is in its place: what was measured on the one before moves to first-world/, and
    its states are no longer named. Then run `python -m experiments report results --readme
    README.md results/README.md` and `python notebooks/figures/gains.py`: the tables then say that
    nothing is measured yet.
    """
    file = options.results / PROTOCOL
    protocol = read_json(file, dict)
    pixels = {}
    for name in READERS:
        source = read_json(options.data / "sources" / name / ORIGIN, dict)
        if "pixels" in source:
            pixels[name] = source["pixels"]
    states = {state_of(folder): digest_of(folder / WEIGHTS) for folder in options.states}
    if options.retire:
        print(f"{options.results / FIRST}: {retire(options.results)} files and folders moved there")
    elif not states:
        states = protocol.get("frozen", {}).get("states", {})
    protocol["frozen"] = {
        "build": BUILD,
        "lexicon": digest_of(LEXICON),
        "pixels": pixels,
        "backbone": digest_of(MINI / WEIGHTS),
        "states": states,
    }
    write_whole(file, json.dumps(protocol, indent=1, ensure_ascii=False) + "\n")
    print(f"{file}: {len(pixels)} worlds, the backbone and {len(states)} states")
