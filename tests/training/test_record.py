"""A record is the same text again after reading, and one that is not as expected is named."""

import dataclasses
import json
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings

from cma.training import RunRecord
from cma.training.record import commit
from tests import ROOT
from tests.any_json import any_json

RESULTS = [
    path
    for path in sorted((ROOT / "results").glob("*.json"))
    if '"metrics"' in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_record_is_the_same_text_after_reading(path, tmp_path):
    record = RunRecord.load(path)
    assert record.to_json() == path.read_text("utf-8")
    record.save(tmp_path / "run")
    again = RunRecord.load(tmp_path / "run")
    assert again == record and again.folder == tmp_path / "run"


@given(any_json(*(field.name for field in dataclasses.fields(RunRecord))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_record_that_is_not_as_expected_is_named(tmp_path, found):
    whole, path = json.loads(RESULTS[0].read_text("utf-8")), tmp_path / "run.json"
    for content in (found, {**whole, **(found if isinstance(found, dict) else {"seed": found})}):
        path.write_text(json.dumps(content))
        try:
            RunRecord.load(tmp_path).to_json()
        except ValueError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        else:
            assert isinstance(content, dict) and whole.keys() <= content.keys()


def test_the_commit_is_that_of_this_source_tree():
    if not (ROOT / ".git").exists():
        assert commit() is None
    else:
        run = subprocess.run(
            ["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True
        )
        assert commit() and run.stdout.startswith(commit().removesuffix("+"))
