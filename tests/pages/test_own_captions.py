"""docs/own-captions.md, followed as a user does: a folder, two scripts, two processes."""

import json
import os
import re
import subprocess
import sys

import pytest

from cma.checkpoints import read_config
from tests import ROOT
from tests.toy_media import write_picture

PAGE = (ROOT / "docs" / "own-captions.md").read_text("utf-8")


def run(script, folder):
    # as an installed package: the folder of the script is the working directory
    found = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, script], cwd=folder, env=os.environ | found, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_has_two_scripts_of_at_most_twenty_lines():
    scripts = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    lines = [line for script in scripts for line in script.splitlines() if line]
    assert len(scripts) == 2 and len(lines) <= 20


@pytest.mark.processes
def test_from_a_csv_to_a_search_in_a_new_process(tmp_path):
    train, search = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    rows = ["file_name,caption"]
    for number in range(12):
        write_picture(tmp_path / "pictures" / f"{number}.png", number)
        rows.append(f"pictures/{number}.png,a picture with number {number}")
    (tmp_path / "captions.csv").write_text("\n".join(rows), "utf-8")
    (tmp_path / "train.py").write_text(train, "utf-8")
    (tmp_path / "search.py").write_text(search, "utf-8")

    said = run("train.py", tmp_path)
    assert "captions train: 10 items found" in said and "test text-to-image R@1 in %:" in said
    again = run("train.py", tmp_path)
    assert "captions-float32: this run was finished on" in again
    card = (tmp_path / "runs" / "mine" / "README.md").read_text("utf-8")
    assert "Not measured.\n" not in card.partition("## Training")[0]
    assert read_config(tmp_path / "runs" / "mine").reading.max_words == 32
    record = json.loads((tmp_path / "runs" / "captions-float32" / "run.json").read_text("utf-8"))
    assert (record["name"], record["dataset"]) == ("captions-float32", "captions")

    found = run("search.py", tmp_path).splitlines()
    assert len(found) == 5 and all(re.fullmatch(r"-?\d\.\d{3} \d+\.png", line) for line in found)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"pictures", "captions.csv", "train.py", "search.py", "runs"}
