"""An index answers as the naive comparison does, survives the disk, and says what it could not
read.
"""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

import av
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cma import RetrievalModel, data
from cma.config import ReadConfig, TrainConfig
from cma.media import MediaError
from cma.similarity import compare, mean_pooled
from cma.training import evaluation
from explorer.index import IndexConfig, MediaFile, MediaIndex, table
from explorer.index.table import Table
from tests.conftest import build_clip
from tests.toy_index import drawn, holding, names, same
from tests.toy_media import write_clip, write_picture, write_videos


@pytest.fixture(scope="module")
def media(tmp_path_factory):
    """A folder of seven pictures, three clips, and things that are neither."""
    folder = tmp_path_factory.mktemp("media")
    for i in range(7):
        write_picture(folder / "pictures" / f"p{i}.png", i * 5 + 1)
    for i in range(3):
        write_clip(folder / f"clip {i}.mp4", i, frames=2 + 3 * i)
    (folder / "notes.txt").write_text("a list")
    write_picture(folder / ".hidden.png", 1)
    write_picture(folder / ".thumbnails" / "p0.png", 1)
    return folder


# ---- the answers


def test_threads_that_ask_side_by_side_get_the_answers_of_one(model, media):
    for parameter in model.get_adapter("a").parameters():
        parameter.data *= 8
    indexes = []
    for adapter in (None, "a"):
        model.set_adapter(adapter)
        indexes.append(MediaIndex.build(model, media))
    asked = [(index, f"a dog {number}") for number in range(10) for index in indexes]
    alone = [index.query(text, 10) for index, text in asked]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda pair: pair[0].query(pair[1], 10), asked))
    for one, other in zip(alone, together, strict=True):
        assert dict(one) == pytest.approx(dict(other), abs=1e-5)


@pytest.mark.filterwarnings("ignore:.* captions exceed")
@pytest.mark.parametrize("similarity", ["mean_pooled", "text_conditioned"])
@pytest.mark.parametrize("adapter", [None, "a"])
def test_scores_of_a_split_are_those_of_the_evaluation(model, tmp_path, similarity, adapter):
    dataset = data.load(write_videos(tmp_path, {"train": 2, "test": 7}), "test")
    model.set_adapter(adapter)
    config = TrainConfig(
        similarity=similarity, max_words=4, max_frames=4, fps=None, temperature=0.5
    )
    index = MediaIndex.build(model, dataset, config)
    assert index.config == IndexConfig(similarity, 0.5, 4, 4, None)
    encoded = evaluation.encode(model, dataset, config)
    expected = compare(encoded.text, encoded.frames, encoded.mask, config)
    assert torch.equal(index.lengths, encoded.mask.sum(1))
    torch.testing.assert_close(index.scores(dataset.captions), expected, atol=1e-5, rtol=0)
    assert index.scores(dataset.captions, []).shape == (len(dataset.captions), 0)
    assert index.captions == dataset.captions
    assert torch.equal(index.text_to_item, dataset.text_to_item)
    # as many words as its config says
    assert index.query("a dog and a red cat") == index.query("a dog")


@given(depth=st.integers(1, 14), seed=st.integers(0, 99))
def test_the_second_search_reorders_the_best_of_the_first(toy_index, depth, seed):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(12, 3, 32, generator=generator)
    mask = (torch.rand(12, 3, generator=generator) < 0.7).long()
    mask[:, 0] = 1
    index = holding(toy_index, drawn(12)[0], frames[mask.bool()], mask.sum(1))
    text = index.model.encode_text(["a dog"]).detach()
    first, exact = mean_pooled(text, frames, mask)[0], index.scores(["a dog"])[0]
    near = first.argsort(descending=True)[: depth if depth < 12 else None].tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("explorer.index.ask.DEPTH", depth)
        items, scores = index.ranking("a dog")
    top = len(near)
    assert items[:top].tolist() == sorted(near, key=lambda i: -exact[i])
    assert items[top:].tolist() == first.argsort(descending=True)[top:].tolist()
    torch.testing.assert_close(scores, torch.cat([exact[items[:top]], first[items[top:]]]))


@pytest.fixture(scope="module")
def toy_index(tmp_path_factory, toy_processor):
    folder = write_picture(tmp_path_factory.mktemp("one") / "p.png", 3).parent
    return MediaIndex.build(
        RetrievalModel(build_clip(), toy_processor), folder, ReadConfig(temperature=0.5)
    )


def test_a_file_finds_itself_first(model, media, tmp_path):
    model.set_adapter("a")
    index = MediaIndex.build(model, media)
    model.set_adapter(None)
    for file in index.files:
        for query in (index.path(file), file.file_name):
            (name, score), *_ = index.query_media(query, k=1)
            assert (name, score) == (file.file_name, pytest.approx(1, abs=1e-5))
    write_picture(tmp_path / "frames" / "0.png", 16)
    assert names(index.query_media(tmp_path / "frames", k=1)) == ["pictures/p3.png"]


# ---- adapters


def test_weights_that_are_no_numbers_are_refused(model, media):
    """By the build, or by the query if they are those of the text tower."""
    index = MediaIndex.build(model, media)
    model.set_adapter("a")
    for name in ("text", "vision"):
        broken = next(w for key, w in model.get_adapter("a").named_parameters() if name in key).data
        before = broken.clone()
        broken.fill_(torch.nan)
        with pytest.raises(ValueError, match="not finite: .*adapter 'a'"):
            MediaIndex.build(model, media).query("a dog")
        broken.copy_(before)
    assert index.query("a dog")


# ---- the disk


def test_saved_and_loaded_it_is_the_same(model, media, tmp_path):
    model.set_adapter("a")
    (folder := tmp_path / "media").mkdir()
    shutil.copytree(media, folder, dirs_exist_ok=True)
    (folder / "empty.jpg").touch()
    index = MediaIndex.build(model, folder, ReadConfig("mean_pooled", 2.0, 7, 5, 6.0))
    for _ in range(2):
        index.save(tmp_path / "index")
        loaded = MediaIndex.load(tmp_path / "index", model)
        same(loaded, index)
        for field in ("header", "media_root", "skipped", "captions"):
            assert getattr(loaded, field) == getattr(index, field)
        assert loaded.query("a dog") == index.query("a dog")
    assert names(loaded.skipped) == ["empty.jpg"]
    some = loaded.part([7, 2])
    assert list(some.files) == [index.files[2], index.files[7]], "in the order of their names"
    torch.testing.assert_close(some.frames(0), index.frames(2))


def test_the_same_adapter_by_another_name_answers(model, media, tmp_path):
    model.set_adapter("a")
    index = MediaIndex.build(model, media, folder=tmp_path / "index")
    model.save_adapter(tmp_path / "a", "a")
    other = RetrievalModel(model.clip, model.processor)
    other.load_adapter(tmp_path / "a", "other")
    loaded = MediaIndex.load(tmp_path / "index", other)
    assert loaded.query("a dog") == index.query("a dog") and loaded.header.adapter == "other"


@given(choice=st.integers(0, 2**40))
def test_every_weight_of_the_backbone_counts(toy_index, tmp_path_factory, choice):
    folder, clip = tmp_path_factory.mktemp("kept"), build_clip()
    toy_index.save(folder)
    half = RetrievalModel(build_clip().to(torch.bfloat16), toy_index.model.processor)
    assert len(MediaIndex.load(folder, half)) == 1  # the precision does not
    weights = [weight for _, weight in sorted(clip.named_parameters())]
    weight = weights[choice % len(weights)].flatten()  # a view
    weight.data[choice % len(weight)] += 0.1
    for other in (clip, build_clip(text_layers=2)):
        with pytest.raises(ValueError, match="built with the backbone .* build the index again"):
            MediaIndex.load(folder, RetrievalModel(other, toy_index.model.processor))


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_save_that_is_stopped_leaves_the_old_index(model, media, tmp_path, monkeypatch, error):
    index = MediaIndex.build(model, media)
    index.save(tmp_path)
    monkeypatch.setattr(table, "ROWS", 3)
    larger = holding(index, list(index.files), index.frames() + 1, index.lengths)
    really = Table._search

    def search(self, *given):
        batches = really(self, *given).to_batches(3)
        return mock.Mock(to_batches=lambda _: breaking(batches, error))

    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, OSError)):
        patch.setattr(Table, "_search", search)
        larger.save(tmp_path)
    same(MediaIndex.load(tmp_path, model), index)
    larger.save(tmp_path)
    same(MediaIndex.load(tmp_path, model), larger)


def breaking(batches, error):
    yield next(batches)
    raise error


def test_a_method_that_looks_across_frames_sees_whole_clips(tmp_path, across, monkeypatch):
    method = across.get_adapter("across")
    monkeypatch.setattr(type(method), "kinds", ("image", "video"))  # which says nothing about it
    clips = data.load(write_videos(tmp_path / "clips", {"test": 3}), "test")
    config = TrainConfig(max_frames=4, fps=None)
    index = MediaIndex.build(across, clips, config)
    wanted = evaluation.encode(across, clips, config)
    for item in range(3):
        torch.testing.assert_close(
            index.frames(item), wanted.frames[item][wanted.mask[item].bool()]
        )


# ---- files that come, go, change, or cannot be read


def test_unreadable_files_are_skipped_listed_and_counted(model, media, tmp_path, capsys):
    folder = shutil.copytree(media, tmp_path / "media")
    for name, content in {"empty.jpg": "", "empty.mp4": "", "words.png": "no picture"}.items():
        (folder / name).write_text(content)
    for path in (folder / "pictures/p1.png", folder / "clip 0.mp4"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    index = MediaIndex.build(model, folder)
    skipped = {"empty.jpg", "empty.mp4", "words.png", "pictures/p1.png", "clip 0.mp4"}
    assert set(names(index.skipped)) == skipped
    assert dict(index.skipped)["empty.mp4"].startswith("empty file")
    printed = capsys.readouterr().out
    assert (
        "indexed 8 / 13 files, 8 of them embedded now" in printed
        and "skipped words.png: " in printed
    )
    assert skipped.isdisjoint(names(index.query("a dog", k=100)))


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [("mp4", "libx264", {}), ("mp4", "libx264", {"movflags": "empty_moov"}), ("avi", "mpeg4", {})],
)
def test_a_clip_of_no_length_is_skipped_in_one_line(model, tmp_path, suffix, codec, options):
    write_picture(tmp_path / "p.png", 1)
    with av.open(str(tmp_path / f"none.{suffix}"), "w", options=options) as out:
        stream = out.add_stream(codec, rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        out.start_encoding()
    index = MediaIndex.build(model, tmp_path)
    ((name, reason),) = index.skipped
    assert name == f"none.{suffix}" and "cannot be decoded" in reason and "\n" not in reason
    assert names(index.query("a dog")) == ["p.png"]


def test_a_source_without_media_is_an_error(model, tmp_path):
    (tmp_path / "notes.txt").write_text("a list")
    for source, said in (
        ("", "no pictures or clips in it; expected .jpg"),
        ("nowhere", "no such folder"),
        ("notes.txt", "notes.txt: a file"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            MediaIndex.build(model, tmp_path / source)
    with pytest.raises(
        FileNotFoundError, match="an empty path is none; expected a dataset, or a folder"
    ):
        MediaIndex.build(model, "")  # not the current folder
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ValueError, match="none of its 1 files can be read"):
        MediaIndex.build(model, tmp_path)


@pytest.mark.parametrize(
    ("asked", "wrong", "error", "said"),
    [
        ("query", ["  "], ValueError, "the query is blank"),
        (
            "query",
            [None, 3, ["a dog"], Path("a.mp4")],
            TypeError,
            "^a query is a sentence, not .*query_media`",
        ),
        (
            "query_media",
            [None, 3, b"p.png", ""],
            TypeError,
            "^expected the path of a picture or clip, not ",
        ),
        ("query_media", ["notes.txt"], MediaError, "notes.txt: neither picture nor clip"),
        ("query_media", ["gone.mp4"], MediaError, "gone.mp4: no such file"),
        (
            "query_media",
            ["gone"],
            MediaError,
            "gone: neither picture nor clip, and not there; expected",
        ),
    ],
)
def test_questions_that_cannot_be_answered_say_why(toy_index, asked, wrong, error, said):
    for query in wrong:
        with pytest.raises(error, match=said):
            getattr(toy_index, asked)(query)


@pytest.mark.parametrize(
    ("wrong", "error", "said"),
    [({"k": k}, ValueError, f"^k={k!r}: expected at least 1$") for k in (0, -1, "5", 2.5, None)]
    + [
        ({"where": where}, TypeError, r"^where=.*: expected, say, explorer.index.Where\(kind=")
        for where in ("image", {"kind": "image"}, None)
    ],
)
def test_k_is_a_number_and_a_filter_a_where(toy_index, wrong, error, said):
    path = toy_index.path(toy_index.files[0])
    for ask, query in ((toy_index.query, "a dog"), (toy_index.query_media, path)):
        with pytest.raises(error, match=said):
            ask(query, **wrong)


def test_copies_agree_in_their_hash_and_in_their_embedding(model, tmp_path):
    files = [
        MediaFile(f"{i}.png", f"{i}.png", "image", copy_hash=7 if i != 3 else 2**64 - 1)
        for i in range(5)
    ]
    vectors = torch.eye(8)[[0, 0, 1, 0, 0]]  # 2 has another colour, 3 another shape
    write_picture(tmp_path / "any.png", 1)
    index = holding(MediaIndex.build(model, tmp_path), files, vectors)
    assert index.copies([4, 2, 3, 0, 1]) == {4: [4, 0, 1], 2: [2], 3: [3]}
    assert list(index.copies([4, 2, 3, 0, 1])) == [4, 2, 3]
    assert index.copies([4, 2, 3, 0, 1], apart=[0]) == {4: [4, 1], 2: [2], 3: [3], 0: [0]}
    assert index.copies([]) == {}
