from data_prep.mini.emoji import emoji_code, has_skin_tone


def test_one_code_for_the_many_spellings_of_a_file_name():
    assert emoji_code("23-FE0F-20E3") == emoji_code("0023-20e3") == "0023-20e3"
    assert (
        emoji_code("1F3F4-E0067-E0062-E007F")
        == emoji_code("1f3f4-e0067_e0062")
        == "1f3f4-e0067-e0062"
    )
    assert has_skin_tone("1f44b-1f3fd") and not has_skin_tone("1f44b")
