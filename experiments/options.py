"""The options of all commands; a command's `OPTIONS` lists its own as {name: default}."""

from pathlib import Path

DATA = Path("data")
RESULTS = Path("results")
SHOWN = "default: %(default)s"
ABOUT = {
    "folder": {"type": Path, "help": "a prepared dataset, such as data/mini-flickr30k"},
    "records": {"type": Path, "nargs": "?", "help": f"folder of records; {SHOWN}"},
    "--backbone": {"help": SHOWN},
    "--data": {"type": Path, "help": f"folder of prepared datasets; {SHOWN}"},
    "--keep": {"type": Path, "help": "folder that gets each record as NAME.json"},
    "--methods": {"nargs": "+", "metavar": "NAME", "help": "default: all"},
    "--out": {"type": Path, "required": True, "help": "folder that gets the CLIP"},
    "--points": {"nargs": "+", "metavar": "NAME", "help": "such as steps-2; default: all"},
    "--precision": {"help": f"of training; {SHOWN}"},
    "--rates-of": {"type": Path, "help": "take the rates of another world's rows"},
    "--readme": {"nargs": "+", "help": "files in which to replace the tables and summary"},
    "--results": {"type": Path, "help": f"folder of results; {SHOWN}"},
    "--runs": {"type": Path, "help": f"checkpoints and adapters; {SHOWN}"},
    "--workers": {"type": int, "help": f"processes that draw; {SHOWN}"},
}
# of a command that trains for hours and continues after a stop
LONG = {"folder": None, "--backbone": "mini", "--precision": "float32"}
