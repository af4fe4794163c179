"""The explorer as a page of the book that needs no server: some pictures and clips of the offline
benchmarks, with the adapters that are there.
"""

from pathlib import Path

from pages import ROOT, TRY_IT, has_benchmarks

from cma import RetrievalModel, data, recipes
from cma.backbone import identity, known_by
from cma.checkpoints import read_config
from explorer import Gallery
from explorer.site import publish

COUNTS = {"mini-flickr30k": 500, "mini-msrvtt": 200}
PREVIEW = 128  # pixels; the pictures have 192
KEPT = ROOT / "runs" / "try-it"  # embeddings, for the next time


def trained(name: str, model: RetrievalModel) -> Path | None:
    """Return the folder of the adapter of a benchmark: the recorded one, or that of this clone's
    last run; None if there is none for this backbone.
    """
    known = known_by(identity(model.clip))
    recorded = ROOT / "results" / "methods" / f"{name}-cross-modal-adapter"
    for folder in (recorded, ROOT / "runs" / f"{name}-cross-modal"):
        there = (folder / "adapter_config.json").is_file()
        if there and known_by(read_config(folder).backbone) == known:
            return folder
    return None


def write_page(book: Path) -> None:
    """Write the page into the built book, if the offline benchmarks are there."""
    if not has_benchmarks():
        return
    model = RetrievalModel.from_pretrained("mini")
    adapters = {}
    for name in COUNTS:
        if folder := trained(name, model):
            model.load_adapter(folder, name)
            adapters[name] = name
    galleries = {}
    for name, count in COUNTS.items():
        chosen = data.load(ROOT / "data" / name, "test").subset(count)
        config = recipes.recipe(name).config
        galleries[name] = Gallery(model, chosen, config, KEPT / name, adapters.get(name))
    publish(galleries, book / TRY_IT, preview=PREVIEW, yes=True)
