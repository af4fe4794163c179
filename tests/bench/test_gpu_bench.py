"""The bench for a GPU, here on the CPU at toy size; and what it says without a GPU or after a
failure.
"""

import json

import pytest
import torch

from tests.bench import gpu
from tests.bench.__main__ import main
from tests.toy_data import write_images


@pytest.mark.night
def test_every_check_gives_figures_and_the_table_has_them_all(monkeypatch, capsys, tmp_path):
    monkeypatch.delitem(gpu.CHECKS, "fp16 ÷ authors")  # minutes here; tests/training does the same
    monkeypatch.setattr(gpu, "REAL", "mini")
    monkeypatch.setattr(gpu, "PICTURES", write_images(tmp_path / "toy", {"val": 6}))
    assert gpu.main(["--device", "cpu", "--toy"]) == 0
    printed = capsys.readouterr().out
    results, end = json.JSONDecoder().raw_decode(printed[printed.index('{\n "machine"') :])
    assert results.keys() >= gpu.CHECKS.keys() and results["machine"] == "cpu"
    assert {*results["mean norm"]} == {"text", "frames"}
    monkeypatch.setattr(gpu, "PICTURES", tmp_path / "none")
    said = gpu.real_norms(torch.device("cpu"), gpu.TOY)["of a real CLIP"]
    assert said.startswith("not measured: ") and str(tmp_path / "none") in said
    assert results["killed and resumed, off"]["losses"] <= 1e-3
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + sum(len(results[name]) for name in gpu.CHECKS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_the_command_says_so_and_ends_well(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "gpu"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == "no GPU is visible to torch: nothing was measured\n"
