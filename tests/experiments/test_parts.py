"""The command that shares out a gain by caption style and number of things, on made-up rows."""

import json
from dataclasses import replace

import numpy as np

from data_prep.mini.caption_styles import CAPTION_STYLES
from experiments import gains, parts, tables
from experiments.__main__ import main
from experiments.published import FULL, PAPER, ZERO_SHOT
from experiments.rows import MethodRow
from tests.experiments.toy_rows import record
from tests.toy_data import write_images

ITEMS = 60
NUMBERS = [1, 2, 3, 4, 6] * (ITEMS // 5)


def row(method: str, finds) -> MethodRow:
    """A method that finds the texts [V, 5] that `finds` says."""
    found = np.broadcast_to(finds, (ITEMS, 5))
    ranks = {"text_to_visual": np.where(found, 1, 9).ravel().tolist()}
    ranks["visual_to_text"] = [1] * ITEMS
    run = json.loads(record(finished="now").to_json())
    owner = np.repeat(range(ITEMS), 5).tolist()
    return MethodRow("toy", method, {}, records={"1": run}, ranks={"1": ranks}, text_to_item=owner)


def three() -> dict[str, MethodRow]:
    """Zero-shot finds nothing, full all; ours the texts of one style and single things."""
    ours = (np.arange(5) == 0) | (np.array(NUMBERS) == 1)[:, None]
    return {ZERO_SHOT: row(ZERO_SHOT, False), FULL: row(FULL, True), PAPER: row(PAPER, ours)}


def test_the_command_reads_what_the_pictures_show(tmp_path, capsys):
    folder = write_images(tmp_path / "data" / "toy", {"test": ITEMS}, captions=5)
    groups = [{"split": "test", "scene": {"groups": [{"count": n}]}} for n in NUMBERS]
    train = {"split": "train", "scene": {"groups": [{"count": 2}]}}
    lines = "".join(json.dumps(one) + "\n" for one in [train, *groups])
    (folder / "media" / "records.jsonl").write_text(lines)
    words = ["parts", str(folder), "--results", str(tmp_path)]
    assert main(words) == 1
    assert "toy: no finished row of cross-modal adapter, full fine-tuning, zero-shot" in (
        capsys.readouterr().err
    )
    for one in three().values():
        replace(one, lost={"2": "loss NaN"}).save(tmp_path / "methods")
        assert main(words) == 1
        one.save(tmp_path / "methods")
    replace(row("LoRA", True), world="ab").save(tmp_path / "methods")
    assert main(words) == 1  # LoRA saw other pictures
    row("LoRA", True).save(tmp_path / "methods")
    assert main(words) == 0
    content = json.loads((tmp_path / parts.FILE).read_text())
    assert content["rows"]["toy-zero-shot"] == {"1": "now"}
    found = parts.measured(three(), PAPER, NUMBERS, list(CAPTION_STYLES))
    assert content["parts"]["toy"][PAPER] == json.loads(json.dumps(found))
    assert content["parts"]["toy"]["LoRA"]["2 things"]["points"] == [0, 0, 0]
    table = tables.shared_out(gains.Findings(tmp_path, {})).splitlines()
    share = "100 % [100, 100] of the gain, +0.0 [+0.0, +0.0] points"
    assert table[2] == f"| toy | style list | {share} | {share} |"
    (folder / "media" / "origin.json").write_text('{"pixels": "ab"}')
    capsys.readouterr()
    assert main(words) == 1
    assert f"{folder}: its pictures are not those of {tmp_path}" in capsys.readouterr().err
