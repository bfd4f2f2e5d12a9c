"""What works before ``kddense`` is imported, or where it cannot be: its command, and what a broken installation lacks.

Importing ``kddense`` imports PyTorch and OpenMMLab, which takes seconds and fails where one of them is absent. Nothing in
here imports either at its top.
"""
