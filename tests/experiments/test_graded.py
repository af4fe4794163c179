"""Relevance in grades, read from the records of composed scenes."""

import json
from dataclasses import asdict

import torch

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
