"""What is frozen before the first row."""

import json

from cma.backbone import identity, known_by, load_backbone
from data_prep.mini.build import READERS
from experiments import world
from experiments.__main__ import main
from experiments.study import PROTOCOL
from tests.experiments.test_curves import state


def test_digests_are_those_of_the_files(tmp_path, capsys):
    results, data = tmp_path / "results", tmp_path / "data"
    results.mkdir()
    (results / PROTOCOL).write_text('{"about": "kept", "frozen": {"states": {"old": "ab"}}}')
    for name in READERS:
        (data / "sources" / name).mkdir(parents=True)
        (data / "sources" / name / "origin.json").write_text(json.dumps({"pixels": name}))
    (data / "sources" / "mini-msrvtt-whole" / "origin.json").write_text(
        "{}"
    )  # no pixels of its own
    words = ["freeze", "--results", str(results), "--data", str(data)]
    assert main(words) == 0
    content = json.loads((results / PROTOCOL).read_text())
    frozen = content["frozen"]
    assert content["about"] == "kept" and frozen["states"] == {"old": "ab"}
    assert frozen["pixels"] == {name: name for name in READERS if name != "mini-msrvtt-whole"}
    assert world.revision(frozen["backbone"]) == known_by(identity(load_backbone("mini")[0]))
    made = state(tmp_path / "mini-700", b"weights")
    assert main([*words, "--states", str(made)]) == 0
    states = json.loads((results / PROTOCOL).read_text())["frozen"]["states"]
    assert states == {"700": world.digest_of(made / "model.safetensors")}
    (data / "sources" / "mini-msrvtt" / "origin.json").unlink()
    assert main(words) == 1 and "mini-msrvtt/origin.json" in capsys.readouterr().err
