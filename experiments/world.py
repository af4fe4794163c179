"""What was frozen before the first row, and where the rows of an earlier backbone go."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path

from cma.backbone import MINI, known_by
from cma.files import read_json, write_whole
from data_prep.mini.build import BUILD, ORIGIN, READERS
from data_prep.mini.things import LEXICON

from .curves import state_of
from .study import PROTOCOL

FIRST = "first-world"  # in the folder of results
WEIGHTS = "model.safetensors"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def revision(weights: str) -> str:
    """Return what `cma.backbone.identity` calls a backbone whose weights have this digest."""
    return hashlib.sha256(bytes.fromhex(weights)).hexdigest()[:12]


def add_freeze_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments freeze`."""
    parser.add_argument("--data", type=Path, default=Path("data"), help="default: data")
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")
    parser.add_argument(
        "--states", nargs="*", type=Path, default=[], help="folders such as OUT-700 of pretrain"
    )


def freeze(options: argparse.Namespace) -> None:
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


def add_retire_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `python -m experiments retire`."""
    parser.add_argument("--results", type=Path, default=Path("results"), help="default: results")


def retire(options: argparse.Namespace) -> None:
    """Move the records of any other backbone than the frozen one to first-world/, in results.

    Rows, points, ablations and single runs keep their places below it. What is measured of such
    rows, in forgetting.json and parts.json, moves too.
    """
    results = options.results
    frozen = revision(read_json(results / PROTOCOL, dict)["frozen"]["backbone"])
    moved = [path for path in sorted(results.rglob("*.json")) if _is_of_another(path, frozen)]
    moved = [path for path in moved if FIRST not in path.relative_to(results).parts]
    stems = {path.stem for path in moved}
    for name in ("forgetting.json", "parts.json"):
        file = results / name
        if file.exists() and stems & read_json(file, dict)["rows"].keys():
            moved.append(file)
    for path in moved:
        target = results / FIRST / path.relative_to(results)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    for folder in sorted(results.rglob("*"), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    print(f"{len(moved)} files moved to {results / FIRST}; the backbone of the rest is {frozen}")


def _is_of_another(path: Path, frozen: str) -> bool:
    """Whether a file holds a run, or a row of runs, of another backbone."""
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict):
        return False
    runs = list(content["records"].values()) if "records" in content else [content]
    made = {known_by(run["backbone"]) for run in runs if isinstance(run.get("backbone"), dict)}
    made |= {content["backbone"]} if "records" in content and content.get("backbone") else set()
    return bool(made - {frozen})
