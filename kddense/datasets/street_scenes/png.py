"""PNG files whose bytes are the same on every machine.

A compressor is free in how it writes a stream, and zlib, its forks and their versions differ. So the stream is written
here: photographs, in which noise leaves little to gain, as they are; label maps and depths as runs of equal bytes in
deflate's fixed code (RFC 1951, section 3.2.6). Any reader of PNG reads both.
"""

from __future__ import annotations

import functools
import struct
import zlib

import numpy as np

_COLOUR_TYPES = {2: 0, 3: 2}  # by the number of axes: grey, and red, green, blue
_LONGEST_RUN = 258
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
    starts = np.concatenate([[0], np.flatnonzero(values[1:] != values[:-1]) + 1])
    repeats = np.diff(np.concatenate([starts, [values.size]])) - 1
    full, rest = np.divmod(repeats, _LONGEST_RUN)
    # Of each run: its byte, repetitions of 258, and the rest: a repetition, or the byte once or twice more.
    literal = values[starts].astype(np.int64)
    again = np.where(rest < 3, rest, 0)
    counts = np.stack([np.ones_like(full), full, (rest >= 3).astype(np.int64), again], 1)
    symbols = np.stack([literal, np.full_like(full, 256 + _LONGEST_RUN), 256 + rest, literal], 1)
    sequence = np.append(np.repeat(symbols.ravel(), counts.ravel()), 256)
    codes, lengths = _codes()
    ends = 3 + np.cumsum(lengths[sequence])
    starts = ends - lengths[sequence]
    shifted = codes[sequence] << (starts & 7)
    size = int(ends[-1] + 7) // 8
    stream = np.zeros(size + 4)
    stream[0] = 0b011  # the last block, in the fixed code
    for byte in range(4):  # codes have at most 18 bits; no two share one, so that sums put them together
        stream += np.bincount((starts >> 3) + byte, weights=(shifted >> 8 * byte) & 255, minlength=size + 4)
    return stream[:size].astype(np.uint8).tobytes()


@functools.cache
def _codes() -> tuple[np.ndarray, np.ndarray]:
    """Return bits, the first one lowest, and their number: of bytes 0 to 255, the end 256, and 256 + n repetitions."""
    codes, lengths = np.zeros(257 + _LONGEST_RUN, np.int64), np.zeros(257 + _LONGEST_RUN, np.int64)

    def put(symbol: int, length_symbol: int, extra: int = 0, extra_bits: int = 0, distance_bits: int = 0) -> None:
        code, size = _fixed_code(length_symbol)
        codes[symbol] = code | extra << size  # the distance, one byte back, is five bits of 0
        lengths[symbol] = size + extra_bits + distance_bits

    for symbol in range(257):
        put(symbol, symbol)
    base, symbol = 3, 257
    for extra_bits in (0, 0, 1, 2, 3, 4, 5):
        for _ in range(4):
            for extra in range(1 << extra_bits):
                if base + extra < _LONGEST_RUN:
                    put(256 + base + extra, symbol, extra, extra_bits, 5)
            base, symbol = base + (1 << extra_bits), symbol + 1
    put(256 + _LONGEST_RUN, 285, distance_bits=5)
    return codes, lengths


def _fixed_code(symbol: int) -> tuple[int, int]:
    """Return the fixed code of a symbol, its first bit lowest, and its number of bits."""
    for first, last, code, size in ((0, 143, 0x30, 8), (144, 255, 0x190, 9), (256, 279, 0, 7), (280, 287, 0xC0, 8)):
        if first <= symbol <= last:
            bits = format(code + symbol - first, f'0{size}b')
            return int(bits[::-1], 2), size
    raise ValueError(f'deflate has no symbol {symbol}')
