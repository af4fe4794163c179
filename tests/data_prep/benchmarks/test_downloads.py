from data_prep.benchmarks.downloads import Downloads
from tests.data_prep.image_sources import write


def test_the_files_of_a_benchmark_that_we_do_not_know_are_named_after_it(tmp_path):
    ours = write(tmp_path / "new.set_val.json", "")
    write(tmp_path / "newset_test.json", "")
    assert Downloads(tmp_path).splits("new.set", (".json",)) == {"val": ours}
