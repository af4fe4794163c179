import cma.data
from data_prep.benchmarks import msvd
from tests.data_prep.fuzz_sources import as_json, as_lines, run
from tests.grey_media import write_clip

LISTS = {"train": ["-a_b_0_5", "-a_b_5_9"], "val": ["c-_1_2"], "test": ["d_3_4", "e_5_6"]}


def test_clips_captions_and_lists_may_be_called_vid1_and_so_on(folder):
    ids = [id for listed in LISTS.values() for id in listed]
    names = {id: f"vid{number}" for number, id in enumerate(ids, start=1)}
    lists = LISTS | {"test": [f"{names[id]}.avi" for id in LISTS["test"]]}
    files = {f"{split}_list.txt": as_lines(lists[split]).rstrip() for split in lists}
    files["captions_msvd.json"] = as_json({names[id]: [f"{id} is here", "a cat"] for id in ids})
    files["youtube_mapping.txt"] = as_lines(f"{id} {name}" for id, name in names.items())
    files["vid1.avi"] = write_clip(folder / "vid1.avi", [40, 90]).read_bytes()
    assert run("msvd", files, folder, "--allow-missing", media=True)[0] == 0
    (item,) = cma.data.load(folder / "out", "train").items
    assert (item.id, item.file_name, item.captions[0]) == (
        "-a_b_0_5",
        "media/vid1.avi",
        "-a_b_0_5 is here",
    )
    entries = {entry.id: entry for entry in msvd.BENCHMARK.read(folder / "source").entries}
    assert list(entries) == ids and entries["e_5_6"].instead.file == "vid5"
