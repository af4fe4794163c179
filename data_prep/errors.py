"""The one error that a user of `data_prep` can mend: printed as a single line, without a traceback."""


class BadInput(ValueError):
    """A file, folder or option is not what was expected; the message names it and says what to do."""


def one_line(text: str) -> str:
    """The text as one line that can be printed: line breaks, control characters, surrogates spelled out."""
    plain = text.encode(errors="backslashreplace").decode()
    return "".join(character if character >= " " else repr(character)[1:-1] for character in plain)
