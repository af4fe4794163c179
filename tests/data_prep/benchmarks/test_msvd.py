import json
import pickle

from hypothesis import given
from hypothesis import strategies as st

import cma.data
from data_prep.__main__ import main
from data_prep.benchmarks import msvd
from tests.grey_media import write_clip

LISTS = {"train": ["-a_b_0_5", "-a_b_5_9"], "val": ["c-_1_2"], "test": ["d_3_4", "e_5_6"]}
CAPTIONS = {id: [f"{id} is here", "a cat"] for ids in LISTS.values() for id in ids}


def source_of(folder, captions=CAPTIONS, lists=LISTS):
    folder.mkdir(exist_ok=True)
    (folder / "captions_msvd.json").write_text(json.dumps(captions))
    for split, ids in lists.items():
        (folder / f"{split}_list.txt").write_text("\n".join(ids))  # without a final newline
    return folder


def run(*arguments):
    return main(["msvd", *map(str, arguments), "--workers", "1"])


def test_clips_captions_and_lists_may_be_called_vid1_and_so_on(tmp_path):
    names = {id: f"vid{number}" for number, id in enumerate(CAPTIONS, start=1)}
    source = source_of(
        tmp_path / "source",
        captions={names[id]: texts for id, texts in CAPTIONS.items()},
        lists=LISTS | {"test": [f"{names[id]}.avi" for id in LISTS["test"]]},
    )
    (source / "youtube_mapping.txt").write_text("".join(f"{id} {name}\n" for id, name in names.items()))
    write_clip(source / "vid1.avi", [40, 90])
    assert run("--source", source, "--out", tmp_path / "out", "--allow-missing") == 0
    (item,) = cma.data.load(tmp_path / "out", "train").items
    assert (item.id, item.file_name, item.captions[0]) == ("-a_b_0_5", "media/vid1.avi", "-a_b_0_5 is here")
    entries = {entry.id: entry for entry in msvd.BENCHMARK.read(source).entries}
    assert set(entries) == set(CAPTIONS) and entries["e_5_6"].instead.file == "vid5"


TEXTS = st.recursive(
    st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(content=TEXTS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_pickles_are_read_whatever_their_protocol(tmp_path_factory, content, protocol):
    path = tmp_path_factory.mktemp("pickle") / "raw-captions.pkl"
    path.write_bytes(pickle.dumps(content, protocol))
    assert msvd.read_pickle(path) == content
