"""RSICD and RSITMD: remote sensing images with five captions each, divided in several ways."""

from functools import partial
from pathlib import Path

from data_prep.benchmarks.downloads import Downloads
from data_prep.benchmarks.forms import (
    Benchmark,
    Form,
    Reading,
    csv_rows,
    find_named,
    form_option,
    of_rows,
    read_form,
    read_rows,
)
from data_prep.benchmarks.hub import Repository
from data_prep.benchmarks.image_files import (
    REPHRASED,
    albef_rows,
    find_albef,
    find_caption_lists,
    find_json_lines,
    find_pairs_csv,
    json_line_rows,
    karpathy_rows,
    read_caption_lists,
)
from data_prep.benchmarks.packed import Tables
from data_prep.containers import Layout
from data_prep.dataset import Annotations, Counts

RSICD_TEST = {"test": Counts(1_093, 5_465)}
RSITMD_TEST = {"test": Counts(452, 2_260)}
RSICD_DIVISIONS = {
    "official": {"train": Counts(8_734, 43_670), "val": Counts(1_094, 5_470)} | RSICD_TEST,
    "re-split": {"train": Counts(7_862, 39_310), "val": Counts(1_966, 9_830)} | RSICD_TEST,
    "without val": {"train": Counts(9_828, 49_140)} | RSICD_TEST,  # its images are in train
}
RSITMD_DIVISIONS = {
    "official": {"train": Counts(4_291, 21_455)} | RSITMD_TEST,  # it has no val split
    "re-split": {"train": Counts(3_435, 17_175), "val": Counts(856, 4_280)} | RSITMD_TEST,
    # AMFMN's
    "re-split at 80 %": {"train": Counts(3_432, 17_160), "val": Counts(859, 4_295)} | RSITMD_TEST,
}


def read_rsicd(downloads: Downloads, form: str | None = None) -> Annotations:
    """Read the annotations of RSICD; `form` is a key of RSICD_FORMS."""
    return read_form("rsicd", downloads, RSICD_FORMS, form)


def read_rsitmd(downloads: Downloads, form: str | None = None) -> Annotations:
    """Read the annotations of RSITMD; `form` is a key of RSITMD_FORMS."""
    return read_form("rsitmd", downloads, RSITMD_FORMS, form)


def _forms(name: str, karpathy: str, divisions: dict[str, dict[str, Counts]]) -> dict[str, Form]:
    """Return the forms of RSICD or RSITMD; `karpathy` names the JSON that holds the "official"
    division.

    ALBEF's files and lists usually hold the "re-split" one: new train and val splits, the same
    test. Each file may hold another of the `divisions`.
    """
    official = tuple(divisions.values())
    divided = (
        divisions["re-split"],
        *(it for which, it in divisions.items() if which != "re-split"),
    )
    return {
        "karpathy": of_rows(
            karpathy, official, find_named, karpathy_rows, names=(karpathy, karpathy.lower())
        ),
        "albef": of_rows(
            f"{name}_{{train,val,test}}.json", divided, find_albef, albef_rows, name=name
        ),
        "lists": Form(
            "{train,val,test}_caps.txt",
            divided,
            partial(find_caption_lists, name=name),
            read_caption_lists,
        ),
        "pairs": of_rows(
            f"{name.upper()}_img_txt_pairs_{{train,val,test}}.csv",
            official,
            find_pairs_csv,
            partial(csv_rows, columns=("filepath", "title")),
            name=name,
        ),
    }


def _read_json_lines(paths: dict[str, Path]) -> Reading:
    reading = read_rows(json_line_rows, paths)
    rephrased = ", ".join(path.name for path in paths.values() if REPHRASED in path.name)
    if rephrased:
        reading.notes.insert(
            0, f"{rephrased}: repeated captions are rephrased, unlike the benchmark's own"
        )
    return reading


RSICD_FORMS = _forms("rsicd", "dataset_rsicd.json", RSICD_DIVISIONS)
RSICD_FORMS["jsonl"] = Form(
    "{train,valid,test}_rsicd.jsonl",
    tuple(RSICD_DIVISIONS.values()),
    partial(find_json_lines, name="rsicd"),
    _read_json_lines,
)
# arampacha/rsicd
TABLES = Tables("rsicd", (Layout("captions", "image", "filename"),))
RSICD_FORMS |= TABLES.forms(tuple(RSICD_DIVISIONS.values()))
RSITMD_FORMS = _forms("rsitmd", "dataset_RSITMD.json", RSITMD_DIVISIONS)
RSICD = Benchmark(
    "RSICD: 10,921 remote sensing images with five captions each, 1,093 of them for the test.",
    read_rsicd,
    {"--form": form_option(RSICD_FORMS)},
    (Repository("arampacha/rsicd", ("*.parquet",)),),
)
RSITMD = Benchmark(
    "RSITMD: 4,743 remote sensing images with five captions each, 452 of them for the test.",
    read_rsitmd,
    {"--form": form_option(RSITMD_FORMS)},
)
