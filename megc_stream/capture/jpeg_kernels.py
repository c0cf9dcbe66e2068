"""The loops of :mod:`megc_stream.capture.jpeg`, compiled.

Entropy-coded bits stand in a 64-bit buffer, the next one at the top; ``bits`` modulo 64 of it are valid and ``at`` is
the byte that comes next. A table of one component, 32-bit and flat, answers what the next 11 to 13 bits are: as many
whole symbols as fit where only their length matters, a coefficient where its value does. What does not fit is answered
symbol by symbol from the codes of up to 16 bits.

Wherever a picture is not exactly as it should be, the kernels give up: others judge it.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from megc_stream.flow.jit import inner_kernel, kernel

__all__ = ["TABLE_SIZE", "decode_scan", "make_table"]

_u64, _i64, _i32 = np.uint64, np.int64, np.int32
# Unsigned, so that numba does not look for negative indices.
_ZERO, _ONE, _BLOCK = np.uint64(0), np.uint64(1), np.uint64(64)
_LOW = np.uint64(63)  # shifts look at no other bits, so this costs nothing

# Parts of a component's table, and by how much the buffer is shifted to the index.
_RUN_BITS, _COEFFICIENT_BITS, _DC_BITS = 13, 12, 11
_RUN_SHIFT, _COEFFICIENT_SHIFT, _DC_SHIFT, _CODE_SHIFT = (np.uint64(64 - n) for n in (13, 12, 11, 16))
_PARTS = np.cumsum([0, 1 << _RUN_BITS, 1 << _RUN_BITS, 1 << _COEFFICIENT_BITS, 1 << _DC_BITS, 1 << 16, 1 << 16, 64, 64])
_RUN, _REST, _COEFFICIENT, _DC, _AC_CODE, _DC_CODE, _QUANT, _PLACE = (np.uint64(n) for n in _PARTS[:-1])
TABLE_SIZE = int(_PARTS[-1])
_QUANT_1, _PLACE_1 = _QUANT - _ONE, _PLACE - _ONE  # indexed by the position after a coefficient

_END = np.uint64(128)
"""Added to the position in the block by the symbol "end of block"."""
_LANES = 16
"""Blocks that go through the inverse transform at once; element n of their coefficients stands side by side."""
_GROUP = 64 * _LANES
_MARGIN = 320  # bytes after the data that may be read before it is noticed: a block has 64 symbols of up to 27 bits
_LARGEST = 16383
"""Coefficients and their transforms beyond do not come from pictures; libjpeg-turbo's SIMD code overflows there."""

# Along the diagonals of the block, up and down by turns (Figure A.6).
_ZIGZAG = np.array(sorted(range(64), key=lambda n: (n // 8 + n % 8, n // 8 if (n // 8 + n % 8) % 2 else n % 8)))


@kernel
def _fill_codes(counts, symbols, table, begin):
    """Set ``table[begin + next 16 bits]`` to length << 8 | symbol, 0 for no code; False where the codes do not fit."""
    code = 0
    n = 0
    for length in range(1, 17):
        for _ in range(counts[length - 1]):
            low = code << (16 - length)
            if low >= 65535:
                return False
            for i in range(low, low + (1 << (16 - length))):
                table[begin + i] = (length << 8) | symbols[n]
            code += 1
            n += 1
        if code >= 1 << length:
            return False
        code <<= 1
    return True


@inner_kernel
def _signed(value, size):
    """Return the number that ``size`` bits stand for (F.2.2.1, EXTEND)."""
    if size > 0 and value < (1 << (size - 1)):
        value -= (1 << size) - 1
    return value


@kernel
def make_table(dc_counts, dc_symbols, ac_counts, ac_symbols, quant, table):
    """Fill the table of a component; False where its codes are not those of a baseline JPEG.

    ``*_counts`` (16,) and ``*_symbols`` int64 are as in the file, ``quant`` (64,) in zigzag order; ``table`` holds 0.
    """
    ac_code, dc_code = _i64(_AC_CODE), _i64(_DC_CODE)
    if not _fill_codes(ac_counts, ac_symbols, table, ac_code):
        return False
    if not _fill_codes(dc_counts, dc_symbols, table, dc_code):
        return False
    for symbol in dc_symbols:
        if symbol > 11:
            return False
    for symbol in ac_symbols:
        size = symbol & 15
        if size > 10 or (size == 0 and symbol != 0 and symbol != 0xF0):
            return False

    for i in range(1 << _DC_BITS):  # difference << 16 | bits, 0 for more bits than that
        code = table[dc_code + (i << (16 - _DC_BITS))]
        length, size = code >> 8, code & 255
        if length > 0 and length + size <= _DC_BITS:
            value = _signed((i >> (_DC_BITS - length - size)) & ((1 << size) - 1), size)
            table[_i64(_DC) + i] = (value << 16) | (length + size)

    # Value << 16 | advance << 8 | bits; an advance of 64 for "look closer", as on values that may be too large.
    most = _LARGEST // quant.max()
    for i in range(1 << _COEFFICIENT_BITS):
        code = table[ac_code + (i << (16 - _COEFFICIENT_BITS))]
        length, run, size = code >> 8, (code >> 4) & 15, code & 15
        entry = 64 << 8
        if length > 0 and length + size <= _COEFFICIENT_BITS:
            if code & 255 == 0:
                entry = (128 << 8) | length
            else:
                value = _signed((i >> (_COEFFICIENT_BITS - length - size)) & ((1 << size) - 1), size)
                if abs(value) <= most:
                    entry = (value << 16) | ((run + 1) << 8) | (length + size)
        table[_i64(_COEFFICIENT) + i] = entry

    # Of a run of blocks: DC difference << 17 | a block ends << 16 | advance << 8 | bits; what follows on the end of a
    # block is the DC symbol of the next. Of the rest of one block: advance << 8 | bits.
    for i in range(1 << _RUN_BITS):
        ended = difference = used = rest_used = advance = rest_advance = 0
        while True:
            code = table[ac_code + (((i << (16 - _RUN_BITS)) << used) & 65535)]
            length, run, size = code >> 8, (code >> 4) & 15, code & 15
            if length == 0 or used + length + size > _RUN_BITS:
                break
            if code & 255 == 0:
                rest_used, rest_advance = used + length, advance + 128
                after = used + length
                code = table[dc_code + (((i << (16 - _RUN_BITS)) << after) & 65535)]
                length, size = code >> 8, code & 255
                if length > 0 and after + length + size <= _RUN_BITS:
                    difference = _signed((i >> (_RUN_BITS - after - length - size)) & ((1 << size) - 1), size)
                    ended = 1
                    used = after + length + size
                break
            if advance + run > 61:
                break
            advance += run + 1
            used += length + size
            rest_used, rest_advance = used, advance
        if used == 0:
            advance = 63
        if rest_used == 0:
            rest_advance = 64
        table[_i64(_RUN) + i] = (difference << 17) | (ended << 16) | (advance << 8) | used
        table[_i64(_REST) + i] = (rest_advance << 8) | rest_used

    for n in range(64):
        table[_i64(_QUANT) + n] = quant[n]
        table[_i64(_PLACE) + n] = _ZIGZAG[n] * _LANES
    return True


@inner_kernel
def _load(data, at):
    """Return the eight bytes from ``at``, the first of them at the top; LLVM makes one instruction of this."""
    high = (_u64(data[at]) << _u64(56)) | (_u64(data[at + _ONE]) << _u64(48))
    high |= (_u64(data[at + _u64(2)]) << _u64(40)) | (_u64(data[at + _u64(3)]) << _u64(32))
    low = (_u64(data[at + _u64(4)]) << _u64(24)) | (_u64(data[at + _u64(5)]) << _u64(16))
    return high | low | (_u64(data[at + _u64(6)]) << _u64(8)) | _u64(data[at + _u64(7)])


@inner_kernel
def _copy(source, begin, target, to, count):
    for n in range(count):
        target[to + _u64(n)] = source[begin + _u64(n)]


@inner_kernel
def _has_ff(data, at):
    """Return whether one of 16 bytes is 0xFF: where a byte of the complement is 0."""
    ones, tops = _u64(0x0101010101010101), _u64(0x8080808080808080)
    a, b = ~_load(data, at), ~_load(data, at + _u64(8))
    return (((a - ones) & ~a & tops) | ((b - ones) & ~b & tops)) != _ZERO


@kernel
def _unstuff(data, begin, stream, ends):
    """Copy the entropy-coded bytes to ``stream``, FF 00 as FF, up to EOI; False unless RST0, RST1, ... part them.

    ``ends`` gets where in ``stream`` each interval ends.
    """
    n, to, size, step = _u64(begin), _ZERO, _u64(data.shape[0]), _u64(16)
    interval = 0
    while True:
        while n + step < size and not _has_ff(data, n):
            _copy(data, n, stream, to, 16)
            n += step
            to += step
        while n + _ONE < size and data[n] != 255:
            stream[to] = data[n]
            to += _ONE
            n += _ONE
        if n + _ONE >= size:
            return False
        marker = _i64(data[n + _ONE])
        n += _u64(2)
        if marker == 0:
            stream[to] = 255
            to += _ONE
            continue
        ends[interval] = to
        interval += 1
        if interval == ends.shape[0]:
            return marker == 0xD9
        if marker != 0xD0 + (interval - 1) % 8:
            return False


@inner_kernel
def _refill(stream, buffer, bits, at):
    """Return buffer, bits, next byte, with at least 56 bits (the variant without branches, F. Giesen 2018)."""
    more = _load(stream, at) >> (bits & _LOW)
    return buffer | more, bits | _u64(56), at + _u64(7) - ((bits >> _u64(3)) & _u64(7))


@inner_kernel
def _value(buffer, length, size):
    """Return the number after a code of ``length`` bits."""
    if size == _ZERO:
        return 0
    return _signed(_i64((buffer << length) >> (_BLOCK - size)), _i64(size))


@inner_kernel
def _symbol(table, buffer):
    """Return bits (0: no code), advance and value of the next AC symbol."""
    code = _u64(table[(buffer >> _CODE_SHIFT) + _AC_CODE])
    length, size = code >> _u64(8), code & _u64(15)
    advance = _END if code & _u64(255) == _ZERO else ((code >> _u64(4)) & _u64(15)) + _ONE
    used = _ZERO if length == _ZERO else length + size
    return used, advance, _value(buffer, length, size)


@inner_kernel
def _dc_symbol(table, buffer):
    """Return bits (0: no code) and difference of the next DC symbol."""
    entry = _i64(table[(buffer >> _DC_SHIFT) + _DC])
    used, difference = _u64(entry & 63), entry >> 16
    if entry == 0:
        code = _u64(table[(buffer >> _CODE_SHIFT) + _DC_CODE])
        length, size = code >> _u64(8), code & _u64(255)
        used = _ZERO if length == _ZERO else length + size
        difference = _value(buffer, length, size)
    return used, difference


@kernel
def _skip(stream, end, table, blocks, buffer, bits, at, dc):
    """Read over ``blocks`` blocks of a component; return buffer, bits, next byte, DC and whether they are in order.

    ``at`` beyond ``end`` means that there is too little data.
    """
    buffer, bits, at = _refill(stream, buffer, bits, at)
    used, difference = _dc_symbol(table, buffer)
    if used == _ZERO:
        return buffer, bits, at, dc, False
    buffer <<= used
    bits -= used
    dc += difference
    position = _ONE
    left = blocks - 1
    while left > 4:  # four steps end four blocks at most
        if at > end:
            return buffer, bits, at, dc, False
        buffer, bits, at = _refill(stream, buffer, bits, at)
        regular = True
        for _ in range(4):
            entry = _i64(table[(buffer >> _RUN_SHIFT) + _RUN])
            last = position + _u64((entry >> 8) & 255)
            if last >= _BLOCK:
                regular = False
                break
            buffer <<= _u64(entry) & _LOW
            bits -= _u64(entry)
            dc += entry >> 17
            ended = (entry >> 16) & 1
            left -= ended
            position = _ONE if ended != 0 else last
        if regular:
            continue
        buffer, bits, at = _refill(stream, buffer, bits, at)
        used, advance, _ = _symbol(table, buffer)
        position += advance
        if used == _ZERO or (position > _BLOCK and position < _END):
            return buffer, bits, at, dc, False
        buffer <<= used
        bits -= used
        if position >= _BLOCK:
            buffer, bits, at = _refill(stream, buffer, bits, at)
            used, difference = _dc_symbol(table, buffer)
            if used == _ZERO:
                return buffer, bits, at, dc, False
            buffer <<= used
            bits -= used
            dc += difference
            position = _ONE
            left -= 1
    while True:
        while position < _BLOCK:
            buffer, bits, at = _refill(stream, buffer, bits, at)
            regular = True
            for _ in range(4):
                rest = _u64(table[(buffer >> _RUN_SHIFT) + _REST])
                last = position + (rest >> _u64(8))
                if last != _BLOCK and (last & _BLOCK) != _ZERO:
                    regular = False
                    break
                buffer <<= rest & _LOW
                bits -= rest
                position = last
                if position >= _BLOCK:
                    break
            if regular:
                continue
            buffer, bits, at = _refill(stream, buffer, bits, at)
            used, advance, _ = _symbol(table, buffer)
            position += advance
            if used == _ZERO or (position > _BLOCK and position < _END):
                return buffer, bits, at, dc, False
            buffer <<= used
            bits -= used
        if left == 0 or at > end:
            return buffer, bits, at, dc, at <= end
        buffer, bits, at = _refill(stream, buffer, bits, at)
        used, difference = _dc_symbol(table, buffer)
        if used == _ZERO:
            return buffer, bits, at, dc, False
        buffer <<= used
        bits -= used
        dc += difference
        position = _ONE
        left -= 1


@kernel
def _store(stream, end, table, blocks, first, coefficients, buffer, bits, at, dc):
    """Read ``blocks`` blocks, their coefficients times the quantisation to lane ``first`` and after.

    Returns buffer, bits, next byte, DC and an upper bound of the magnitudes; -1 where the data is not in order.
    """
    largest = 0
    for block in range(first, first + blocks):
        lane = _u64(block // _LANES * _GROUP + block % _LANES)
        buffer, bits, at = _refill(stream, buffer, bits, at)
        used, difference = _dc_symbol(table, buffer)
        if used == _ZERO or at > end:  # once a block: there are _MARGIN bytes to spare
            return buffer, bits, at, dc, -1
        buffer <<= used
        bits -= used
        dc += difference
        value = dc * _i64(table[_QUANT])
        largest |= abs(value)
        coefficients[lane] = value
        position = _ONE
        while True:
            buffer, bits, at = _refill(stream, buffer, bits, at)
            for _ in range(4):
                entry = _i64(table[(buffer >> _COEFFICIENT_SHIFT) + _COEFFICIENT])
                position += _u64((entry >> 8) & 255)
                if position >= _BLOCK:
                    break
                buffer <<= _u64(entry) & _LOW
                bits -= _u64(entry)
                value = (entry >> 16) * _i64(table[position + _QUANT_1])
                coefficients[_u64(table[position + _PLACE_1]) + lane] = value
            if position < _BLOCK:
                continue
            if position >= _END:
                buffer <<= _u64(entry) & _LOW
                bits -= _u64(entry)
                break
            # The last of 64 coefficients, or a symbol that is not in the table.
            position -= _u64((entry >> 8) & 255)
            buffer, bits, at = _refill(stream, buffer, bits, at)
            used, advance, value = _symbol(table, buffer)
            position += advance
            if used == _ZERO or (position > _BLOCK and position < _END):
                return buffer, bits, at, dc, -1
            buffer <<= used
            bits -= used
            if position >= _END:
                break
            value *= _i64(table[position + _QUANT_1])
            largest |= abs(value)
            coefficients[_u64(table[position + _PLACE_1]) + lane] = value
            if position == _BLOCK:
                break
    return buffer, bits, at, dc, largest if at <= end else -1


@inner_kernel
def _transform(x0, x1, x2, x3, x4, x5, x6, x7, rounding):
    """Return the inverse DCT of 8 values times 2^13 sqrt(8), plus ``rounding``, as libjpeg's jidctint.c has it.

    Loeffler, Ligtenberg and Moschytz 1989. Every sum is made 32 bits wide again: numba's are 64 bits wide.
    """
    both = _i32(_i32(x2 + x6) * _i32(4433))
    even2 = _i32(both - _i32(x6 * _i32(15137)))
    even3 = _i32(both + _i32(x2 * _i32(6270)))
    even0 = _i32(_i32(_i32(x0 + x4) << _i32(13)) + rounding)
    even1 = _i32(_i32(_i32(x0 - x4) << _i32(13)) + rounding)
    a, d = _i32(even0 + even3), _i32(even0 - even3)
    b, c = _i32(even1 + even2), _i32(even1 - even2)
    z1, z2, z3, z4 = _i32(x7 + x1), _i32(x5 + x3), _i32(x7 + x3), _i32(x5 + x1)
    z5 = _i32(_i32(z3 + z4) * _i32(9633))
    z1, z2 = _i32(z1 * _i32(-7373)), _i32(z2 * _i32(-20995))
    z3, z4 = _i32(_i32(z3 * _i32(-16069)) + z5), _i32(_i32(z4 * _i32(-3196)) + z5)
    odd0 = _i32(_i32(_i32(x7 * _i32(2446)) + z1) + z3)
    odd1 = _i32(_i32(_i32(x5 * _i32(16819)) + z2) + z4)
    odd2 = _i32(_i32(_i32(x3 * _i32(25172)) + z2) + z3)
    odd3 = _i32(_i32(_i32(x1 * _i32(12299)) + z1) + z4)
    front = _i32(a + odd3), _i32(b + odd2), _i32(c + odd1), _i32(d + odd0)
    return *front, _i32(d - odd0), _i32(c - odd1), _i32(b - odd2), _i32(a - odd3)


@inner_kernel
def _magnitude(x):
    return _i32(x ^ _i32(x >> _i32(31)))


@inner_kernel
def _columns(block, begin, half):
    """Transform the columns of a group of blocks into ``half``; return an upper bound of the magnitudes."""
    largest = _i32(0)
    row = _u64(8 * _LANES)
    for n in range(8 * _LANES):
        i, o = begin + _u64(n), _u64(n)
        y0, y1, y2, y3, y4, y5, y6, y7 = _transform(
            block[i], block[i + row], block[i + _u64(2) * row], block[i + _u64(3) * row], block[i + _u64(4) * row],
            block[i + _u64(5) * row], block[i + _u64(6) * row], block[i + _u64(7) * row], _i32(1 << 10),
        )  # fmt: skip
        y0, y1, y2, y3 = _i32(y0 >> _i32(11)), _i32(y1 >> _i32(11)), _i32(y2 >> _i32(11)), _i32(y3 >> _i32(11))
        y4, y5, y6, y7 = _i32(y4 >> _i32(11)), _i32(y5 >> _i32(11)), _i32(y6 >> _i32(11)), _i32(y7 >> _i32(11))
        half[o], half[o + row], half[o + _u64(2) * row], half[o + _u64(3) * row] = y0, y1, y2, y3
        o += _u64(4) * row
        half[o], half[o + row], half[o + _u64(2) * row], half[o + _u64(3) * row] = y4, y5, y6, y7
        low = _magnitude(y0) | _magnitude(y1) | _magnitude(y2) | _magnitude(y3)
        largest = _i32(largest | low | _magnitude(y4) | _magnitude(y5) | _magnitude(y6) | _magnitude(y7))
    return largest


@inner_kernel
def _grey(a, b, c, d):
    """Return four grey levels as 32 bits, the first at the bottom."""
    a, b = min(max(_i32(a >> _i32(18)), _i32(0)), _i32(255)), min(max(_i32(b >> _i32(18)), _i32(0)), _i32(255))
    c, d = min(max(_i32(c >> _i32(18)), _i32(0)), _i32(255)), min(max(_i32(d >> _i32(18)), _i32(0)), _i32(255))
    return _i32(_i32(a | _i32(b << _i32(8))) | _i32(_i32(c << _i32(16)) | _i32(d << _i32(24))))


@inner_kernel
def _row(half, begin, strip, to):
    """Transform one row of a group of blocks to grey levels, four to an element of ``strip``."""
    step = _u64(_LANES)
    for n in range(_LANES):
        i = begin + _u64(n)
        y0, y1, y2, y3, y4, y5, y6, y7 = _transform(
            half[i], half[i + step], half[i + _u64(2) * step], half[i + _u64(3) * step], half[i + _u64(4) * step],
            half[i + _u64(5) * step], half[i + _u64(6) * step], half[i + _u64(7) * step], _i32((128 << 18) + (1 << 17)),
        )  # fmt: skip
        o = to + _u64(2) * _u64(n)
        strip[o] = _grey(y0, y1, y2, y3)
        strip[o + _ONE] = _grey(y4, y5, y6, y7)


@inner_kernel
def _clear(values, begin, count):
    for n in range(count):
        values[begin + _u64(n)] = 0


@kernel
def _draw(coefficients, groups, half, strip, pixels, picture, width, x, y, across, down):
    """Draw a row of blocks at (x, y), ``across`` x ``down`` px of it, and set its coefficients to 0 again.

    ``pixels`` is the memory of ``strip`` as bytes. Returns an upper bound of the magnitudes between the passes.
    """
    largest = _i64(0)
    for group in range(groups):
        begin = _u64(group * _GROUP)
        largest |= _i64(_columns(coefficients, begin, half))
        for row in range(8):
            _row(half, _u64(row * 8 * _LANES), strip, _u64((row * groups + group) * 2 * _LANES))
        _clear(coefficients, begin, _GROUP)
    for row in range(down):
        _copy(pixels, _u64(row * groups * 8 * _LANES), picture, _u64((y + row) * width + x), across)
    return largest


@kernel
def decode_scan(data, begin, luma, blue, red, blocks, mcus, interval, region, size, picture):
    """Decode the luma of the one scan of a baseline JPEG in a region; False where anything is not as it should be.

    Parameters
    ----------
    data, begin
        The file, uint8, and where its entropy-coded data begins.
    luma, blue, red
        Tables of the components, (TABLE_SIZE,) int32 of :func:`make_table`; of grey pictures the first counts.
    blocks
        (components, 2) int64: how many blocks of a component are in an MCU, across and down.
    mcus
        MCUs across and down.
    interval
        MCUs between two restart markers.
    region
        x_low, y_low, x_high, y_high in MCUs.
    size
        Width and height in px.
    picture
        (height * width,) uint8; only the region is written to.
    """
    mcus_across, total = mcus[0], mcus[0] * mcus[1]
    x_low, y_low, x_high, y_high = region
    width, height = size
    components = blocks.shape[0]
    across, down = blocks[0, 0], blocks[0, 1]
    groups = ((x_high - x_low) * across + _LANES - 1) // _LANES
    coefficients = np.zeros((down, groups * _GROUP), np.int32)
    half = np.empty(_GROUP, np.int32)
    strip = np.empty(8 * groups * 2 * _LANES, np.int32)
    pixels = strip.view(np.uint8)
    ends = np.empty((total + interval - 1) // interval, np.int64)
    stream = np.empty(data.shape[0] - begin + _MARGIN, np.uint8)
    if not _unstuff(data, begin, stream, ends):
        return False

    largest = 0
    mcu = 0
    at = _ZERO
    for n in range(ends.shape[0]):
        last = min(mcu + interval, total)
        end = _u64(ends[n] + 8)
        buffer = bits = _ZERO
        dc = _i64(0)  # a plain 0 is a type of its own to numba, and has everything compiled twice
        while mcu < last:
            y = mcu // mcus_across
            x = mcu - y * mcus_across
            stored = y_low <= y < y_high and x_low <= x < x_high
            if stored:
                run = x_high - x
            elif y >= y_high or (y == y_high - 1 and x >= x_high):
                run = total
            elif y < y_low or x >= x_high:
                run = max(y_low, y + 1) * mcus_across + x_low - mcu
            else:
                run = x_low - x
            run = min(run, last - mcu)
            if components == 1:
                if stored:
                    buffer, bits, at, dc, most = _store(
                        stream, end, luma, run, x - x_low, coefficients[0], buffer, bits, at, dc
                    )
                    if most < 0:
                        return False
                    largest |= most
                else:
                    buffer, bits, at, dc, fine = _skip(stream, end, luma, run, buffer, bits, at, dc)
                    if not fine:
                        return False
            else:
                for i in range(x, x + run):
                    if stored:
                        for row in range(down):
                            first = (i - x_low) * across
                            buffer, bits, at, dc, most = _store(
                                stream, end, luma, across, first, coefficients[row], buffer, bits, at, dc
                            )
                            if most < 0:
                                return False
                            largest |= most
                    else:
                        buffer, bits, at, dc, fine = _skip(stream, end, luma, across * down, buffer, bits, at, dc)
                        if not fine:
                            return False
                    for c in range(1, components):
                        count = blocks[c, 0] * blocks[c, 1]
                        table = blue if c == 1 else red
                        buffer, bits, at, _, fine = _skip(stream, end, table, count, buffer, bits, at, _i64(0))
                        if not fine:
                            return False
            mcu += run
            if stored and x + run == x_high:
                if largest > _LARGEST:
                    return False
                left = x_low * across * 8
                for row in range(down):
                    top = (y * down + row) * 8
                    largest |= _draw(
                        coefficients[row], groups, half, strip, pixels, picture, width, left, top,
                        min(x_high * across * 8, width) - left, min(8, height - top),
                    )  # fmt: skip
                if largest > _LARGEST:
                    return False
        spare = 8 * ends[n] - (8 * _i64(at) - _i64(bits & _LOW))
        if spare < 0 or spare > 7:
            return False
        at = _u64(ends[n])
    return True
