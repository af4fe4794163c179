"""A source folder like a benchmark's own, made file by file: a run that was stopped goes on where
it was.
"""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import NamedTuple

from cma.files import write_whole
from data_prep.benchmarks import BENCHMARKS
from data_prep.dataset import Annotations
from data_prep.media import one_by_one
from tests.data_prep.fuzz_sources import SOURCES, Item
from tests.rehearsal.likeness import LIKENESSES
from tests.rehearsal.media import SECONDS, join_shots, save_picture, save_shot
from tests.toy_media import COLOURS

SENTENCES = ("there is", "this shows", "in front of a blurred background is", "we see here")
SHOTS = 240  # different ones at most


class Made(NamedTuple):
    """One item: `file` is relative to the source; a clip joins the `shots` of these numbers."""

    id: str
    file: str
    split: str
    captions: tuple[str, ...]
    shots: tuple[int, ...]


def lay_out(name: str, items: int) -> list[Made]:
    """What every item shows and is called; the item's number decides, not the order of work."""
    like, made = LIKENESSES[name], []
    for split, counts in like.scaled(items).items():
        mean, more = divmod(counts.captions, counts.items)
        for number in range(counts.items):
            random = Random(f"{name} {len(made)}")
            seconds = like.seconds(random)
            id, file = like.place(random, len(made), seconds)
            shots = tuple(random.choices(range(min(SHOTS, items)), k=seconds // SECONDS))
            count = like.sentences or mean + (number < more)
            texts = tuple(
                f"{random.choice(SENTENCES)} a {random.choice(COLOURS)} one" for _ in range(count)
            )
            made.append(Made(id, file, split, texts, shots))
    return made


def make_source(name: str, items: int, out: Path, workers: int) -> None:
    """Make `out`/source like the benchmark `name`, with `items` items; shots are kept in
    `out`/shots.

    Each file is written whole; those that are there are not made again. Prints media found /
    expected.
    """
    like, made, source = LIKENESSES[name], lay_out(name, items), out / "source"
    for folder in {out / "shots", *((source / item.file).parent for item in made)}:
        folder.mkdir(parents=True, exist_ok=True)
    if like.lengths:
        ending = ".avi" if name == "msvd" else ".mp4"
        shots = {n: out / "shots" / f"{n:03}{ending}" for item in made for n in item.shots}
        list(
            one_by_one(
                save_shot,
                [(path, like.size, n) for n, path in shots.items()],
                workers,
                "encode shots",
            )
        )
        jobs = [(source / item.file, tuple(shots[n] for n in item.shots)) for item in made]
        list(one_by_one(join_shots, jobs, workers, "make videos"))
    else:
        jobs = [(source / item.file, like.size, number) for number, item in enumerate(made)]
        list(one_by_one(save_picture, jobs, workers, "make images"))
    form = next(form for form in SOURCES.values() if form.benchmark == name)
    for file, content in form.write(
        {one.id: Item(one.split, one.captions) for one in made}
    ).items():
        write_whole(source / file, content)
    print(f"{source}: {sum((source / item.file).exists() for item in made):,} / {items:,} media")


def read_source(name: str, items: int, source: Path) -> Annotations:
    """What the benchmark's reader reads in a rehearsal's source; expected are the scaled counts."""
    return replace(BENCHMARKS[name].read(source), expected=LIKENESSES[name].scaled(items))
