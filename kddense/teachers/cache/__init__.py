"""Answers of teachers on disk: what they are taken apart into, in which form values are kept, in which files."""

from .forms import FORMS, Form
from .identity import check_keepable, check_same, versions
from .records import Kept, keep, restore
from .store import Record, Store

__all__ = ['FORMS', 'Form', 'Kept', 'Record', 'Store', 'check_keepable', 'check_same', 'keep', 'restore', 'versions']
