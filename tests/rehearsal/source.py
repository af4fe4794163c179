"""A source folder like a benchmark's own, made file by file: a run that was stopped goes on where it was."""

from dataclasses import replace
from pathlib import Path
from random import Random

from cma.files import write_whole
from data_prep.benchmarks import BENCHMARKS
from data_prep.dataset import Annotations
from data_prep.media import parallel
from tests.data_prep.fuzz_sources import SOURCES, Item
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.media import COLOURS, Made, choose, join_shots, save_picture, save_shot, shots_for

SENTENCES = ("there is", "this shows", "in front of a blurred background is", "we see here")


def lay_out(name: str, items: int, out: Path) -> list[Made]:
    """What every item shows and is called; the item's number decides, not the order of work."""
    like, made = LIKENESSES[name], []
    shots = shots_for(items, like.size, out / "shots", ".avi" if name == "msvd" else ".mp4")
    for split, counts in like.scaled(items).items():
        for number in range(counts.items):
            random = Random(f"{name} {len(made)}")
            seconds = like.seconds(random)
            id, file = like.place(random, len(made), seconds)
            chosen = choose(random, shots, seconds)
            shown = tuple(shot.colour for shot in chosen) or tuple(random.sample(COLOURS, 3))
            count = like.captions_of(random, counts, number)
            texts = tuple(f"{random.choice(SENTENCES)} a {random.choice(shown)} disc" for _ in range(count))
            made.append(Made(id, out / "source" / file, split, texts, shown, chosen, like.size))
    return made


def make_source(name: str, items: int, out: Path, workers: int) -> None:
    """Make `out`/source like the benchmark `name`, with `items` items; shots are kept in `out`/shots.

    Each file is written whole; those that are there are not made again. Prints media found / expected.
    """
    made, source = lay_out(name, items, out), out / "source"
    shots = dict.fromkeys(shot for item in made for shot in item.shots)
    parallel(save_shot, [shot for shot in shots if not shot.path.exists()], workers, "encode shots")
    save = join_shots if shots else save_picture
    parallel(save, [item for item in made if not item.path.exists()], workers, "make media")
    form = next(form for form in SOURCES.values() if form.benchmark == name)
    for file, content in form.write({one.id: Item(one.split, one.captions) for one in made}).items():
        write_whole(source / file, content)
    print(f"{source}: {sum(item.path.exists() for item in made):,} / {items:,} media")


def read_source(name: str, items: int, source: Path) -> Annotations:
    """What the benchmark's reader reads in a rehearsal's source; expected are the scaled counts."""
    return replace(BENCHMARKS[name].read(source), expected=LIKENESSES[name].scaled(items))
