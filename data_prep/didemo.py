"""DiDeMo: 30-second clips, each found by the paragraph of its descriptions; 8,392, 1,065 and 1,004 clips."""

from argparse import ArgumentParser
from pathlib import Path

from data_prep.annotations import SPLITS, Annotations, CaptionCleaner, Counts, Entry
from data_prep.errors import BadInput
from data_prep.id_lists import count_of, find_id_list
from data_prep.paragraphs import PROTOCOL, paragraph
from data_prep.readers import find_files, read_json

PUBLISHED = {"train": Counts(8_392, 8_392), "val": Counts(1_065, 1_065), "test": Counts(1_004, 1_004)}


def read(source: Path) -> Annotations:
    """Read `{train,val,test}_data.json` and `{train,val,test}_list.txt`.

    The JSON holds more clips than the list: the list decides. A split without either file is left out. Ids
    keep the extension they have, or the bare dot they end in; transcoded files are found all the same.
    """
    clean, entries, files, notes = CaptionCleaner(), [], [], []
    for split in SPLITS:
        data, names = find_files(source, (f"{split}_data.json",)), f"{split}_data.json, {split}_list.txt"
        if not data:
            notes.append(f"no {split}_data.json: that split is left out")
            continue
        descriptions = _read_descriptions(data[0])
        found = find_id_list(source, (f"{split}_list.txt",), descriptions.keys())
        if found is None:
            notes.append(f"no {split}_list.txt with the ids of {data[0].name}: that split is left out")
            continue
        files += [data[0].name, found.path.name]
        where = f"{data[0]}: video "
        entries += [
            Entry(id, id, paragraph(descriptions.get(id, ()), clean, where + id), split) for id in found.ids
        ]
        without = [id for id in found.ids if id not in descriptions]
        unlisted = descriptions.keys() - set(found.ids)
        notes += found.notes()
        notes += count_of(without, f"ids of {found.path.name} have no description")
        notes += count_of(sorted(unlisted), f"clips of {data[0].name} are not in {found.path.name}, left out")
    if not entries:
        raise BadInput(f"{source}: expected a split's two files such as {names}; {'; '.join(notes)}")
    return Annotations(
        "didemo", "video", PROTOCOL, PUBLISHED, entries, "didemo", files, notes + clean.notes()
    )


def add_options(parser: ArgumentParser) -> None:
    """DiDeMo has no options of its own."""
    parser.set_defaults(read=lambda options: read(options.source))


def _read_descriptions(path: Path) -> dict[str, list[str]]:
    """The descriptions of each clip, in the order of the JSON."""
    content = read_json(path)
    if not isinstance(content, list):
        raise BadInput(f"{path}: expected a list of objects with video and description")
    descriptions: dict[str, list[str]] = {}
    for number, row in enumerate(content):
        try:
            id, description = row["video"], row["description"]
        except (KeyError, TypeError) as error:
            raise BadInput(f"{path}: entry {number}: expected video and description; {error!r}") from None
        if not isinstance(id, str) or not id.strip() or not isinstance(description, str):
            raise BadInput(f"{path}: entry {number}: expected texts, found {id!r} and {description!r}")
        descriptions.setdefault(id.strip(), []).append(description)
    return descriptions
