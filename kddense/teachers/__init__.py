"""Teachers: trained models that answer questions, and are never part of what is trained."""

from .frozen import Teacher

__all__ = ['Teacher']
