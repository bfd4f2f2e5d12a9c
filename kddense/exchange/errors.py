"""The error of two models that cannot be compared."""


class ViewError(ValueError):
    """A model that cannot show what an objective needs, or two models that do not speak about the same things."""
