"""The one error that a user of `data_prep` can mend: printed as a single line, without a traceback."""

from unicodedata import category


class BadInput(ValueError):
    """A file, folder or option is not what was expected; the message names it and says what to do."""


def one_line(text: str) -> str:
    """The text as one line that can be printed: line breaks, control characters, surrogates spelled out."""
    if text.isprintable():
        return text
    plain = text.encode(errors="backslashreplace").decode()
    return "".join(repr(c)[1:-1] if category(c) in ("Cc", "Zl", "Zp") else c for c in plain)
