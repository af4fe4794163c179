import pytest

from data_prep.benchmarks import flickr30k
from data_prep.readers import BadInput
from tests.data_prep.fuzz_sources import SOURCES, Item
from tests.data_prep.image_sources import told, write

ITEMS = {
    "1000092795": Item("train", ("Two men , in a yard .", 'A "quoted" word .')),
    "36979": Item("val", ("A river .", "Água ; a bridge , too .")),
    "65567": Item("test", ('"Stop" , says a sign .', "A sign .")),
    "7": Item("test", ("A dog .", "A dog .")),
}
EXPECTED = {id: (split, f"{id}.jpg", captions) for id, (split, captions) in ITEMS.items()}


def put(folder, form):
    for file, content in SOURCES[f"flickr30k {form}"].write(ITEMS).items():
        (folder / file).write_bytes(content)


def test_of_several_forms_the_first_is_read_or_the_one_that_is_chosen(tmp_path):
    for form in flickr30k.FORMS:
        put(tmp_path, form)
    read = flickr30k.BENCHMARK.read(tmp_path)
    assert read.files == ["dataset_flickr30k.json"]
    (note,) = [note for note in read.notes if note.startswith("there too, not read: ")]
    assert all(f"(--form {form})" in note for form in [*flickr30k.FORMS][1:])
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


def test_captions_without_lists_are_no_form(tmp_path):
    write(tmp_path / "results_20130124.token", "7.jpg#0\tA dog .\n")
    with pytest.raises(
        BadInput, match=r"results_20130124\.token with ids in \{train,val,test\}\.txt"
    ):
        flickr30k.BENCHMARK.read(tmp_path)
    write(tmp_path / "flickr30k_test_karpathy.txt", "image,caption\n7.jpg,A dog .\n")
    assert told(flickr30k.BENCHMARK.read(tmp_path)) == {"7": ("test", "7.jpg", ("A dog .",))}
