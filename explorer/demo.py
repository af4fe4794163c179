"""The demo: pictures, clips, two recorded adapters and their indexes, all inside the package, so
the explorer opens at once, without a network, even from a read-only folder.

    python -m explorer --demo      # opens it
    python -m explorer.demo        # in a clone: builds its files again from data/ and results/
"""

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cma
from cma import RetrievalModel, data, recipes
from cma.files import write_whole

from .gallery import ADAPTER, Gallery
from .index import MediaIndex

HERE = Path(__file__).parent / "demo_files"
# gallery → its offline benchmark, and how many test items it has
PARTS = {"pictures": ("mini-flickr30k", 200), "clips": ("mini-msrvtt", 20)}
MAX_BYTES = 3_000_000  # bytes of all files
logger = logging.getLogger(__name__)


def demo_galleries(folder: str | Path = HERE) -> dict[str, Gallery]:
    """Open the demo's galleries, "pictures" and "clips", with the adapter of each.

    It builds an index that another version wrote again, in memory. Raises FileNotFoundError or
    ValueError if the demo's files are damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"{folder}: no demo in this copy; install cross-modal-adapter again, or in a clone run "
            "`python -m explorer.demo`"
        )
    model = RetrievalModel.from_pretrained("mini")
    galleries = {}
    for name, (benchmark, _) in PARTS.items():
        part = folder / name
        items = data.load(part, "test")
        adapter = ADAPTER.format(items.kind)
        model.load_adapter(part / "adapter", adapter, strict=True)
        config = recipes.recipe(benchmark).config
        gallery = galleries[name] = Gallery(model, items, config, None, adapter)
        for own in (None, adapter):
            try:
                with model.using(own):
                    index = MediaIndex.load(_index_of(part, own), model, media_root=part)
                gallery.hold(own, index)
            except (OSError, ValueError) as error:
                logger.info(f"{error}; building it again, in memory")
                gallery.index(own)
    return galleries


def write_demo(out: Path, benchmarks: Path, adapters: Path) -> int:
    """Write the demo's files to `out`, whole or not at all; return their bytes.

    `benchmarks` holds the offline benchmarks, `adapters` the recorded ones. Raises
    FileNotFoundError if one is missing, ValueError if the files are larger than `MAX_BYTES`.
    """
    with TemporaryDirectory(prefix=".demo-", dir=out.parent) as kept:
        made = Path(kept, "made")
        model = RetrievalModel.from_pretrained("mini", device="cpu")
        for name, (benchmark, count) in PARTS.items():
            chosen = data.load(benchmarks / benchmark, "test").subset(count)
            part = made / name
            _write_part(part, chosen, adapters / f"{benchmark}-cross-modal-adapter")
            model.load_adapter(part / "adapter", name, strict=True)
            items = data.load(part, "test")
            gallery = Gallery(model, items, recipes.recipe(benchmark).config)
            for own in (None, name):
                gallery.index(own).save(_index_of(part, own), media_root=".")
        shutil.copy(HERE / "LICENSE", made)  # the only file written by hand
        for lock in made.rglob(".*.lock"):
            lock.unlink()
        size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
        if size > MAX_BYTES:
            raise ValueError(
                f"{out}: {size:,} bytes, expected at most {MAX_BYTES:,}; use fewer items"
            )
        if out.exists():
            out.rename(Path(kept, "before"))
        made.rename(out)
    return size


def _index_of(part: Path, adapter: str | None) -> Path:
    """Return the folder of CLIP's or the adapter's index."""
    return part / ("index-adapter" if adapter else "index-zero-shot")


def _write_part(part: Path, chosen: data.RetrievalDataset, adapter: Path) -> None:
    """Write the chosen items as a dataset folder, with their adapter."""
    lines = []
    for item in chosen.items:
        name = f"media/{Path(item.file_name).name}"
        lines.append({"file_name": name, "id": item.id, "captions": item.captions, "split": "test"})
        write_whole(part / name, chosen.path(item).read_bytes())
    about = {"name": chosen.name, "kind": chosen.kind, "protocol": chosen.protocol}
    about["recipe"] = chosen.recipe
    write_whole(part / "metadata.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    write_whole(part / "dataset.json", json.dumps(about, indent=1) + "\n")
    shutil.copytree(adapter, part / "adapter")


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the demo's files again. Return 0; 1 after an error message."""
    parser = argparse.ArgumentParser("python -m explorer.demo", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    add = parser.add_argument
    add("--data", default="data", type=Path, help="offline benchmarks (default: %(default)s)")
    add(
        "--adapters",
        default="results/methods",
        type=Path,
        help="recorded adapters (default: %(default)s)",
    )
    add("--out", default=HERE, type=Path, help="folder to write (default: in the package)")
    given = parser.parse_args(arguments)
    cma.log_to_stdout()
    try:
        size = write_demo(given.out.absolute(), given.data, given.adapters)
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"the demo is in {given.out}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
