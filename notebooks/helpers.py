"""What only the notebooks use: colours, folded answers, and the check of an exercise."""

from collections.abc import Callable

import torch
from IPython.display import Markdown

BLUE = "#3b6ea5"
ORANGE = "#d9822b"
GREY = "#9aa0a6"
COLOURS = (GREY, BLUE, ORANGE, "#5b8c5a", "#8a5a9e", "#b04a4a")


def folded(answer: str) -> Markdown:
    """Return an answer in Markdown that a notebook shows only after a click."""
    return Markdown(f"<details><summary>Answer</summary>\n\n{answer}\n\n</details>")


def checked(yours: Callable, ours: Callable, *cases: tuple) -> Callable:
    """Return the function that an exercise goes on with: `yours` if it is right, else `ours`.

    It is right if it gives the same for every case, a tuple of arguments. Says which, and why.
    """
    for number, case in enumerate(cases, start=1):
        result = yours(*case)
        wanted = ours(*case)
        if result is None or result is ...:
            print("not filled in yet: going on with cma's own function")
            return ours
        try:
            torch.testing.assert_close(torch.as_tensor(result), torch.as_tensor(wanted), check_dtype=False)
        except AssertionError as error:
            said = f"case {number} of {len(cases)} differs"
            print(f"{said}, so we go on with cma's own function: {error}")
            return ours
    print(f"right, in all {len(cases)} cases")
    return yours
