"""What is frozen before the first row, and what was measured on the backbone before."""

import json

import pytest

from cma.backbone import identity, known_by, load_backbone
from data_prep.mini.build import READERS
from experiments import published, report, world
from experiments.__main__ import main
from experiments.rows import read_rows
from experiments.world import PROTOCOL
from tests.experiments.test_curves import state
from tests.experiments.test_gains import ROWS
from tests.experiments.test_report import record


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / PROTOCOL).write_text('{"about": "kept", "frozen": {"states": {"old": "ab"}}}')
    for name in READERS:
        source = tmp_path / "data" / "sources" / name
        source.mkdir(parents=True)
        own = {} if name == "mini-msrvtt-whole" else {"pixels": name}  # it has the clips of another
        (source / "origin.json").write_text(json.dumps(own))
    return folder


def freeze(results, *words) -> int:
    places = ["--results", results, "--data", results.parent / "data"]
    return main(list(map(str, ["freeze", *places, *words])))


def test_digests_are_those_of_the_files(results, tmp_path, capsys):
    assert freeze(results) == 0
    content = world.kept_in(results)
    frozen = content["frozen"]
    assert content["about"] == "kept" and frozen["states"] == {"old": "ab"}
    assert frozen["pixels"] == {name: name for name in READERS if name != "mini-msrvtt-whole"}
    assert world.revision(frozen["backbone"]) == known_by(identity(load_backbone("mini")[0]))
    made = state(tmp_path / "mini-700", b"weights")
    assert freeze(results, "--states", made) == 0
    states = world.kept_in(results)["frozen"]["states"]
    assert states == {"700": world.digest_of(made / "model.safetensors")}
    (tmp_path / "data" / "sources" / "mini-msrvtt" / "origin.json").unlink()
    assert freeze(results) == 1 and "mini-msrvtt/origin.json" in capsys.readouterr().err


def test_what_was_measured_on_the_backbone_before_moves_and_no_table_has_it(results, capsys):
    for row in ROWS:
        row.save(results / "methods")
        row.save(results / "curves" / "data-1-4")
    (results / "forgetting.json").write_text('{"rows": {}}')
    (results / "costs.json").write_text('{"methods": {}}')
    (results / "one.json").write_text(record("one").to_json())
    before = (results / PROTOCOL).read_text()
    page = results / "README.md"
    names = [*report.pages_of(results)]
    lines = [line for name in names for line in report.markers(name)]
    page.write_text("\n".join(lines))
    assert freeze(results, "--retire") == 0
    first = results / world.FIRST
    assert len(read_rows(first / "methods")) == len(ROWS)
    left = {file.name for file in results.iterdir()}
    assert left == {"README.md", "costs.json", PROTOCOL, world.FIRST}
    assert (first / PROTOCOL).read_text() == before and (first / "one.json").exists()
    assert (first / "README.md").read_text().count(". ") == 1  # two sentences
    assert world.kept_in(results)["frozen"]["states"] == {}
    assert main(["report", str(results), "--readme", str(page)]) == 0
    assert page.read_text().count(published.NONE) == len(names)
    assert capsys.readouterr().out.endswith(f"{published.NONE}\n")
    ROWS[0].save(results / "methods")
    assert freeze(results, "--retire") == 1
    assert "methods: it is there; move" in capsys.readouterr().err
    assert read_rows(results / "methods") == ROWS[:1]
