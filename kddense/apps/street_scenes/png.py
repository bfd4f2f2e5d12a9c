"""PNG files whose bytes are the same on every machine.

A compressor is free in how it writes a stream, and zlib, its forks and their versions differ. So the stream is written
here: photographs, in which noise leaves little to gain, as they are; label maps and depths as runs of equal bytes in
deflate's fixed code (RFC 1951, section 3.2.6). Any reader of PNG reads both.
"""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator

import numpy as np

_COLOUR_TYPES = {2: 0, 3: 2}  # by the number of axes: grey, and red, green, blue
_LONGEST_REPETITION = 258
_DISTANCE_BITS = 5  # all of them 0 for a distance of one byte
_LARGEST_BLOCK = 65535


def encode(image: np.ndarray) -> bytes:
    """Return a PNG file of an image.

    Args:
        image: ``(H, W)`` in uint8 or uint16, or ``(H, W, 3)`` in uint8: red, green, blue.

    Raises:
        ValueError: If the image has another shape or type.
    """
    if image.ndim not in _COLOUR_TYPES or image.dtype not in (np.uint8, np.uint16) or image.shape[2:] not in ((), (3,)):
        raise ValueError(f'a PNG is written of uint8 or uint16, (H, W) or (H, W, 3), got {image.dtype} {image.shape}')
    height, width = image.shape[:2]
    rows = np.frombuffer(image.astype(image.dtype.newbyteorder('>')).tobytes(), np.uint8).reshape(height, -1)
    is_photograph = image.ndim == 3
    body = np.zeros((height, rows.shape[1] + 1), np.uint8)
    body[:, 0], body[:, 1:] = (0, rows) if is_photograph else _filtered(rows, image.dtype.itemsize)
    data = body.tobytes()
    stream = b'\x78\x01' + (_stored(data) if is_photograph else _runs(data)) + struct.pack('>I', zlib.adler32(data))
    header = struct.pack('>IIBBBBB', width, height, 8 * image.dtype.itemsize, _COLOUR_TYPES[image.ndim], 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + _chunk(b'IHDR', header) + _chunk(b'IDAT', stream) + _chunk(b'IEND', b'')


def _filtered(rows: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    """Return PNG's number of a filter, and each byte less that of the pixel to its left (1) or above (2)."""
    left, above = rows.copy(), rows.copy()
    left[:, size:] -= rows[:, :-size]
    above[1:] -= rows[:-1]
    return (1, left) if np.count_nonzero(left) < np.count_nonzero(above) else (2, above)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def _stored(data: bytes) -> bytes:
    """Return a deflate stream that holds the data as it is."""
    blocks = []
    for start in range(0, len(data), _LARGEST_BLOCK):
        block = data[start : start + _LARGEST_BLOCK]
        is_last = start + _LARGEST_BLOCK >= len(data)
        blocks.append(struct.pack('<BHH', is_last, len(block), len(block) ^ 0xFFFF) + block)
    return b''.join(blocks)


def _runs(data: bytes) -> bytes:
    """Return a deflate stream of one block in the fixed code, which repeats no more than the byte just written."""
    values = np.frombuffer(data, np.uint8)
    # Runs begin where the byte changes, and so often that one symbol tells how long they are.
    begins = np.concatenate([[True], values[1:] != values[:-1]])
    begins[:: 1 + _LONGEST_REPETITION] = True
    starts = np.flatnonzero(begins)
    run = values[starts].astype(np.intp) * (1 + _LONGEST_REPETITION) + (np.diff(starts, append=values.size) - 1)
    # 0b011 begins the last block in the fixed code, and 7 bits of 0 end it.
    codes, lengths = _codes()
    return _packed(np.concatenate([[0b011], codes[run], [0]]), np.concatenate([[3], lengths[run], [7]]))


def _packed(codes: np.ndarray, lengths: np.ndarray) -> bytes:
    """Put codes of at most 32 bits, whose first bit is their lowest, one after another."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    word = begins >> 5
    first = np.flatnonzero(np.concatenate([[True], word[1:] != word[:-1]]))  # of those that begin in a word of 32 bits
    together = np.bitwise_or.reduceat(codes << (begins & 31), first)
    words = np.zeros(len(first) + 1, np.int64)
    words[:-1] = together & 0xFFFFFFFF
    words[1:] |= together >> 32
    return words.astype('<u4').tobytes()[: int(ends[-1] + 7) // 8]


@functools.cache
def _codes() -> tuple[np.ndarray, np.ndarray]:
    """Return bits, the first one lowest, and their number, of each byte and 0 to 258 repetitions of it."""
    literal, size = np.array([_fixed_code(byte) for byte in range(256)]).T[:, :, None]
    repetition, more = np.array([(0, 0), (0, 0), (0, 0), *_repetitions()]).T
    codes, lengths = literal | repetition << size, size + more
    for count in (1, 2):  # which have no symbol
        codes[:, count] = codes[:, count - 1] | literal[:, 0] << lengths[:, count - 1]
        lengths[:, count] = lengths[:, count - 1] + size[:, 0]
    return codes.ravel(), lengths.ravel()


def _repetitions() -> Iterator[tuple[int, int]]:
    """Yield the code, and its number of bits, of 3 to 258 repetitions of the byte just written."""
    for symbol in range(257, 285):
        code, size = _fixed_code(symbol)
        extra_bits = max(0, (symbol - 261) // 4)
        for extra in range((1 << extra_bits) - (symbol == 284)):  # 258 has a symbol of its own
            yield code | extra << size, size + extra_bits + _DISTANCE_BITS
    code, size = _fixed_code(285)
    yield code, size + _DISTANCE_BITS


def _fixed_code(symbol: int) -> tuple[int, int]:
    """Return the fixed code of a symbol, its first bit lowest, and its number of bits."""
    for first, last, code, size in ((0, 143, 0x30, 8), (144, 255, 0x190, 9), (256, 279, 0, 7), (280, 287, 0xC0, 8)):
        if first <= symbol <= last:
            bits = format(code + symbol - first, f'0{size}b')
            return int(bits[::-1], 2), size
    raise ValueError(f'deflate has no symbol {symbol}')
