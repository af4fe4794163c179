"""Relevance in grades, read from the records of composed scenes."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

import cma
from data_prep.mini.caption_styles import Caption
from data_prep.mini.scenes import ACROSS, Group, Scene
from data_prep.mini.world import RECORDS
from experiments import graded


def test_the_relevance_of_each_picture_for_each_caption_is_read_from_the_records(tmp_path):
    scenes = {
        "a": Scene("grass", ACROSS, (Group("fox", "flat"), Group("ball", "flat", 2))),
        "b": Scene("grass", ACROSS, (Group("fox", "flat"),)),
    }
    said = {
        "a": Caption("two balls on the grass", (("ball", 2),), frozenset(["grass"])),
        "b": Caption("a fox", (("fox", None),)),
    }
    (tmp_path / "media").mkdir()
    lines = [
        {"id": id, "split": "test", "scene": asdict(scene), "captions": [asdict(said[id])]}
        for id, scene in reversed(scenes.items())  # in another order than the dataset
    ]
    text = "".join(json.dumps(line, default=sorted) + "\n" for line in lines)
    (tmp_path / "media" / RECORDS).write_text(text)
    (tmp_path / "dataset.json").write_text(json.dumps({"format_version": 1, "kind": "image"}))
    rows = [
        {"file_name": f"media/{id}.jpg", "id": id, "captions": [said[id].text], "split": "test"}
        for id in scenes
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = cma.load_dataset(tmp_path, "test")
    # b shows no ball; both show a fox
    torch.testing.assert_close(graded.relevance(dataset), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 25))
def test_ndcg_is_that_of_scikit_learn(seed, queries, candidates):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(queries * candidates).reshape(queries, candidates).astype(float)
    relevance = rng.integers(0, 4, (queries, candidates)).astype(float)
    relevance[:, 0] = 1
    found = graded.ndcg(torch.tensor(scores), torch.tensor(relevance))
    # scikit-learn wants two candidates: one more, of no relevance and last
    last = [np.pad(one, ((0, 0), (0, 1)), constant_values=-1) for one in (scores, relevance)]
    last[1] = np.maximum(last[1], 0)
    assert float(found.mean()) == pytest.approx(ndcg_score(last[1], last[0], k=10))


def test_ties_count_against_the_model():
    similarity = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = graded.ndcg(similarity, torch.tensor([[1, 0, 0], [0, 0, 2]]))
    assert found.tolist() == pytest.approx([1 / np.log2(3), 1])


@pytest.mark.parametrize(
    ("relevance", "message"),
    [
        ([[1.0, 0.0], [0.0, 0.0]], r"queries \[1\] \(1\) have no relevant"),
        ([[1.0, -1.0], [0.0, 1.0]], "not negative"),
        ([[1.0], [1.0]], r"\[2, 2\] and \[2, 1\]"),
    ],
)
def test_bad_relevance_is_named(relevance, message):
    with pytest.raises(ValueError, match=message):
        graded.ndcg(torch.eye(2), torch.tensor(relevance))
