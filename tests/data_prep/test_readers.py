import pytest

from data_prep.readers import BadInput, read_csv, read_json, read_json_lines


def test_text_with_a_byte_order_mark_or_in_another_encoding(tmp_path):
    path = tmp_path / "list.csv"
    path.write_bytes("\ufeffid,text\n1,naïve\n\n2,b\n".encode())
    assert [(line, row["text"]) for line, row in read_csv(path, ("id",))] == [
        (2, "naïve"),
        (4, "b"),
    ]
    path.write_text('id, text\n1, "a cup, hot"\n')
    assert [row["text"] for _, row in read_csv(path, ("id",))] == ["a cup, hot"]
    path.write_bytes("id,text\n1,naïve\n".encode("latin-1"))
    with pytest.raises(BadInput, match=r"list\.csv:2: not UTF-8"):
        list(read_csv(path, ("id",)))
    path.write_bytes(b'\xef\xbb\xbf{"a": [{"b": 1}]}')
    assert read_json(path) == {"a": [{"b": 1}]} and read_json(path, without=("b",)) == {"a": [{}]}
    assert list(read_json_lines(path)) == [(f"{path}:1", {"a": [{"b": 1}]})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1,\n "b": }', "list:2:7: broken JSON"),
        ('{"a": 1, "a": 2}', "'a' occurs more than once"),
        ("[" * 100_000, "JSON that cannot be read"),
        ("1" * 5_000, "JSON that cannot be read"),
        ("version https://git-lfs.github.com/spec/v1\n", "is not the file, but a Git LFS pointer"),
    ],
)
def test_json_that_cannot_be_read_says_where(tmp_path, content, message):
    path = tmp_path / "list"
    path.write_text(content)
    with pytest.raises(BadInput, match=message):
        read_json(path, unique_keys=True)
