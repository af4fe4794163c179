"""The whole way of a rehearsal, in small."""

import json

import pytest

from tests.rehearsal.__main__ import KILLED, STAGES, main


@pytest.mark.night
def test_the_whole_way_of_msrvtt_in_small(tmp_path, capsys):
    """Through the kill and the resumption, with the bundled CLIP."""
    words = "--like msrvtt --items 20 --backbone mini --recipe float32 "
    words += "--frames 2 --batch-size 2 --workers 1"
    main([*words.split(), "--out", str(tmp_path / "out")])
    stages = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))["stages"]
    assert list(stages) == list(STAGES)
    assert stages[KILLED]["message"] == "ended by SIGKILL" and len(stages["resume"]["history"]) == 2
    assert stages["prepare"]["counts"]["test"]["media"] == {"found": 2, "expected": 2}
    assert stages["explore"]["best"][0][0].endswith(".mp4")
    assert "went on after epoch 1 of 2" in capsys.readouterr().out
