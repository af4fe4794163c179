"""Run the notebooks with papermill, the one way `make run`, `make test` and CI do it.

    python notebooks/run.py                        # all, in order, into runs/notebooks
    python notebooks/run.py 03 -p dataset flickr30k -p data_root DIR -p backbone openai/clip-vit-base-patch32
    python notebooks/run.py --tiny                 # a few items and steps each
    python notebooks/run.py --commit               # and put the executed copies, cleaned, into notebooks/

Papermill only warns of an unknown parameter and sets no time limit: here both are errors.
"""

import argparse
import sys
import time
from pathlib import Path

import nbformat
import papermill
import yaml

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CI = "runs/ci"  # tiny runs leave their adapters and records here, apart from real ones
TINY = {
    "a1_pretrain_mini_clip": {},
    "01_data_prep": {"items": 24, "runs_dir": CI},
    "02_adapter_anatomy": {},
    "03_train_flickr30k": {"items": 24, "runs_dir": CI, "overrides": {"epochs": 2, "batch_size": 8}},
    "04_train_msrvtt": {
        "items": 12,
        "runs_dir": CI,
        "overrides": {"epochs": 2, "batch_size": 8, "max_frames": 4},
    },
    "05_retrieval_explorer": {"items": 24, "runs_dir": CI},
    "07_your_own_media": {"items": 24, "runs_dir": CI, "overrides": {"epochs": 2}},
}


def chosen(names: list[str]) -> list[Path]:
    """The notebooks whose names begin with one of `names`, in order; all without names."""
    every = sorted(HERE.glob("*.ipynb"))
    if missing := [name for name in names if not any(path.stem.startswith(name) for path in every)]:
        raise ValueError(f"no notebook {missing[0]!r}; there are: {', '.join(path.stem for path in every)}")
    return [path for path in every if not names or any(path.stem.startswith(name) for name in names)]


def check_parameters(notebook: Path, parameters: dict) -> None:
    """Raise ValueError for a parameter that `notebook` does not have."""
    known = papermill.inspect_notebook(str(notebook))
    if unknown := sorted(set(parameters) - set(known)):
        raise ValueError(f"{notebook.name}: no parameter {unknown[0]!r}; it has: {', '.join(known)}")


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook as it is committed: no widget state, progress bars, timings or injected cell."""
    notebook.metadata = {key: notebook.metadata[key] for key in ("kernelspec", "language_info")}
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell in notebook.cells:
        cell.metadata = {"tags": tags} if (tags := cell.metadata.get("tags")) else {}
        if cell.cell_type == "code":
            cell.outputs = _without_clutter(cell.outputs)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for count, cell in enumerate(code, start=1):
        cell.execution_count = count
        for out in cell.outputs:
            if "execution_count" in out:
                out.execution_count = count
    return notebook


def _without_clutter(outputs: list) -> list:
    """Outputs without progress bars and widgets; text that was printed in pieces is one again."""
    kept = []
    for out in outputs:
        out.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        if out.get("name") == "stderr" or (out.output_type != "stream" and not out.get("data")):
            continue
        if out.output_type == "stream" and kept and kept[-1].output_type == "stream":
            kept[-1].text += out.text
        else:
            kept.append(out)
    return kept


def run(notebook: Path, target: Path, parameters: dict, limit: int, prepare_only: bool) -> None:
    """Execute a copy of `notebook` at `target`; a cell that runs longer than `limit` seconds fails it."""
    check_parameters(notebook, parameters)
    target.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    papermill.execute_notebook(
        str(notebook), str(target), parameters=parameters, kernel_name="python3", cwd=str(ROOT),
        execution_timeout=limit, prepare_only=prepare_only, progress_bar=False,
    )  # fmt: skip
    print(
        f"{notebook.name}: {'prepared' if prepare_only else f'{time.monotonic() - start:.0f} s'} → {target}"
    )


def main() -> int:
    """Parse the command line; 1 on a user's error, a failing notebook raises."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="beginnings of names, such as 03; all without")
    parser.add_argument("-p", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "notebooks")
    parser.add_argument("--tiny", action="store_true", help="parameters of a run of seconds")
    parser.add_argument("--prepare-only", action="store_true", help="inject the parameters, run nothing")
    parser.add_argument(
        "--commit", action="store_true", help="replace the notebooks by their executed copies"
    )
    parser.add_argument("--limit", type=int, default=1800, help="seconds a cell may take")
    options = parser.parse_args()
    given = {name: yaml.safe_load(value) for name, value in options.p}
    try:
        for notebook in chosen(options.names):
            tiny = TINY.get(notebook.stem, {}) if options.tiny else {}
            merged = {"overrides": {**tiny.get("overrides", {}), **given.get("overrides", {})}}
            parameters = {**tiny, **given, **(merged if merged["overrides"] else {})}
            target = options.out / notebook.name
            run(notebook, target, parameters, options.limit, options.prepare_only)
            if options.commit:
                nbformat.write(clean(nbformat.read(target, as_version=4)), notebook)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
