"""Reading checkpoints as data, never as code.

A checkpoint is a pickle, and a pickle may call any function. PyTorch's ``weights_only=True`` admits tensors and plain
containers alone. What mmengine's runner writes beside them is little: :class:`mmengine.logging.HistoryBuffer`, a class
with two numpy arrays and with references to four of its own methods, which pickle spells ``getattr(HistoryBuffer,
'mean')``. This module admits that and nothing else; ``getattr`` itself stays forbidden.
"""

from __future__ import annotations

import _compat_pickle
import functools
import hashlib
import os
import pickle
import re
import types
import urllib.error
import urllib.parse
import zipfile
from codecs import encode
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

# PyTorch 2.6: weights_only becomes the default, and an admitted class may be given under more than one name.
_TORCH_READS_DATA = hasattr(torch.serialization, 'get_unsafe_globals_in_checkpoint')


@functools.lru_cache(maxsize=1)
def _allowed_globals() -> dict[str, Any]:
    """Return what a checkpoint of mmengine names beyond PyTorch's own list, by dotted name."""
    from mmengine.logging import HistoryBuffer

    reconstruct, scalar = (value.__reduce__()[0] for value in (np.zeros(1), np.float64(0)))
    allowed = {
        f'{HistoryBuffer.__module__}.{HistoryBuffer.__qualname__}': HistoryBuffer,
        'numpy.ndarray': np.ndarray,
        'numpy.dtype': np.dtype,
        'builtins.getattr': _statistic,
    }
    for core in ('numpy.core', 'numpy._core'):  # before and since numpy 2; a file keeps the name that its writer knew
        allowed[f'{core}.multiarray._reconstruct'] = reconstruct
        allowed[f'{core}.multiarray.scalar'] = scalar
    return allowed


def _statistic(owner: Any, name: Any) -> Any:
    """Answer in place of ``getattr``: one of HistoryBuffer's four statistics, and nothing else."""
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in ('min', 'max', 'current', 'mean'):
        raise pickle.UnpicklingError('GLOBAL builtins.getattr is not allowed')
    return vars(HistoryBuffer)[name]


def register_safe_globals() -> None:
    """Let mmengine read checkpoints as data: what its runner writes, and nothing that runs.

    On PyTorch 2.6 and later ``torch.load`` does so by default, and is told what mmengine's own checkpoints hold; without
    that mmengine 0.10 cannot resume from them. Before, its default runs what a file holds, so mmengine is given this
    module's loader for ``--resume``, ``load_from`` and testing.
    """
    if not _TORCH_READS_DATA:
        _replace_mmengines_loader()
        return
    dtypes = [type(np.dtype(name)) for name in ('bool', 'uint8', 'int32', 'int64', 'float32', 'float64')]
    torch.serialization.add_safe_globals([*((value, name) for name, value in _allowed_globals().items()), *dtypes])


def _replace_mmengines_loader() -> None:
    from mmengine.runner import checkpoint

    def load_from_kddense(filename: str, map_location: Any = None, **_: Any) -> Any:
        mend = 'if you trust its source, load it with torch.load and save its state_dict alone'
        return _load(filename, mend, map_location=map_location, mmap=False)  # what is resumed is kept, and files change

    for prefix in ('', 'http://', 'https://'):
        checkpoint.CheckpointLoader.register_scheme(prefix, load_from_kddense, force=True)
    checkpoint.load_from_http = load_from_kddense  # to which 'torchvision://' and 'open-mmlab://' lead


def load_checkpoint(path: str | os.PathLike[str], trust_checkpoint: bool = False) -> dict[str, Any]:
    """Load a checkpoint onto the CPU, as data.

    Reads what mmengine's runner writes (``state_dict``, ``optimizer``, ``message_hub``, ``meta``, …) and what
    ``torch.save(model.state_dict(), path)`` and safetensors do.

    Args:
        path: A file, or an ``http(s)://`` address, which is downloaded once to PyTorch's hub folder. A hash at the
            end of its name (``…-047c8118.pth``) is checked.
        trust_checkpoint: Also run the code that the file may hold. Only for files whose author you trust.

    Returns:
        The dictionary in the file. Its tensors may be mapped from the file rather than read: copy what you keep.

    Raises:
        FileNotFoundError: If there is no such file.
        ConnectionError: If the address cannot be downloaded.
        ValueError: If the file is damaged, holds code, or holds something other than a dictionary.
    """
    mend = 'pass trust_checkpoint=True only if you trust its source'
    return _load(path, mend, trust_checkpoint)


def local_file(source: str) -> Path:
    """Return the file of a checkpoint: its path, or the local copy of an address, which is downloaded once."""
    return _download(source) if source.startswith(('http://', 'https://')) else Path(source).expanduser()


def _load(path: str | os.PathLike[str], mend: str, trust: bool = False, **options: Any) -> dict[str, Any]:
    """Do what :func:`load_checkpoint` says, with further options of ``torch.load``."""
    source = os.fspath(path)
    file = local_file(source)
    if not file.is_file():
        raise FileNotFoundError(f'checkpoint {source} does not exist')
    try:
        checkpoint = _read(file, trust, options)
    except (
        pickle.UnpicklingError,
        EOFError,
        RuntimeError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        SafetensorError,
    ) as error:
        forbidden = re.search(r'GLOBAL (\S+)', str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if forbidden:
            raise ValueError(
                f'checkpoint {source} holds pickled code ({forbidden[1]}) and was not loaded: {mend}'
            ) from None
        message = f'{source} is not a readable checkpoint (truncated download?): {_reason(error)}'
        raise ValueError(message) from None  # PyTorch's own message advises to load it as code
    if not isinstance(checkpoint, dict):
        raise ValueError(f'checkpoint {source} holds a {type(checkpoint).__name__}, not a dictionary of weights')
    return checkpoint


def _reason(error: Exception) -> str:
    """Return the sentence of an error of ``torch.load`` that says what happened."""
    text = str(error).partition('WeightsUnpickler error: ')[2] or str(error).partition('In PyTorch 2.6')[0]
    return text.strip().partition('\n')[0] or type(error).__name__


def _read(file: Path, trust: bool, options: dict[str, Any]) -> Any:
    if file.suffix == '.safetensors':
        return load_file(file)
    options = {'map_location': 'cpu', **options}
    with file.open('rb') as opened:
        starts_as_zip = opened.read(2) == b'PK'
    if starts_as_zip:  # the format of PyTorch 1.6 and later
        if not zipfile.is_zipfile(file):
            raise EOFError('the end of the archive is missing')
        options.setdefault('mmap', True)  # so that the optimizer's part, as large as the weights, is not even read
    else:
        options.pop('mmap', None)
    if trust:
        return torch.load(str(file), weights_only=False, **options)
    if not _TORCH_READS_DATA:
        return torch.load(str(file), weights_only=False, pickle_module=_data_pickle, **options)
    register_safe_globals()
    return torch.load(str(file), weights_only=True, **options)


class _DataUnpickler(pickle.Unpickler):
    """An unpickler that finds nothing but what is listed, for PyTorch before 2.6."""

    def find_class(self, module: str, name: str) -> Any:
        # names of Python 2, which pickle's older protocols write to this day
        module, name = _compat_pickle.NAME_MAPPING.get((module, name), (module, name))
        full_name = f'{_compat_pickle.IMPORT_MAPPING.get(module, module)}.{name}'
        allowed = _torch_globals().get(full_name) or _allowed_globals().get(full_name)
        if allowed is None:
            raise pickle.UnpicklingError(f'GLOBAL {full_name} is not allowed')
        return allowed


@functools.lru_cache(maxsize=1)
def _torch_globals() -> dict[str, Any]:
    """Return what PyTorch itself admits, and the containers that only its later versions list."""
    from torch._weights_only_unpickler import _get_allowed_globals

    plain = {
        '_codecs.encode': encode,
        'builtins.set': set,
        'builtins.bytearray': bytearray,
        'builtins.complex': complex,
        'collections.Counter': Counter,
    }
    return {**plain, **_get_allowed_globals()}


def _load_data(file: Any, **options: Any) -> Any:
    return _DataUnpickler(file, **options).load()


# What torch.load asks of a pickle module.
_data_pickle = types.SimpleNamespace(
    __name__='kddense_data_pickle',
    Unpickler=_DataUnpickler,
    load=_load_data,
    PickleError=pickle.PickleError,
    UnpicklingError=pickle.UnpicklingError,
)


def _download(url: str) -> Path:
    """Return the local copy of ``url``, downloading it first if there is none.

    A name without a digest of the contents, such as ``model.safetensors``, is that of many files: the copy's has one of the
    address.
    """
    name = Path(urllib.parse.urlparse(url).path).name
    digest = re.search(r'-([0-9a-f]{8,64})\.', name)
    local = name if digest else f'{hashlib.sha256(url.encode()).hexdigest()[:8]}_{name}'
    file = Path(torch.hub.get_dir(), 'checkpoints', local)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(file), digest[1] if digest else None, progress=os.isatty(0))
        except (urllib.error.URLError, OSError) as error:
            raise ConnectionError(f'checkpoint {url} could not be downloaded: {error}') from error
        except RuntimeError as error:  # PyTorch's word for another hash
            raise ValueError(f'checkpoint {url} arrived damaged: {error}') from error
    return file
