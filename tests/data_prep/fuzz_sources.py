"""Invented sources of every benchmark and form from one description of their items, and a run over
them.
"""

import contextlib
import csv
import io
import json
import pickle
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow
from PIL import Image
from pyarrow.parquet import write_table

from data_prep import __main__ as command_line
from tests.data_prep.image_sources import albef, karpathy

Files = dict[str, bytes]
Captions = dict[str, tuple[str, ...]]  # by id


class Item(NamedTuple):
    """One item: in no list where `split` is None; a listed id without captions where there are
    none.
    """

    split: str | None
    captions: tuple[str, ...]


Items = dict[str, Item]
FIRST = {"val": 6_513, "test": 7_010}  # the first clips of MSR-VTT's official splits


@dataclass(frozen=True)
class Source:
    """One form of a benchmark: what writes its files, the options, and what its items can be."""

    benchmark: str
    write: Callable[[Items], Files]
    options: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("train", "val", "test")
    lists: bool = False  # lists decide: there may be items in none, and listed ids without captions
    one_test_caption: bool = False
    paragraph: bool = False
    suffix: str = ".jpg"  # of its pictures
    undivided: bool = False  # captions of all items are read, and counted, before they are chosen
    ids: str = "{id}"  # how its ids look, where that tells its files from those of other benchmarks

    @property
    def files(self) -> Files:
        """The files that hold `FIXED`."""
        return self.write(self.fit(FIXED))

    def fit(self, items: Items) -> Items:
        """The items as this form can hold them."""
        fitted = {}
        for number, (id, (split, captions)) in enumerate(items.items()):
            first = FIRST.get(split, 0)
            id = self.ids.format(id=id, number=number, official=first + number)
            split = "train" if split and split not in self.splits else split
            one = self.one_test_caption and split == "test"
            if (split and captions) or (self.lists and not one):
                fitted[id] = Item(split, captions[:1] if one else captions)
        return fitted


def as_json(content: object) -> bytes:
    return json.dumps(content, ensure_ascii=False).encode()


def as_lines(rows: Iterable[str]) -> bytes:
    """Rows one a line; a newline in them becomes a blank, other line separators stay."""
    return "".join(row.replace("\n", " ") + "\n" for row in rows).encode()


def as_csv(
    columns: tuple[str, ...], rows: Iterable[tuple[str, ...]], delimiter: str = ","
) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([columns, *rows])
    return text.getvalue().encode()


def of_split(items: Items, split: str | None) -> Captions:
    return {id: item.captions for id, item in items.items() if item.split == split}


def splits_of(items: Items) -> list[str]:
    return [split for split in ("train", "val", "test") if of_split(items, split)]


def by_split(items: Items, name: str, write: Callable[[Captions], bytes]) -> Files:
    """A file for each split that is there; `write` takes its captions by id."""
    return {name.format(split): write(of_split(items, split)) for split in splits_of(items)}


def rows_of(captions: Captions, suffix: str = "") -> list[tuple[str, str]]:
    return [(f"{id}{suffix}", text) for id, texts in captions.items() for text in texts]


def with_captions(items: Items) -> Captions:
    return {id: item.captions for id, item in items.items() if item.captions}


def id_lists(items: Items, name: str = "{}_list.txt") -> Files:
    return by_split(items, name, as_lines)


def karpathy_json(name: str, suffix: str = ".jpg") -> Callable[[Items], Files]:
    return lambda items: {
        name: as_json(
            karpathy({f"{id}{suffix}": (item.split, item.captions) for id, item in items.items()})
        )
    }


def albef_json(name: str) -> Callable[[Items], Files]:
    def write(items: Items) -> Files:
        images = {
            s: {f"{id}.jpg": c for id, c in of_split(items, s).items()} for s in splits_of(items)
        }
        return {f"{name}_{s}.json": as_json(albef(images[s], train=s == "train")) for s in images}

    return write


def caption_lists(items: Items, ending: str = "") -> Files:
    return by_split(
        items,
        f"{{}}_caps{ending}.txt",
        lambda captions: as_lines(text for _, text in rows_of(captions)),
    ) | by_split(
        items,
        f"{{}}_filename{ending}.txt",
        lambda captions: as_lines(id for id, _ in rows_of(captions, ".jpg")),
    )


def divided_lists(items: Items) -> Files:
    """Lists as where train and val have been divided anew."""
    tests = {id: item for id, item in items.items() if item.split == "test"}
    divided = {id: item for id, item in items.items() if id not in tests}
    return caption_lists(tests) | caption_lists(divided, "_verify")


def json_lines(items: Items) -> Files:
    def write(captions: Captions) -> bytes:
        rows = [
            {"filename": f"images/{id}.jpg", "captions": texts} for id, texts in captions.items()
        ]
        return as_lines(map(json.dumps, rows))

    return by_split(items, "{}_rsicd.jsonl", write)


def hub_csv(items: Items) -> Files:
    rows = [(json.dumps(item.captions), item.split, f"{id}.jpg") for id, item in items.items()]
    return {"flickr_annotations_30k.csv": as_csv(("raw", "split", "filename"), rows)}


def token(items: Items) -> Files:
    captions = with_captions(items)
    rows = [
        f"{id}.jpg#{n}\t{text}" for id, texts in captions.items() for n, text in enumerate(texts)
    ]
    return {"results_20130124.token": as_lines(rows)} | id_lists(items, "{}.txt")


def split_csvs(
    name: str = "flickr30k_{}_karpathy.txt", columns: tuple[str, str] = ("image", "caption")
) -> Callable[[Items], Files]:
    return lambda items: by_split(
        items, name, lambda captions: as_csv(columns, rows_of(captions, ".jpg"))
    )


def kaggle(items: Items) -> Files:
    rows = [f"{id}.jpg| 0| {text}" for id, text in rows_of(with_captions(items))]
    return {"results.csv": as_lines(["image_name| comment_number| comment", *rows])} | id_lists(
        items, "{}.txt"
    )


def coco_style(captions: Captions) -> bytes:
    images = [{"id": n, "file_name": f"{id}.jpg"} for n, id in enumerate(captions)]
    rows = [
        {"image_id": n, "caption": text}
        for n, texts in enumerate(captions.values())
        for text in texts
    ]
    return as_json({"images": images, "annotations": rows})


def coco_style_of_all(name: str) -> Callable[[Items], Files]:
    return lambda items: {name: coco_style(with_captions(items))} | id_lists(items, "{}.txt")


def msrvtt_json(items: Items, words: dict[str, str]) -> Files:
    rows = rows_of(with_captions(items))
    sentences = [{"video_id": id, "caption": text} for id, text in rows]
    videos = [
        {"video_id": id, "split": words[item.split]} for id, item in items.items() if item.split
    ]
    return {"MSRVTT_data.json": as_json({"videos": videos, "sentences": sentences})}


def msrvtt_distributed(items: Items) -> Files:
    """Two files, whose splits the numbers of the clips tell."""
    tests = {id: item for id, item in items.items() if item.split == "test"}
    others = {id: item for id, item in items.items() if id not in tests}
    words = {"train": "train", "val": "train", "test": "train"}
    names = {"train_val_videodatainfo.json": others, "test_videodatainfo.json": tests}
    return {
        name: msrvtt_json(part, words)["MSRVTT_data.json"] for name, part in names.items() if part
    }


def msrvtt_frozen(items: Items) -> Files:
    rows = rows_of(with_captions(items))
    content = {
        "images": [{"id": id} for id in with_captions(items)],
        "annotations": [{"image_id": id, "caption": text} for id, text in rows],
    }
    files = {"MSR_VTT.json": as_json(content)}
    for split, name in (("train", "train"), ("test", "val")):
        if of_split(items, split):
            files[f"{name}_list_jsfusion.txt"] = as_lines(of_split(items, split))
    if of_split(items, "test"):
        asked = dict.fromkeys(of_split(items, "test"), 0)
        files["jsfusion_val_caption_idx.pkl"] = pickle.dumps(asked)
    return files


def msrvtt(items: Items) -> Files:
    tests = [(id, texts[0]) for id, texts in of_split(items, "test").items() if texts]
    lists = {
        "MSRVTT_train.9k.csv": as_csv(("video_id",), ((id,) for id in of_split(items, "train"))),
        "MSRVTT_JSFUSION_test.csv": as_csv(("video_id", "sentence"), tests, delimiter=";"),
    }
    files = {
        name: lists[name] for name in lists if any(split in name for split in splits_of(items))
    }
    return msrvtt_json(items, {"train": "train", "test": "train"}) | files


def msrvtt_official(items: Items) -> Files:
    return msrvtt_json(items, {"train": "train", "val": "validate", "test": "test"})


def msvd_json(items: Items) -> Files:
    return {"captions_msvd.json": as_json(with_captions(items))} | id_lists(items)


def msvd_pickle(items: Items) -> Files:
    words = {id: [text.split(" ") for text in texts] for id, texts in with_captions(items).items()}
    return {"raw-captions.pkl": pickle.dumps(words)} | id_lists(items)


def msvd_lines(items: Items) -> Files:
    rows = [f"{id} {text}" for id, text in rows_of(with_captions(items))]
    return {"AllVideoDescriptions.txt": as_lines(["# MSVD", "", *rows])} | id_lists(items)


def vatex(items: Items) -> Files:
    clips = [{"videoID": id, "enCap": texts} for id, texts in with_captions(items).items()]
    return {"vatex.json": as_json(clips)} | id_lists(items)


def didemo(items: Items) -> Files:
    files = id_lists(items)
    for split in splits_of(items):
        rows = rows_of(of_split(items, split))
        if split == splits_of(items)[0]:
            rows += rows_of(of_split(items, None))
        files[f"{split}_data.json"] = as_json(
            [{"video": id, "description": text} for id, text in rows]
        )
    return files


def clip_captions(
    train: str, test: str, video: str = "{}", val: str = ""
) -> Callable[[Items], Files]:
    """A JSON of these names for each split; `video` is how it names a clip."""
    names = {"train": train, "val": val, "test": test}

    def write(captions: Captions) -> bytes:
        return as_json(
            [{"video": video.format(id), "caption": texts} for id, texts in captions.items()]
        )

    return lambda items: {names[split]: write(of_split(items, split)) for split in splits_of(items)}


def didemo_labels(items: Items) -> Files:
    columns = ("success", "video_path", "text")

    def write(captions: Captions) -> bytes:
        return as_csv(columns, [("True", f"/home/me/{id}", text) for id, text in rows_of(captions)])

    return by_split(items, "didemo_{}_label.csv", write)


def activitynet(items: Items) -> Files:
    def write(captions: Captions) -> bytes:
        spans = {id: {"timestamps": [[0, 1]] * len(texts)} for id, texts in captions.items()}
        return as_json({f"v_{id}": spans[id] | {"sentences": captions[id]} for id in captions})

    files = by_split(items, "{}.json", write)
    return {"val_1.json" if name == "test.json" else name: files[name] for name in files}


PICTURE = io.BytesIO()
Image.new("RGB", (8, 8), "grey").save(PICTURE, "jpeg")


def parquet(rows: list[dict], **changed: pyarrow.DataType) -> bytes:
    """A parquet file; of no rows, it has no columns. `changed` are types of columns."""
    names = rows[0] if rows else ()
    columns = {
        name: pyarrow.array([row[name] for row in rows], changed.get(name)) for name in names
    }
    file = io.BytesIO()
    write_table(pyarrow.table(columns), file)
    return file.getvalue()


def inside(name: str | None = None, content: bytes | None = None) -> dict:
    """A picture as the hub's parquet files hold it."""
    return {"bytes": PICTURE.getvalue() if content is None else content, "path": name}


def parquet_of_splits(row: Callable[[str, tuple[str, ...]], dict]) -> Callable[[Items], Files]:
    def write(captions: Captions) -> bytes:
        return parquet([row(id, texts) for id, texts in captions.items()])

    return lambda items: by_split(items, "data/{}-00000-of-00001.parquet", write)


def parquet_of_all(items: Items) -> Files:
    captions = with_captions(items)
    rows = [
        {
            "image": inside(),
            "caption": texts,
            "sentids": [0],
            "img_id": "0",
            "filename": f"{id}.jpg",
        }
        for id, texts in captions.items()
    ]
    return {"test-00000-of-00001.parquet": parquet(rows)} | id_lists(items, "{}.txt")


def parquet_of_karpathy(items: Items) -> Files:
    rows = [
        {
            "filename": f"{id}.jpg",
            "filepath": "val2014",
            "split": it.split,
            "sentences": it.captions,
        }
        for id, it in items.items()
    ]
    return {"data/0000.parquet": parquet(rows)}


def vatex_parquet(items: Items) -> Files:
    clips = [{"videoID": id, "enCap": texts} for id, texts in with_captions(items).items()]
    return {"vatex.parquet": parquet(clips)} | id_lists(items)


FIXED = {
    "a_000001_000011": Item("train", ("a boat", " two\nboats ")),
    "-b_000002_000012": Item("test", ("a fox",)),
    "d_000003_000013": Item("val", ("a fish",)),
}
SOURCES = {  # of each benchmark first the form that is most in use
    "flickr30k karpathy": Source("flickr30k", karpathy_json("dataset_flickr30k.json")),
    "flickr30k albef": Source("flickr30k", albef_json("flickr30k")),
    "flickr30k hub": Source("flickr30k", hub_csv),
    "flickr30k token": Source("flickr30k", token, lists=True, undivided=True),
    "flickr30k csv": Source("flickr30k", split_csvs()),
    "flickr30k kaggle": Source("flickr30k", kaggle, lists=True, undivided=True),
    "flickr30k coco-style": Source(
        "flickr30k",
        coco_style_of_all("dataset_flickr30k_coco_style.json"),
        lists=True,
        undivided=True,
    ),
    "flickr30k parquet": Source(
        "flickr30k",
        parquet_of_splits(
            lambda id, texts: {"image": inside(f"{id}.jpg"), "original_alt_text": texts}
        ),
    ),
    "flickr30k parquet-all": Source("flickr30k", parquet_of_all, lists=True, undivided=True),
    "coco karpathy": Source("coco", karpathy_json("dataset_coco.json")),
    "coco albef": Source("coco", albef_json("coco_karpathy"), ("--split", "no-restval")),
    "coco hub": Source(
        "coco", lambda items: {"test_5k_mscoco_2014.csv": next(iter(hub_csv(items).values()))}
    ),
    "coco coco-style": Source(
        "coco", lambda items: by_split(items, "coco_{}_karpathy.json", coco_style)
    ),
    "coco official": Source(
        "coco", coco_style_of_all("captions_val2014.json"), lists=True, undivided=True
    ),
    "rsicd karpathy": Source("rsicd", karpathy_json("dataset_rsicd.json")),
    "rsicd albef": Source("rsicd", albef_json("rsicd")),
    "rsicd lists": Source("rsicd", caption_lists),
    "rsicd divided lists": Source("rsicd", divided_lists),
    "rsicd jsonl": Source("rsicd", json_lines),
    "coco parquet": Source("coco", parquet_of_karpathy),
    "rsicd parquet": Source(
        "rsicd",
        parquet_of_splits(
            lambda id, texts: {"filename": f"a/{id}.jpg", "captions": texts, "image": inside()}
        ),
    ),
    "rsicd pairs": Source("rsicd", split_csvs("RSICD_img_txt_pairs_{}.csv", ("filepath", "title"))),
    "rsitmd karpathy": Source(
        "rsitmd", karpathy_json("dataset_RSITMD.json", ".tif"), suffix=".tif"
    ),
    "rsitmd albef": Source("rsitmd", albef_json("rsitmd")),
    "rsitmd lists": Source("rsitmd", caption_lists),
    "msrvtt": Source("msrvtt", msrvtt, splits=("train", "test"), lists=True, one_test_caption=True),
    "msrvtt official": Source("msrvtt", msrvtt_official, ("--split", "official")),
    "msrvtt captions": Source(
        "msrvtt",
        clip_captions("msrvtt_ret_train9k.json", "msrvtt_ret_test1k.json", "{}.mp4"),
        splits=("train", "test"),
        ids="video{number}",
    ),
    "msrvtt distributed": Source(
        "msrvtt", msrvtt_distributed, ("--split", "official"), ids="video{official}"
    ),
    "msrvtt frozen": Source(
        "msrvtt", msrvtt_frozen, splits=("train", "test"), lists=True, one_test_caption=True
    ),
    "msrvtt hub": Source(
        "msrvtt",
        clip_captions("msrvtt_train_9k.json", "msrvtt_test_1k.json", "{}.mp4"),
        splits=("train", "test"),
        ids="video{number}",
    ),
    "msvd pickle": Source("msvd", msvd_pickle, lists=True),
    "msvd json": Source("msvd", msvd_json, lists=True),
    "msvd lines": Source("msvd", msvd_lines, lists=True),
    "msvd hub": Source(
        "msvd",
        clip_captions("msvd_train.json", "msvd_test.json", "{}.avi", val="msvd_val.json"),
        ids="-abcdefghi{number}_1_9",
    ),
    "vatex": Source("vatex", vatex, lists=True),
    "vatex parquet": Source("vatex", vatex_parquet, lists=True),
    "didemo": Source("didemo", didemo, lists=True, paragraph=True),
    "didemo captions": Source(
        "didemo",
        clip_captions("didemo_ret_train.json", "didemo_ret_test.json", val="didemo_ret_val.json"),
        paragraph=True,
        ids="{number}@N0_{id}.mp4",
    ),
    "didemo hub": Source(
        "didemo",
        clip_captions("didemo_train.json", "didemo_test.json", "some/{}", val="didemo_val.json"),
        paragraph=True,
        ids="{number}@N0_{id}.mp4",
    ),
    "didemo labels": Source("didemo", didemo_labels, paragraph=True),
    "activitynet": Source("activitynet", activitynet, splits=("train", "test"), paragraph=True),
    "activitynet captions": Source(
        "activitynet",
        clip_captions("anet_ret_train.json", "anet_ret_val_1.json", "v_{}.mp4"),
        splits=("train", "test"),
        paragraph=True,
    ),
}


def run(
    benchmark: str, files: Files, folder: Path, *options: str, media: bool = False
) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command for these files; what it writes is in folder /
    "out".

    Without `media` there are only annotations.
    """
    for inner in (folder / "source", folder / "out"):
        inner.mkdir(exist_ok=True)
        for path in inner.rglob("*"):
            path.unlink() if not path.is_dir() or path.is_symlink() else None
    for name, content in files.items():
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "source" / name).write_bytes(content)
    out, errors = io.StringIO(), io.StringIO()
    words = [benchmark, "--source", str(folder / "source"), "--out", str(folder / "out")]
    words += [*options, *(("--workers", "1") if media else ("--annotations-only",))]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        status = command_line.main(words)
    return status, out.getvalue(), errors.getvalue()


def read_back(out: Path) -> tuple[dict[str, dict], set[str]]:
    """The rows of metadata.jsonl by id (without `v_`), and the ids in missing.txt."""
    lines = (out / "metadata.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    rows = {row["id"].removeprefix("v_"): row for row in map(json.loads, lines)}
    assert len(rows) == len(lines)
    missing = out / "missing.txt"
    text = missing.read_text(encoding="utf-8") if missing.is_file() else ""
    return rows, {line.split("\t")[0].removeprefix("v_") for line in text.split("\n")[:-1]}
