"""The benches of search, small: each runs to its end, and says its parts as they come."""

import json

import pytest

from tests.bench import index, moments
from tests.bench.__main__ import main


@pytest.mark.night
def test_the_index_is_written_asked_and_added_to(monkeypatch, capsys):
    # in this process; the command starts one for each part
    monkeypatch.setattr(index, "in_process", lambda name, *of: getattr(index, name)(*of))
    (parts,) = index.figures(True, items=3000).values()
    said = [json.loads(one) for one in capsys.readouterr().err.splitlines() if one[:1] == "{"]
    assert said == [{f"{name} 3,000 image": parts[name]} for name in ("write", "answers", "add")]
    assert parts["answers"]["recall@10"] > 0.99 and parts["answers"]["answer, ms"]["median"] > 0
    assert parts["add"]["MB"] > 0


@pytest.mark.night
def test_moments_of_a_film_are_found_more_often_than_in_twelve_frames(monkeypatch, capsys):
    monkeypatch.setattr(moments, "FILMS", 1)
    monkeypatch.setattr(moments, "SECONDS", 60)
    monkeypatch.setattr("sys.argv", ["bench", "moments", "--quick"])
    main()
    found = json.JSONDecoder().raw_decode(capsys.readouterr().out.partition("\n")[2])[0]["moments"]
    ours, twelve, dense = (found[name] for name in moments.CONFIGS)
    assert (ours["items"], twelve["items"], dense["items"]) == (10, 2, 10)
    assert dense["R@1"] > twelve["R@1"] and ours["R@1"] > 0
