"""`--find`: what an unknown download holds, what it lacks, and a line that can be typed."""

import re
import shlex
from collections import Counter

import pytest

from data_prep.__main__ import main
from tests.data_prep.fuzz_sources import FIXED, SOURCES
from tests.data_prep.toy_shards import SHARD, tar
from tests.grey_media import write_picture


def look(folder, capsys, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert main(["--find", str(folder)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", SOURCES)
def test_the_line_that_is_said_for_a_form_prepares_it(tmp_path, capsys, name):
    source, folder = SOURCES[name], tmp_path / "my downloads"
    said = look(folder, capsys, source.files)
    form = name.removeprefix(f"{source.benchmark} ")
    block = re.search(
        rf"^{source.benchmark}(, form (?P<form>\S+))?: .*\n  there: (?P<there>.*)\n"
        r"  missing: (?P<missing>.*)\n  (?P<line>python .*)$",
        said,
        re.MULTILINE,
    )
    assert block["form"] in (form, None, "lists")
    items = source.fit(FIXED)
    for split, count in Counter(item.split for item in items.values()).items():
        assert f"{split} {count}" in block["there"]
    if "parquet" not in name or name in ("coco parquet", "vatex parquet"):
        assert f"media: 0 / {len(items)}" in block["missing"]
    _, _, command, *words = shlex.split(block["line"])
    words[words.index("--out") + 1] = str(tmp_path / "out")
    assert command == "data_prep" and main([*words, "--annotations-only"]) == 0
    assert (tmp_path / "out" / "dataset.json").is_file()


def test_nothing_is_found_in_an_empty_folder(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert main(["--find", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("nothing here, no file in it or below it\n")


def test_a_part_of_a_benchmark_says_what_it_needs_and_own_media_are_a_folder(tmp_path, capsys):
    write_picture(tmp_path / "a.jpg")
    said = look(tmp_path, capsys, {})
    assert "no annotations of a benchmark" in said and "python -m data_prep folder --source" in said
    said = look(tmp_path, capsys, {"results.csv": b"image_name| n| c\na.jpg| 0| a boat\n"})
    assert re.search(
        r"flickr30k: a part of it is there\. .*results\.csv: has captions and no", said
    )
    said = look(tmp_path, capsys, {"coco/test/0.tar": tar(SHARD)})
    assert "coco, form shards: coco/test/0.tar\n  there: test 2\n  missing: the train split" in said
    assert "media: 0" not in said
    assert main(["--find", str(tmp_path / "gone")]) == 1
    with pytest.raises(SystemExit):
        main([])
