"""One index, whatever holds its items: every verb, filters before the cut, counted work, hostile
files.
"""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import cma
from cma import methods
from cma.config import ReadConfig
from explorer.index import MediaIndex, Where, segment, store
from explorer.index.segment import Segment
from tests.conftest import one_line
from tests.explorer.index.conftest import drawn
from tests.explorer.index.test_index import holding, vectors
from tests.toy_media import dated, halves, write_clip, write_picture


@pytest.fixture
def media(tmp_path):
    """Pictures, of which one is a copy, clips, and folders whose names SQL or JSON must quote."""
    for i, name in enumerate(("a/x", "a/b/y", "ab/z", "it's 100%/w", 'q"uote/v', "ne\u0301")):
        write_picture(tmp_path / "media" / f"{name}.png", 7 * i + 1)
    halves(12, (400, 300)).save(tmp_path / "media" / "c0.png")
    halves(12, (400, 300)).resize((200, 150)).save(tmp_path / "media" / "c1.png")
    for i in range(3):
        write_clip(tmp_path / "media" / "a" / f"clip {i}.mp4", i, frames=2 + 3 * i)
    for path in (tmp_path / "media").rglob("*.*"):
        os.utime(path, (929_000_000, 929_000_000))  # in 1999
    dated(tmp_path / "media" / "ne\u0301.png", "2014:07:01 12:30:00")
    return tmp_path / "media"


@pytest.fixture(params=["text_conditioned"])
def both(model, media, tmp_path, request):
    """An index in segments, with captions, and in a table."""
    index = MediaIndex.build(model, media, ReadConfig(request.param))
    files = [replace(file, captions=("A  dog",) * (i % 3)) for i, file in enumerate(index.files)]
    index = holding(index, files, vectors(index), index.lengths)
    return index, index.to_lance(tmp_path / "table")


@pytest.mark.parametrize("both", ["mean_pooled", "text_conditioned"], indirect=True)
def test_every_verb_answers_alike_on_both(both, model, tmp_path):
    index, table = both
    (tmp_path / "elsewhere").mkdir()
    table.save(tmp_path / "elsewhere")
    verbs = {
        "files": lambda one: [list(one.files), one.files[2:4], one.files[-1]],
        "lists": lambda one: [one.captions, one.skipped, repr(one), len(one), one.media_root],
        "columns": lambda one: [one.column(n).tolist() for n in (*segment.COLUMNS,)],
        "lengths": lambda one: [one.lengths.tolist(), one.text_to_item.tolist()],
        "right": lambda one: [one.right("a DOG"), one.right("a dog", [5, 4, 3]), one.right("cat")],
        "query": lambda one: one.query("a dog", np.int64(20)),
        "media": lambda one: one.query_media(index.path(index.files[3]), 20),
        "both": lambda one: one.query("a dog", 20, like=index.files[1], without=["a cat", "red"]),
        "copies": lambda one: one.copies(one.ranking("a dog")[0].tolist()),
        "moments": lambda one: one.moments(one.ranking_media(index.files[8])[0].tolist()),
        "weights": lambda one: one.frame_weights("a dog", 1).tolist(),
        "scores": lambda one: one.scores(["a dog", "red"]).tolist(),
    }
    for other in (table, MediaIndex.load(tmp_path / "elsewhere", model)):
        for name, verb in verbs.items():
            assert verb(other) == verb(index), name
    assert len(index.copies(range(len(index)))) == len(index) - 1


def test_other_kinds_folders_years_and_names_are_left_out_before_the_cut(
    both, tmp_path, monkeypatch
):
    index = both[0]
    everything = index.query("a dog", 20)
    kinds = {file.file_name: file.kind for file in index.files}
    folders = ("", "a", "a/b", "a/", "ab", "it's 100%", 'q"uote', "none", "a_")
    for where in (Where(kind, folder) for kind in (None, "image", "video") for folder in folders):
        below = f"{where.folder.rstrip('/')}/" if where.folder else ""
        wanted = [
            (name, score)
            for name, score in everything
            if name.startswith(below) and where.kind in (None, kinds[name])
        ]
        for one in both:
            found = one.query("a dog", 20, where=where)
            assert [name for name, _ in found] == [name for name, _ in wanted]
            assert dict(found) == pytest.approx(dict(wanted), abs=1e-5)
    assert {file.date[:5] for file in index.files} == {"2014-", "1999-"}
    chosen = {
        Where(year=2014): {"ne\u0301.png"},
        Where(name="N\u00c9"): {"ne\u0301.png"},  # as it is typed, not as a Mac writes it
        Where(year=1999, folder="./a//", name="PNG"): {"a/x.png", "a/b/y.png"},
        Where(name="A mp4 1"): {"a/clip 1.mp4"},
        Where("video", name="png"): set(),
        Where(name='Q"UOTE png'): {'q"uote/v.png'},
        Where(name="it's 100%"): {"it's 100%/w.png"},
        Where(name="image"): set(),  # only the name is searched, not what is beside it
        Where(year=19): set(),
    }
    for where, wanted in chosen.items():
        for one in both:
            assert {name for name, _ in one.query("a dog", 20, where=where)} == wanted
    with pytest.raises(ValueError, match="kind='pictures': expected"):
        Where("pictures")
    # the three that are wanted are the farthest of 900
    files, embeddings = drawn(900)
    asked = index._text("a dog")[0]
    far = (normalize(embeddings, dim=1) @ normalize(asked, dim=0)).argsort()[:3].tolist()
    for number in far:
        files[number] = replace(files[number], file_name=f"far/{number}.png", date="2001-02-03")
    monkeypatch.setattr(store, "LARGE", 500)
    monkeypatch.setattr("explorer.index.index.DEPTH", 10)
    large = holding(index, files, embeddings)
    for one in (large, large.to_lance(tmp_path / "large")):
        assert len(one.ranking("a dog")[0]) == 10
        for where in (Where("image", "far"), Where(year=2001), Where(name="FAR")):
            names = [name for name, _ in one.query("a dog", 9, where=where)]
            assert names == [files[number].file_name for number in reversed(far)]


def test_answers_of_a_sentence_and_of_a_picture_with_it_are_those_of_the_naive_loop(both):
    index = both[0]
    model = index.model
    with torch.no_grad():
        unit = {text: normalize(model.encode_text([text])[0], dim=0) for text in ("a dog", "red")}
        length = model.encode_text(["a dog"])[0].norm()
    picture = next(i for i, file in enumerate(index.files) if file.kind == "image")
    both = unit["a dog"] + normalize(index.frames(picture)[0], dim=0) - 0.5 * unit["red"]
    asked = ((both, {"like": index.files[picture], "without": "red"}), (unit["a dog"], {}))
    for query, more in asked:
        items, scores = index.ranking("a dog", **more)
        assert sorted(items.tolist()) == list(range(11))
        assert scores.tolist() == sorted(scores.tolist(), reverse=True)
        text = length * normalize(query, dim=0)[None]
        for item, score in zip(items.tolist(), scores.tolist(), strict=True):
            wanted = cma.similarity.text_conditioned(text, index.frames(item)[None]).item()
            assert score == pytest.approx(wanted, abs=1e-5)
        best = [
            (index.files[item].file_name, scores[place].item()) for place, item in enumerate(items)
        ]
        assert [index.query("a dog", k, **more) for k in (4, 99)] == [best[:4], best]
    alone = index.ranking("", like=index.files[picture])
    torch.testing.assert_close(alone, index.ranking_media(index.files[picture]))
    for wrong in ({"without": "red"}, {"like": index.files[0], "without": [" "]}, {}):
        with pytest.raises(ValueError, match="type a few words"):
            index.query("", **wrong)


# ---- counted work


@pytest.mark.parametrize("name", [None, "a", "full fine-tuning"])
def test_a_query_hangs_no_hook_anew_and_folds_no_caption(model, media, monkeypatch, name):
    if name == "full fine-tuning":
        methods.attach(model, name, name)
    model.set_adapter(name, 0.5 if name == "full fine-tuning" else 1.0)
    index = MediaIndex.build(model, media)
    calls = []
    really = cma.patching.deactivate  # every change begins with it
    monkeypatch.setattr(cma.patching, "deactivate", lambda clip: calls.append(clip) or really(clip))
    for _ in range(3):
        index.query("a dog")
        index.query_media(index.files[0])
    assert calls == []
    before = index.query("a dog")
    model.set_adapter(None)
    assert index.query("a dog") == before and model.active is None
    assert len(calls) <= (3 if name else 0)  # it is hung once, and taken off
    index.right("a dog")
    monkeypatch.setattr(MediaIndex, "captions", None)
    assert index.right("a dog") == []


def test_a_change_that_torch_does_not_count_is_noticed(model, media):
    model.set_adapter("a")
    index = MediaIndex.build(model, media)
    next(model.get_adapter("a").parameters()).data.mul_(3)
    with pytest.raises(ValueError, match="the weights of adapter 'a' changed since; build"):
        index.query("a dog")


def test_an_adapter_without_a_config_is_said_and_a_wrong_config_is_one_line(model, media, capsys):
    model.set_adapter("a")
    MediaIndex.build(model, media)
    assert "adapter 'a': give the `config` that it was trained with" in capsys.readouterr().out
    with pytest.raises(TypeError, match=r"^config: expected a explorer.index.IndexConfig, not 5$"):
        MediaIndex.build(model, media, config=5)


def test_what_could_not_be_read_is_listed_in_a_table_too(model, media, tmp_path):
    (media / "n.png").write_text("no picture")
    for shard in ((0, 2), (1, 2)):
        built = MediaIndex.build(model, media, store=tmp_path / "table", shard=shard)
    for index in (built, MediaIndex.load(tmp_path / "table", model)):
        ((name, why),) = index.skipped
        assert name == "n.png" and "cannot be read as a picture" in why
    write_picture(media / "n.png", 5)
    assert MediaIndex.build(model, media, store=tmp_path / "table").skipped == ()


# ---- hostile files


@pytest.mark.parametrize(
    "change",
    [
        {"runs": [[0, 3_000_000_000]]},
        {"runs": [[-5, 3]]},
        {"runs": [[3, 3]]},
        {"runs": []},
        {"runs": [[0, 11], [0, 11]]},
        {"runs": [[2**70, 2**70 + 1]]},
        {"segments": ["../x"]},
        {"segments": []},
        {"scale": None},
    ],
)
def test_sizes_and_names_are_checked_before_memory_is_taken(model, media, tmp_path, change):
    index = MediaIndex.build(model, media, folder=tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    text = json.loads(json.loads(path.read_text())[1])
    if "scale" in change:
        text["header"]["built_with"] |= change
    text |= {key: value for key, value in change.items() if key in text}
    text = json.dumps(text)
    path.write_text(json.dumps([segment.digest_of([], text), text]))
    with one_line(ValueError, r"index\.json: .*; build the index again$") as raised:
        MediaIndex.load(tmp_path / "index", model)
    assert len(str(raised.value)) < 400
    assert len(index) == 11


@pytest.mark.parametrize(
    "change",
    [
        {"lengths": torch.full((3,), 2**31 - 1, dtype=torch.int32)},
        {"lengths": torch.tensor([3, -1, 1], dtype=torch.int32)},
        {"lengths": torch.ones(2, dtype=torch.int32)},
        {"ends": torch.tensor([2**63 - 1, -(2**63), 9])},
        {"vectors": torch.zeros(3)},
        {"vectors": torch.zeros(4, 32)},
        {"scales": torch.zeros(3, dtype=torch.float64)},
        {"files": torch.zeros(3)},
    ],
)
def test_tensors_that_do_not_fit_each_other_are_refused(tmp_path, change):
    files, embeddings = drawn(3)
    part = Segment.of(files, embeddings, torch.ones(3))
    part._tensors |= change
    with pytest.raises(ValueError, match=r"segment-.*(do not|are not).*again$"):
        written = part.write(tmp_path, "")
        written.check()
