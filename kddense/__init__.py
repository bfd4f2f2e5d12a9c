"""Knowledge distillation plug-ins for OpenMMLab."""

__version__ = '0.1.0'
