"""The committed notebooks as a reader meets them, and the command that runs them."""

import ast
import importlib.util
import re
import statistics
from pathlib import Path

import nbformat
import papermill
import pytest
from toy_data import write_images

HERE = Path(__file__).resolve().parent.parent / "notebooks"
NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("run_notebooks", HERE / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_all_are_here():
    found = [path.stem for path in NOTEBOOKS]
    assert found == [
        "01_data_prep",
        "02_adapter_anatomy",
        "03_train_flickr30k",
        "04_train_msrvtt",
        "05_retrieval_explorer",
        "07_your_own_media",
        "a1_pretrain_mini_clip",
    ]
    assert set(run.TINY) == set(found)


def test_executed_in_order_from_a_fresh_kernel_without_errors(notebook):
    assert [cell.execution_count for cell in code_of(notebook)] == list(range(1, len(code_of(notebook)) + 1))
    outputs = [output for cell in code_of(notebook) for output in cell.outputs]
    assert outputs and not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata


def test_small_enough_to_review(notebook, request):
    path = HERE / f"{request.node.callspec.id}.ipynb"
    assert path.stat().st_size < 1_000_000
    assert len(notebook.cells) <= 40
    lines = [len([line for line in cell.source.splitlines() if line.strip()]) for cell in code_of(notebook)]
    assert max(lines) <= 25 and statistics.median(lines) <= 8


def test_head_and_tail(notebook):
    assert notebook.cells[0].source.startswith("# ") and "?" in notebook.cells[0].source
    tail = "\n".join(cell.source for cell in notebook.cells[-5:])
    assert "## What we saw" in tail and "## Try it" in tail


def test_parameters_are_literals_and_few(notebook):
    cells = [cell for cell in code_of(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    names = re.findall(r"^(\w+) = ", cells[0].source, flags=re.MULTILINE)
    assert len([name for name in names if name != "overrides"]) <= 8


def test_nothing_of_the_machine_that_ran_it(notebook):
    text = nbformat.writes(notebook)
    assert not re.search(r"/(home|root|Users|tmp|work)/", text)
    assert "pip install" not in "\n".join(cell.source for cell in code_of(notebook))


def test_tiny_parameters_exist():
    for path in NOTEBOOKS:
        assert set(run.TINY[path.stem]) <= set(papermill.inspect_notebook(str(path)))


def test_an_unknown_parameter_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="02_adapter_anatomy.ipynb: no parameter 'sed'; it has: .*seed"):
        run.run(HERE / "02_adapter_anatomy.ipynb", tmp_path / "out.ipynb", {"sed": 1}, 60, True)
    assert not list(tmp_path.iterdir())


def test_an_unknown_notebook_is_an_error():
    with pytest.raises(ValueError, match="no notebook '99'; there are: 01_data_prep"):
        run.chosen(["99"])
    assert [path.stem for path in run.chosen(["03", "01"])] == ["01_data_prep", "03_train_flickr30k"]


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """Toy dataset folders named as the offline benchmarks, with their recipes, and one of another name."""
    root = tmp_path_factory.mktemp("data")
    for name in ("mini-flickr30k", "mini-msrvtt", "mine"):
        folder = write_images(root / name, {"train": 8, "val": 4, "test": 4})
        about = (folder / "dataset.json").read_text("utf-8")
        recipe = "flickr30k" if name == "mine" else name
        (folder / "dataset.json").write_text(about.replace('"flickr30k"', f'"{recipe}"'), "utf-8")
    return root


def runs_of(name: str, data_root: Path, parameters: dict) -> tuple[set[str], str]:
    """The names of the runs that a training notebook makes with `parameters`, and its `if_exists`."""
    cells = [cell.source for cell in code_of(nbformat.read(HERE / f"{name}.ipynb", as_version=4))]
    settings = next(source for source in cells if "train_config(" in source)
    found = {}
    exec(cells[0] + "\n" + cells[1], found)  # imports, parameters
    found |= {"ROOT": HERE.parent, "data_root": str(data_root)} | parameters
    exec(settings, found)
    calls = [node for source in cells for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    names = [word.value for call in calls for word in call.keywords if word.arg == "name"]
    return {eval(compile(ast.Expression(node), "", "eval"), found) for node in names}, found[
        "config"
    ].if_exists


@pytest.mark.parametrize(
    "name, data", [("03_train_flickr30k", "mini-flickr30k"), ("04_train_msrvtt", "mini-msrvtt")]
)
def test_other_parameters_make_other_runs_and_leave_the_adapters_that_05_and_07_load(name, data, data_root):
    usual, if_exists = runs_of(name, data_root, {})
    assert f"{data}-cross-modal" in usual and f"{data}-zero-shot" in usual
    assert if_exists == "resume"
    seen = set(usual)
    for changed in (
        {"dataset": "mine"},
        {"backbone": "openai/clip-vit-base-patch32"},
        {"seed": 7},
        {"items": 3},
        {"overrides": {"epochs": 20}},
        {"overrides": {"epochs": 20}, "seed": 7},
    ):
        names, _ = runs_of(name, data_root, changed)
        assert len(names) == len(usual) and not names & seen, changed
        seen |= names
    assert runs_of(name, data_root, {"overrides": {"if_exists": "replace"}}) == (usual, "replace")


def test_another_pre_training_has_a_folder_of_its_own():
    notebook = nbformat.read(HERE / "a1_pretrain_mini_clip.ipynb", as_version=4)
    cells = [cell.source for cell in code_of(notebook)]
    (made,) = (source for source in cells if "\nfolder = " in source)
    made = made.partition("\nif train")[0].rpartition("\n\n")[2]  # without the training itself

    def folder(**parameters) -> Path:
        found = {}
        exec(cells[0] + "\n" + cells[1], found)  # imports, parameters
        found |= {"ROOT": HERE.parent} | parameters
        exec(made, found)
        return found["folder"]

    assert folder() == HERE.parent / "runs" / "mini_clip"
    assert len({folder(), folder(steps=50), folder(seed=7), folder(drawings=64)}) == 4


def test_cleaning_drops_what_a_reader_does_not_need():
    v4 = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stderr", text="50%|#####"),
        v4.new_output("stream", name="stdout", text="one\n"),
        v4.new_output("stream", name="stdout", text="two\n"),
        v4.new_output("display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}),
        v4.new_output("execute_result", data={"text/plain": "3"}, execution_count=9),
    ]
    cells = [
        v4.new_code_cell("a = 1", metadata={"tags": ["parameters"], "papermill": {}}, execution_count=4),
        v4.new_code_cell("a = 2", metadata={"tags": ["injected-parameters"]}, execution_count=5),
        v4.new_code_cell("a", outputs=outputs, execution_count=9),
    ]
    metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3"},
        "language_info": {"name": "python"},
        "widgets": {},
    }
    cleaned = run.clean(v4.new_notebook(cells=cells, metadata=metadata))
    assert [cell.execution_count for cell in cleaned.cells] == [1, 2]
    assert cleaned.cells[0].metadata == {"tags": ["parameters"]}
    assert [output.get("text") for output in cleaned.cells[1].outputs] == ["one\ntwo\n", None]
    assert cleaned.cells[1].outputs[1].execution_count == 2
    assert set(cleaned.metadata) == {"kernelspec", "language_info"}
