import pytest

from data_prep.benchmarks import flickr30k
from data_prep.readers import BadInput
from tests.data_prep.fuzz_sources import SOURCES, Item
from tests.data_prep.image_sources import told, write


def hub_row(id, split, caption):
    return f'raw,split,filename\n"[""{caption}""]",{split},{id}.jpg\n'


ITEMS = {
    "1000092795": Item("train", ("Two men , in a yard .", 'A "quoted" word .')),
    "36979": Item("val", ("A river .", "Água ; a bridge , too .")),
    "65567": Item("test", ('"Stop" , says a sign .', "A sign .")),
    "7": Item("test", ("A dog .", "A dog .")),
}
EXPECTED = {id: (split, f"{id}.jpg", captions) for id, (split, captions) in ITEMS.items()}


def put(folder, form):
    for file, content in SOURCES[f"flickr30k {form}"].write(ITEMS).items():
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_bytes(content)


def test_of_several_forms_the_first_is_read_or_the_one_that_is_chosen(tmp_path):
    forms = [form for form in flickr30k.FORMS if f"flickr30k {form}" in SOURCES]
    for form in forms:
        put(tmp_path, form)
    read = flickr30k.BENCHMARK.read(tmp_path)
    assert read.files == ["dataset_flickr30k.json"]
    (note,) = [note for note in read.notes if note.startswith("there too, not read: ")]
    assert all(f"(--form {form})" in note for form in forms[1:])
    assert flickr30k.BENCHMARK.read(tmp_path, form="hub").files == ["flickr_annotations_30k.csv"]
    (tmp_path / "flickr_annotations_30k.csv").unlink()
    with pytest.raises(BadInput, match=r"found none of flickr_annotations_30k\.csv in"):
        flickr30k.BENCHMARK.read(tmp_path, form="hub")


@pytest.mark.parametrize("lists", ["splits/{}.txt", "flickr30k_{}.txt", "flickr30k-{}-ids.json"])
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_lists_of_ids_have_other_names_and_endings(tmp_path, lists, ending):
    put(tmp_path, "token")
    for split in ("train", "val", "test"):
        ids = [id + ending for id in (tmp_path / f"{split}.txt").read_text().split()]
        (tmp_path / f"{split}.txt").unlink()
        write(tmp_path / lists.format(split), ids if lists.endswith("json") else "\n".join(ids))
    write(tmp_path / "train_log.txt", "epoch 1\n")  # no list of ids
    assert told(flickr30k.BENCHMARK.read(tmp_path)) == EXPECTED


BARE = {
    "results_20130124.token": "7.jpg#0\tA dog .\n",
    "results.csv": "image_name| comment_number| comment\n7.jpg| 0   A dog .\n",
    "captions.txt": 'image,caption\n7.jpg,"A dog ."\n',
}


@pytest.mark.parametrize("name", BARE)
def test_captions_without_lists_are_no_form(tmp_path, name):
    write(tmp_path / name, BARE[name])
    with pytest.raises(
        BadInput, match=rf"{name}: has captions and no splits; put dataset_.* by --s"
    ):
        flickr30k.BENCHMARK.read(tmp_path)
    own = {"images": [{"id": "7"}], "annotations": [{"image_id": "7", "caption": "A cat ."}]}
    write(tmp_path / "flickr8k" / "captions.txt", "image,caption\n8.jpg,A cat .\n")
    write(tmp_path / "dataset_flickr30k_coco_style.json", own)
    division = write(tmp_path / "elsewhere" / "splits.csv", hub_row("7", "test", "A dog ."))
    read = flickr30k.BENCHMARK.read(tmp_path, split_from=division)
    assert told(read) == {"7": ("test", "7.jpg", ("A dog .",))}
    lists = write(tmp_path.with_name(f"{name} lists") / "val.txt", "7.jpg\n8.jpg\n").parent
    read = flickr30k.BENCHMARK.read(tmp_path, split_from=lists)
    assert told(read)["7"] == ("val", "7.jpg", ("A dog .",))
    assert "ids without captions: 1 (8)" in read.notes
    with pytest.raises(BadInput, match="gone.json: no such file; expected one with the split"):
        flickr30k.BENCHMARK.read(tmp_path, split_from=tmp_path / "gone.json")
    division.write_text(hub_row("7", "dev", "A dog ."))
    with pytest.raises(BadInput, match=r"splits\.csv: expected the split train, .* found 'dev'"):
        flickr30k.BENCHMARK.read(tmp_path, split_from=division)
    write(tmp_path / "flickr30k_test_karpathy.txt", "image,caption\n7.jpg,A dog .\n")
    assert told(flickr30k.BENCHMARK.read(tmp_path)) == {"7": ("test", "7.jpg", ("A dog .",))}
