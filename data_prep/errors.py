"""The one error that a user of `data_prep` can mend: printed as a single line, without a traceback."""


class BadInput(ValueError):
    """A file, folder or option is not what was expected; the message names it and says what to do."""
