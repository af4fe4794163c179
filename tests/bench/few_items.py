"""What an adapter gains from few captioned pictures: the table in docs/own-captions.md.

    python -m tests.bench.few_items                       # needs data/mini-flickr30k
    python -m tests.bench.few_items --seed 7 --draws 1    # pictures of another seed's world
    python -m tests.bench.few_items --caption 0 --draws 1 --out runs/lists.md
                                                          # trained on lists of names alone

Of each number of items, draws of the training pictures with one caption each are trained on, with
the recipe and with `train_config(items=…)`, and tested on all 1,000 test pictures with all their
captions, which speak in five ways, one of them a list of names. A draw takes two to eight minutes
on a core. Its rows are in the file of `--out` at once, and the same command goes on with the draws
that are not in it. `for_few` in `cma.recipes` was made on the recorded curves alone; no number of
this bench chose anything in it.
"""

import argparse
import contextlib
import random
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cma
from cma import data, metrics, recipes
from cma.files import write_whole
from cma.training import encode, query_ranks
from data_prep.benchmarks import BENCHMARKS
from data_prep.mini.pictures import draw_pictures
from data_prep.mini.things import read_things
from data_prep.mini.world import write_flickr30k
from data_prep.prepare import prepare

ITEMS = (100, 200, 500, 2000)
FIRST = 1000  # seed of the first draw


def another_world(seed: int, folder: Path) -> Path:
    """Write the test pictures of another seed's world, and as many to train on as are needed."""
    drawn = draw_pictures(read_things(), seed)["mini-flickr30k"]
    train = [one for one in drawn if one.split == "train"][: max(ITEMS)]
    source = folder / "source"
    source.mkdir()
    write_flickr30k(source, [*train, *(one for one in drawn if one.split == "test")], workers=1)
    found = BENCHMARKS["flickr30k"].read(source)
    prepare(found, source, folder / "world", allow_missing=True, workers=1)
    return folder / "world"


def trial(
    world: data.RetrievalDataset, items: int, seed: int, caption: int | None, runs: Path
) -> list[str]:
    """Return a table's rows, one for each way to train on a draw of so many items."""
    test = world.splits["test"]
    model = cma.RetrievalModel.from_pretrained("mini")
    draw = random.Random(seed)
    pairs = [
        (world.path(one), draw.choice(one.captions) if caption is None else one.captions[caption])
        for one in world.subset(items, seed).items
    ]
    train = data.from_pairs(pairs, split="train", name="few")
    recipe = recipes.recipe(train)
    usual = {"workers": 0, "cache": True, "select_on": "last", "if_exists": "replace"}
    usual |= {"runs_dir": runs, "eval_items": 50}
    ways = {
        "recipe": recipe.train_config().merge(usual),
        "for few": recipe.train_config(items=items).merge(usual),
    }
    reading = ways["recipe"]

    def ranks() -> list[int]:
        encoded = encode(model, test, reading)
        return query_ranks(encoded, test, reading)["text_to_visual"]

    before = ranks()
    train.splits["test"] = test  # a run reports on something; the numbers below are of all of it
    rows = []
    for name, config in ways.items():
        model.add_adapter(name, seed=seed)
        record = cma.train(model, train, config)
        after = ranks()
        gain = metrics.bootstrap_difference(after, before, test.text_to_item)
        found = [f"{metrics.summary(each)['R@1']:.1f}" for each in (before, after)]
        shown = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*gain)
        cells = (items, seed, name, record.total_steps, *found, shown)
        rows.append(f"| {' | '.join(map(str, cells))} |")
        model.set_adapter(None)
    return rows


def main() -> None:
    """Print a table, and write it draw by draw."""
    parser = argparse.ArgumentParser("python -m tests.bench.few_items", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--world", type=Path, default=Path("data/mini-flickr30k"))
    parser.add_argument("--seed", type=int, help="of another world, which is drawn for this")
    parser.add_argument("--draws", type=int, default=2, help="of each size (default: %(default)s)")
    parser.add_argument("--items", type=int, nargs="*", default=ITEMS)
    parser.add_argument("--caption", type=int, help="of each picture (default: one at random)")
    parser.add_argument("--out", type=Path, help="default: runs/few-items[-SEED].md")
    options = parser.parse_args()
    world_name = "" if options.seed is None else f"-{options.seed}"
    out = options.out or Path(f"runs/few-items{world_name}.md")
    heads = ["| items | draw | settings | steps | zero-shot | adapter | gain |", "|---" * 7 + "|"]
    rows = out.read_text("utf-8").splitlines() if out.exists() else heads
    draws = range(FIRST, FIRST + options.draws)
    missing = [
        (items, seed)
        for seed in draws
        for items in options.items
        if not any(row.startswith(f"| {items} | {seed} |") for row in rows)
    ]
    with TemporaryDirectory() as place, contextlib.redirect_stdout(sys.stderr):
        folder = options.world
        if missing and options.seed is not None:
            folder = another_world(options.seed, Path(place))
        for items, seed in missing:
            world = cma.load_dataset(folder, "train")
            rows += trial(world, items, seed, options.caption, Path(place, "runs"))
            write_whole(out, "\n".join([*rows, ""]))
    print("\n".join(rows))


if __name__ == "__main__":
    main()
