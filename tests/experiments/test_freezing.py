"""What is frozen before the first row, and where the records of another backbone go."""

import json

from cma.backbone import identity, known_by, load_backbone
from data_prep.mini.build import READERS
from experiments import world
from experiments.__main__ import main
from experiments.rows import MethodRow
from experiments.study import PROTOCOL
from tests.experiments.test_curves import state
from tests.experiments.test_report import record


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


def test_records_of_another_backbone_move_and_those_of_this_one_stay(tmp_path):
    old, new = "ab" * 32, "cd" * 32
    (tmp_path / PROTOCOL).write_text(json.dumps({"frozen": {"backbone": new}}))

    def run(backbone: str) -> dict:
        made = record(backbone={"name": "mini", "revision": world.revision(backbone)})
        return json.loads(made.to_json())

    for folder in ("methods", "curves/state-700", "ablations"):
        MethodRow("toy", "LoRA", {}, records={"42": run(old)}).save(tmp_path / folder)
    MethodRow("toy", "CoOp", {}, records={"42": run(new)}).save(tmp_path / "methods")
    begun = MethodRow("toy", "VPT", {}, backbone=world.revision(old))
    begun.save(tmp_path / "methods")
    (tmp_path / "mini-zero-shot.json").write_text(json.dumps(run(old)))
    (tmp_path / "forgetting.json").write_text('{"rows": {"toy-lora": {}}}')
    (tmp_path / "parts.json").write_text('{"rows": {"toy-coop": {}}, "parts": {}}')
    (tmp_path / "costs.json").write_text('{"methods": {}}')
    for _ in range(2):  # what has moved is left where it is
        assert main(["retire", "--results", str(tmp_path)]) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.json")}
    assert found == {
        *("protocol.json", "costs.json", "parts.json", "methods/toy-coop.json"),
        *(f"first-world/{name}" for name in ("forgetting.json", "mini-zero-shot.json")),
        *(f"first-world/methods/toy-{name}.json" for name in ("lora", "vpt")),
        *(f"first-world/{name}/toy-lora.json" for name in ("curves/state-700", "ablations")),
    }
    assert not (tmp_path / "curves").exists()
