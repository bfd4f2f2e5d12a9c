"""Errors of other libraries, as a part of a message."""


def first_sentence(error: BaseException) -> str:
    """Return the first sentence of an error, on one line."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    line = next(iter(text.strip().splitlines()), '').partition('. ')[0]
    return line or type(error).__name__
