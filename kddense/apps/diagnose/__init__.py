"""Diagnoses: what a run can tell of why distillation helps or harms."""

from .command import main

__all__ = ['main']
