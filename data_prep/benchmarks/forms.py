"""What the readers of the benchmarks share: options, protocols, and the forms of image
annotations.
"""

import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple, TypeVar

from cma.files import short
from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.hub import Fetched, Repository
from data_prep.containers import NOT_LOOKED_AT, Pictures
from data_prep.dataset import SPLITS, Annotations, CaptionCleaner, Counts, Entry, left_out
from data_prep.readers import BadInput, NotThere, read_csv, stand_in

# protocols of evaluation: see `cma.metrics`
IMAGES = {"query": "caption", "visual_to_text": "captions"}
VIDEOS = {"query": "caption", "visual_to_text": "items"}
PARAGRAPHS = {"query": "paragraph", "visual_to_text": "items"}
SAME = {split: split for split in SPLITS}
PICTURES = "the pictures: name their folder by --source"  # what a hub dataset may lack
ALL = "all"  # in place of a split: the file holds every split
Items = TypeVar("Items", dict, list)


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of the command line.

    `reader` takes `Downloads` and the `options` by name, and returns `Annotations`. `options` maps
    a flag, such as `--split`, to the arguments of `add_argument`.
    """

    help: str
    reader: Callable[..., Annotations]
    options: Mapping[str, dict] = field(default_factory=dict)
    hub: tuple[Repository, ...] = ()  # what `--hub` fetches, the usual one first

    def read(
        self,
        source: Path,
        split_from: Path | None = None,
        fetched: Fetched | None = None,
        **options: object,
    ) -> Annotations:
        """Read the annotations in the folder `source`, and in what was `fetched` from the hub.

        Raises `BadInput` if they are not as expected. `split_from` is the file of the option
        `--split-from`.
        """
        if fetched is None:
            downloads = Downloads(source, split_from)
            return replace(self.reader(downloads, **options), listed=downloads.listed)
        others = [] if source == fetched.folder else Downloads(source).listed
        downloads = Downloads(fetched.folder, split_from)
        downloads.listed += others
        return replace(self.reader(downloads, **options), origin=fetched.origin)

    def add_options(self, parser: ArgumentParser) -> None:
        """Add the benchmark's own options, and set `read`, which reads annotations by parsed
        options.
        """
        names = [
            parser.add_argument(flag, **settings).dest for flag, settings in self.options.items()
        ]

        def read(options: Namespace) -> Annotations:
            fetched = getattr(options, "fetched", None)
            chosen = {name: getattr(options, name) for name in names}
            return self.read(options.source, fetched=fetched, **chosen)

        parser.set_defaults(read=read, repositories=self.hub)
        if self.hub:
            ids = [repository.id for repository in self.hub]
            parser.add_argument(
                "--hub",
                nargs="?",
                const=ids[0],
                metavar="USER/NAME",
                help=f"fetch this dataset of the hub ({', '.join(ids)}; default: {ids[0]}); "
                "--source may be left out, or hold what the dataset lacks",
            )


class Row(NamedTuple):
    """One row of a file: where it is (for messages), its split, its image, and one caption or all
    of them.
    """

    where: str
    split: object
    image: object
    captions: object


class Reading(NamedTuple):
    """The content of the files of one form."""

    entries: list[Entry]
    files: list[Path]
    notes: list[str]
    packed: Pictures | None = None


@dataclass(frozen=True)
class Form:
    """One form in which the annotations of an image benchmark are in circulation.

    `looks_for` names the files in messages. `divisions` holds the published counts, one dictionary
    for each known division into splits. The files are compared with the division that has the most
    splits of the same size; of equally good ones, with the first that has all splits of the files.
    `find` returns the files by split ({} if they are not there), and `read` reads them. `lacks`, of
    forms that have no splits of their own, says in one line what is missing if only captions are
    there.
    """

    looks_for: str
    divisions: tuple[dict[str, Counts], ...]
    find: Callable[[Downloads], dict[str, Path]]
    read: Callable[[dict[str, Path]], Reading]
    lacks: Callable[[Downloads], str | None] | None = None


def of_rows(
    looks_for: str,
    divisions: tuple[dict[str, Counts], ...],
    find: Callable[..., dict[str, Path]],
    rows: Callable[[Path, str], Iterable[Row]],
    splits: Mapping[str, str | None] = SAME,
    **named: object,
) -> Form:
    """Return the form whose files `rows` reads, as in `read_rows`; `named` is what `find` takes."""
    read = partial(read_rows, rows, splits=splits)
    return Form(looks_for, divisions, partial(find, **named), read)


def read_form(
    name: str,
    downloads: Downloads,
    forms: Mapping[str, Form],
    chosen: str | None = None,
) -> Annotations:
    """Read the annotations of the image benchmark `name` in the form `chosen`, or in the first that
    is there.

    A form with a stand-in among its files comes after the others. A note names further forms that
    are there, and says if parquet files could not be looked at. If no form is there, raises
    `BadInput` with the names of the files that were looked for, or ImportError if pyarrow is needed
    to tell.
    """
    asked = {chosen: forms[chosen]} if chosen else dict(forms)
    if downloads.split_from:  # only these forms use it
        asked = {key: form for key, form in asked.items() if form.lacks}
    whole: dict[str, dict[str, Path]] = {}
    pointers: dict[str, dict[str, Path]] = {}
    unread = None
    for key, form in asked.items():
        try:
            paths = form.find(downloads)
        except ImportError as error:  # matters only if there is no other form
            unread = error
            continue
        except BadInput:  # the files exist, but are broken
            if not whole:
                raise
            paths = {"": downloads.folder}
        if paths:
            stand_ins = any(stand_in(path) for path in paths.values() if path.is_file())
            (pointers if stand_ins else whole)[key] = paths
    there = whole | pointers
    if there:
        key, *others = there
        form = asked[key]
        paths = there[key]
        listed = ", ".join(f"{asked[other].looks_for} (--form {other})" for other in others)
        notes = [f"there too, not read: {listed}"] if others else []
        notes += [NOT_LOOKED_AT.format(unread)] if unread else []
        annotations = _annotations(name, downloads, form, form.read(paths), notes)
        return replace(annotations, form=key)
    for form in asked.values():
        line = form.lacks(downloads) if form.lacks else None
        if line:
            raise BadInput(line)
    if unread:
        raise unread
    wanted = ", ".join(form.looks_for for form in asked.values())
    raise NotThere(f"{downloads.folder}: found none of {wanted} in this folder or below it")


def form_option(forms: Mapping[str, Form]) -> dict:
    """Return the settings of the option `--form`: which form to read if several are in one
    folder.
    """
    listed = "; ".join(f"{name}: {form.looks_for}" for name, form in forms.items())
    return {
        "choices": forms,
        "help": f"which annotations to read (default: the first found of {listed})",
    }


SPLIT_FROM = {
    "type": Path,
    "metavar": "FILE",
    "help": "where the split of each image is, if the file of captions has none: Karpathy's JSON, "
    "a CSV "
    "with filename and split, a list of ids with its split in its name, or a folder of such lists",
}


def find_named(downloads: Downloads, names: tuple[str, ...]) -> dict[str, Path]:
    """Return {ALL: the first existing file of `names`}, which holds all splits, or {}."""
    path = downloads.find(*names)
    return {ALL: path} if path else {}


def read_rows(
    rows: Callable[[Path, str], Iterable[Row]],
    paths: dict[str, Path],
    splits: Mapping[str, str | None] = SAME,
) -> Reading:
    """Read the files of a form, where `rows(path, split)` yields the rows of one file.

    `splits` maps each split of the files to the split that it is read as; items of a split that
    maps to None are left out and counted. Raises `BadInput` if a file has no row, or a row is not
    as expected.
    """
    clean = CaptionCleaner()
    entries = []
    dropped: Counter[str] = Counter()
    for split, path in paths.items():
        for entry in some(list(to_entries(rows(path, split), clean, splits)), path):
            if splits[entry.split] is None:
                dropped[entry.split] += 1
            else:
                entries.append(replace(entry, split=splits[entry.split]))
    notes = [
        f"images of the split {split}, left out: {count:,}" for split, count in dropped.items()
    ]
    return Reading(entries, list(paths.values()), notes + clean.notes())


def to_entries(
    rows: Iterable[Row], clean: CaptionCleaner, splits: Iterable[str] = SPLITS
) -> Iterator[Entry]:
    """Yield one entry for each image, with all its captions; its id is the file name without
    extension.

    Raises `BadInput` for an image or a split that is not as expected, and for a second row of an
    image whose row holds a list of all captions.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for where, split, image, captions in rows:
        file = str(image_file(image, where))
        where = f"{where} ({file})"
        if not isinstance(split, str) or split not in splits:
            raise BadInput(f"{where}: expected the split {', '.join(splits)}; found {short(split)}")
        if isinstance(captions, list) and (split, file) in found:
            raise BadInput(
                f"{where}: this image has a row already; expected one row for each image"
            )
        captions = captions if isinstance(captions, list) else [captions]
        found.setdefault((split, file), []).extend(clean(captions, where))
    for (split, file), texts in found.items():
        yield Entry(PurePosixPath(file).stem, file, tuple(texts), split)


def csv_rows(
    path: Path, split: str, columns: tuple[str, str] = ("image", "caption")
) -> Iterator[Row]:
    """Yield the rows of a split's CSV: one row for each caption, in the `columns` image and
    caption.
    """
    image, caption = columns
    for line, row in read_csv(path, columns):
        yield Row(f"{path}:{line}", split, row[image], row[caption])


def hub_rows(path: Path, split: str) -> Iterator[Row]:
    """Yield the rows of the hub's CSV: `filename`, `split`, and `raw` with a JSON list of
    captions.
    """
    for line, row in read_csv(path, ("raw", "split", "filename")):
        where = f"{path}:{line}"
        text = row["raw"]
        try:
            captions = json.loads(text)
        except (ValueError, RecursionError):
            captions = None
        if not isinstance(captions, list):
            raise BadInput(f"{where}: raw: expected a JSON list, found {short(text)}")
        yield Row(where, row["split"].strip(), row["filename"], captions)


def some(items: Items, path: Path) -> Items:
    """Return the items read from `path`. Raises `BadInput` if there are none."""
    if not items:
        raise BadInput(
            f"{path}: no item in this file; download it again, or remove it to leave the split out"
        )
    return items


def image_file(value: object, where: str) -> PurePosixPath:
    """Return an image's file name. Raises `BadInput` with `where` if it is blank, not text or not
    UTF-8.
    """
    text = value.strip() if isinstance(value, str) else ""
    if not PurePosixPath(text).stem or text != text.encode(errors="replace").decode():
        raise BadInput(f"{where}: expected a file name, found {short(value)}")
    return PurePosixPath(text)


def _annotations(
    name: str, downloads: Downloads, form: Form, reading: Reading, notes: list[str]
) -> Annotations:
    there = Counter(entry.split for entry in reading.entries)
    division = max(
        form.divisions,
        key=lambda it: (
            sum(it[split].items == there[split] for split in it),
            there.keys() <= it.keys(),
        ),
    )
    absent = {split: f"{split} split" for split in SPLITS if there and split not in there}
    if "val" in absent and "val" not in division and there["train"]:
        notes.append("no val split in these files: its images are in train")
        absent.pop("val")
    notes += left_out(absent, " in these files") + reading.notes
    return Annotations(
        name,
        "image",
        IMAGES,
        division,
        reading.entries,
        name,
        downloads.names_of(reading.files),
        notes,
        packed=reading.packed,
    )
