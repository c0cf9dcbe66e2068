"""The loops of :mod:`megc_stream.flow.tvl1`, compiled.

Layout. The iterated fields are flat float32 arrays: one row, the rows of the picture, one more row, each row followed
by two elements or more that belong to no pixel. So the neighbours of element n are n - 1, n + 1, n - stride and n +
stride, no loop asks about borders, and all loops vectorise. A band of rows goes through all steps of an iteration
while it is in the cache; the dual of a row follows the primal of the row below it.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from megc_stream.flow.jit import inner_kernel, kernel, strict_kernel

__all__ = [
    "BAND_ROWS",
    "BORDER_PX",
    "DIFFERENCE",
    "FIELDS",
    "GREATEST_GREY",
    "U",
    "V",
    "double",
    "halve",
    "repeat_border",
    "shrink_solution",
    "solve_level",
    "usable",
]

_TAU = 0.25
BAND_ROWS = 8
BORDER_PX = 2
GREATEST_GREY = 1e5

_f32 = np.float32
# Unsigned, so that numba does not look for negative indices.
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_END = np.uint64(2**64 - 1)

# Order of the flat fields of a level. _SUM and DIFFERENCE are of the two pictures, _INSIDE is 1 where the warp stays
# within the picture; _SUM serves the median as well.
_IX, _IY, _RHO, _GAIN, U, V, _UP, _UQ, _VP, _VQ, _SUM, DIFFERENCE, _INSIDE = range(13)
FIELDS = 13


@inner_kernel
def _copy(source, target):
    # Numba's own assignment of slices takes seconds to compile, for the text of an error that cannot happen here.
    for n in range(target.shape[0]):
        target[n] = source[n]


@inner_kernel
def _clear(target):
    for n in range(target.shape[0]):
        target[n] = _f32(0)


@inner_kernel
def _binomial_rows(a, b, c, d, e, f, out):
    for x in range(out.shape[0]):
        out[x] = (a[x] + f[x]) + _f32(5) * (b[x] + e[x]) + _f32(10) * (c[x] + d[x])


@inner_kernel
def _binomial_columns(row, out):
    for x in range(out.shape[0]):
        n = 2 * x
        outer = row[n] + row[n + 5]
        out[x] = _f32(1 / 1024) * (outer + _f32(5) * (row[n + 1] + row[n + 4]) + _f32(10) * (row[n + 2] + row[n + 3]))


@kernel
def repeat_border(picture):
    """Fill the border of a bordered picture with its outermost pixels."""
    height = picture.shape[0] - 2 * BORDER_PX
    width = picture.shape[1] - 2 * BORDER_PX
    for y in range(BORDER_PX, height + BORDER_PX):
        for n in range(BORDER_PX):
            picture[y, n] = picture[y, BORDER_PX]
            picture[y, BORDER_PX + width + n] = picture[y, BORDER_PX + width - 1]
    for n in range(BORDER_PX):
        _copy(picture[BORDER_PX], picture[n])
        _copy(picture[BORDER_PX + height - 1], picture[BORDER_PX + height + n])


@kernel
def halve(fine, coarse, row):
    """Smooth by (1 5 10 10 5 1) / 32 both ways and keep every second pixel; both pictures have their borders."""
    last_row = fine.shape[0] - 1
    last = fine.shape[1] - 1
    height = coarse.shape[0] - 2 * BORDER_PX
    width = coarse.shape[1] - 2 * BORDER_PX
    inner = row[: last + 1]
    for y in range(height):
        top = 2 * y
        _binomial_rows(
            fine[top],
            fine[top + 1],
            fine[top + 2],
            fine[top + 3],
            fine[min(top + 4, last_row)],
            fine[min(top + 5, last_row)],
            inner,
        )
        row[last + 1] = row[last]  # read where the width is odd
        _binomial_columns(row, coarse[y + BORDER_PX, BORDER_PX : BORDER_PX + width])
    repeat_border(coarse)


@inner_kernel
def _double_rows(near, far, out):
    for x in range(out.shape[0]):
        out[x] = _f32(1.5) * near[x] + _f32(0.5) * far[x]


@inner_kernel
def _double_columns(left, middle, right, out):
    for x in range(middle.shape[0]):
        near = _f32(0.75) * middle[x]
        out[2 * x] = near + _f32(0.25) * left[x]
        out[2 * x + 1] = near + _f32(0.25) * right[x]


@kernel
def double(coarse, coarse_height, coarse_width, coarse_stride, fine, height, stride, row):
    """Bilinear, from one flat field to that of the next finer level, and times 2: px of the finer level."""
    for y in range(height):
        near = y // 2
        far = max(near - 1, 0) if y % 2 == 0 else min(near + 1, coarse_height - 1)
        a = (near + 1) * coarse_stride
        b = (far + 1) * coarse_stride
        _double_rows(coarse[a : a + coarse_width], coarse[b : b + coarse_width], row[1 : coarse_width + 1])
        row[0] = row[1]
        row[coarse_width + 1] = row[coarse_width]
        start = (y + 1) * stride
        # Where the width is odd the last element falls into the padding.
        _double_columns(
            row[:coarse_width],
            row[1 : coarse_width + 1],
            row[2 : coarse_width + 2],
            fine[start : start + 2 * coarse_width],
        )


@inner_kernel
def _taps(u, v, inside, index, weights_x, weights_y, y, right, bottom, stride):
    """Where each pixel of a row lands: first of its 4x4 taps, and Catmull-Rom's weights (Keys 1981, a = -1/2)."""
    zero = _f32(0)
    one = _f32(1)
    half = _f32(0.5)
    for x in range(u.shape[0]):
        wanted_x = _f32(x) + u[x]
        wanted_y = y + v[x]
        px = min(max(wanted_x, zero), right)
        py = min(max(wanted_y, zero), bottom)
        inside[x] = one if px == wanted_x and py == wanted_y else zero
        x0 = np.int32(px)
        y0 = np.int32(py)
        index[x] = np.uint64((y0 + BORDER_PX - 1) * stride + x0 + BORDER_PX - 1)
        f = px - _f32(x0)
        weights_x[0, x] = f * (f * (one - half * f) - half)
        weights_x[1, x] = one + f * f * (_f32(1.5) * f - _f32(2.5))
        weights_x[2, x] = f * (half + f * (_f32(2) - _f32(1.5) * f))
        weights_x[3, x] = f * f * half * (f - one)
        f = py - _f32(y0)
        weights_y[0, x] = f * (f * (one - half * f) - half)
        weights_y[1, x] = one + f * f * (_f32(1.5) * f - _f32(2.5))
        weights_y[2, x] = f * (half + f * (_f32(2) - _f32(1.5) * f))
        weights_y[3, x] = f * f * half * (f - one)


@inner_kernel
def _weigh_down(row0, row1, row2, row3, index, weights, out):
    """Sum the four rows of each pixel's taps: four values a pixel, in one vector.

    The loop ends at a mark in ``index`` instead of a count: counted, LLVM would vectorise it across pixels with gather
    instructions, which are ten times slower on processors with mitigations against data sampling.
    """
    x = 0
    while True:
        i = index[x]
        if i == _END:
            break
        j, k, m = i + _ONE, i + _TWO, i + _THREE
        a, b, c, d = weights[0, x], weights[1, x], weights[2, x], weights[3, x]
        n = 4 * x
        out[n] = a * row0[i] + b * row1[i] + c * row2[i] + d * row3[i]
        out[n + 1] = a * row0[j] + b * row1[j] + c * row2[j] + d * row3[j]
        out[n + 2] = a * row0[k] + b * row1[k] + c * row2[k] + d * row3[k]
        out[n + 3] = a * row0[m] + b * row1[m] + c * row2[m] + d * row3[m]
        x += 1


@inner_kernel
def _weigh_across(values, weights, out):
    for x in range(out.shape[0]):
        n = 4 * x
        out[x] = (
            weights[0, x] * values[n]
            + weights[1, x] * values[n + 1]
            + weights[2, x] * values[n + 2]
            + weights[3, x] * values[n + 3]
        )


@inner_kernel
def _warp(current, u, v, out, inside, height, width, stride, weights, taps, index):
    """Sample ``current`` (bordered) at x + u; ``inside`` is 0 where that lies outside, at the nearest pixel then."""
    flat = current.reshape(-1)
    wide = current.shape[1]
    index[width] = _END
    for y in range(height):
        a = (y + 1) * stride
        b = a + width
        _taps(
            u[a:b],
            v[a:b],
            inside[a:b],
            index,
            weights[0],
            weights[1],
            _f32(y),
            _f32(width - 1),
            _f32(height - 1),
            np.int32(wide),
        )
        _weigh_down(flat, flat[wide:], flat[2 * wide :], flat[3 * wide :], index, weights[1], taps)
        _weigh_across(taps, weights[0], out[a:b])


@inner_kernel
def _sum_and_difference(warped, reference, difference):
    for x in range(reference.shape[0]):
        a = warped[x]
        b = reference[x]
        warped[x] = a + b
        difference[x] = a - b


@inner_kernel
def _data_term(left, right, above, below, difference, inside, u, v, ix, iy, rho, gain, kappa):
    one = _f32(1)
    quarter = _f32(0.25)
    for n in range(u.shape[0]):
        used = inside[n]
        gx = quarter * used * (right[n] - left[n])
        gy = quarter * used * (below[n] - above[n])
        square = gx * gx + gy * gy + _f32(1e-3)
        weight = square / (square + kappa)
        inverse = one / (square * weight)
        ix[n] = gx * weight
        iy[n] = gy * weight
        rho[n] = (used * difference[n] - gx * u[n] - gy * v[n]) * inverse
        gain[n] = inverse / weight


@inner_kernel
def _linearise(reference, fields, height, width, stride, kappa):
    """Form the data term about (u, v) from the warped picture, which is in ``fields[_SUM]``.

    With g the gradient, w = g^2 / (g^2 + kappa) its weight and r(u) = I1(x + u0) - I0(x) + g . (u - u0), the step of
    eq. 15 is u - t w g, t = r(u) / (w g^2) within +- lambda theta. Stored are w g, the constant part of t and the
    factor of (w g) . u in it.
    """
    total = fields[_SUM]
    for y in range(height):
        a = (y + 1) * stride
        b = a + width
        _sum_and_difference(
            total[a:b], reference[y + BORDER_PX, BORDER_PX : BORDER_PX + width], fields[DIFFERENCE, a:b]
        )
        total[a - 1] = total[a]
        total[b] = total[b - 1]
    end = (height + 1) * stride
    _copy(total[stride : 2 * stride], total[:stride])
    _copy(total[end - stride : end], total[end : end + stride])
    a, b = stride, end
    _data_term(
        total[a - 1 : b - 1],
        total[a + 1 : b + 1],
        total[a - stride : b - stride],
        total[a + stride : b + stride],
        fields[DIFFERENCE, a:b],
        fields[_INSIDE, a:b],
        fields[U, a:b],
        fields[V, a:b],
        fields[_IX, a:b],
        fields[_IY, a:b],
        fields[_RHO, a:b],
        fields[_GAIN, a:b],
        kappa,
    )


@inner_kernel
def _primal(u, v, ix, iy, rho, gain, up, up_left, uq, uq_above, vp, vp_left, vq, vq_above, theta, bound):
    """Eqs. 12, 13 and 15 of Zach et al.: u = (u - t g) + theta div p, for both components."""
    for n in range(u.shape[0]):
        a = u[n]
        b = v[n]
        gx = ix[n]
        gy = iy[n]
        t = rho[n] + gain[n] * (gx * a + gy * b)
        t = min(max(t, -bound), bound)
        u[n] = a - t * gx + theta * (up[n] - up_left[n] + uq[n] - uq_above[n])
        v[n] = b - t * gy + theta * (vp[n] - vp_left[n] + vq[n] - vq_above[n])


@inner_kernel
def _dual(u, u_right, u_below, up, uq, v, v_right, v_below, vp, vq, mask, step):
    """Eq. 10 of Zach et al.: (p, q) = ((p, q) + s grad u) / (1 + s |grad u|), s = tau / theta, for both components.

    ``mask`` is 0 in the last column, where the difference to the right does not exist, else 1.
    """
    one = _f32(1)
    for n in range(u.shape[0]):
        used = mask[n]
        ux = (u_right[n] - u[n]) * used
        uy = u_below[n] - u[n]
        vx = (v_right[n] - v[n]) * used
        vy = v_below[n] - v[n]
        scale_u = one / (one + step * np.sqrt(ux * ux + uy * uy))
        scale_v = one / (one + step * np.sqrt(vx * vx + vy * vy))
        up[n] = (up[n] + step * ux) * scale_u
        uq[n] = (uq[n] + step * uy) * scale_u
        vp[n] = (vp[n] + step * vx) * scale_v
        vq[n] = (vq[n] + step * vy) * scale_v


@inner_kernel
def _iterate(fields, mask, height, stride, iterations, lam, theta):
    """Run ``iterations`` steps of the dual scheme on flat padded fields (see the module)."""
    ix, iy, rho, gain = fields[_IX], fields[_IY], fields[_RHO], fields[_GAIN]
    u, v = fields[U], fields[V]
    up, uq, vp, vq = fields[_UP], fields[_UQ], fields[_VP], fields[_VQ]
    bound = _f32(lam * theta)
    step = _f32(_TAU / theta)
    theta32 = _f32(theta)
    for _ in range(iterations):
        for y in range(0, height, BAND_ROWS):
            a = (y + 1) * stride
            b = (min(y + BAND_ROWS, height) + 1) * stride
            above = a - stride
            _primal(
                u[a:b],
                v[a:b],
                ix[a:b],
                iy[a:b],
                rho[a:b],
                gain[a:b],
                up[a:b],
                up[a - 1 : b - 1],
                uq[a:b],
                uq[above : b - stride],
                vp[a:b],
                vp[a - 1 : b - 1],
                vq[a:b],
                vq[above : b - stride],
                theta32,
                bound,
            )
            c = above if y > 0 else a
            d = b - stride
            if b == (height + 1) * stride:
                # The last row has a copy of itself below: its difference downwards is 0.
                _copy(u[d:b], u[b : b + stride])
                _copy(v[d:b], v[b : b + stride])
                d = b
            if d > c:
                _dual(
                    u[c:d],
                    u[c + 1 : d + 1],
                    u[c + stride : d + stride],
                    up[c:d],
                    uq[c:d],
                    v[c:d],
                    v[c + 1 : d + 1],
                    v[c + stride : d + stride],
                    vp[c:d],
                    vq[c:d],
                    mask[: d - c],
                    step,
                )


@inner_kernel
def _median_of_five(a, b, c, d, e, out):
    for n in range(out.shape[0]):
        low = max(min(a[n], b[n]), min(c[n], d[n]))
        high = min(max(a[n], b[n]), max(c[n], d[n]))
        out[n] = max(min(low, high), min(e[n], max(low, high)))


@inner_kernel
def _median(field, scratch, row, height, width, stride):
    """Median of 5 along rows, then along columns; ten times faster than that of 5x5, and as good here."""
    for y in range(height):
        a = (y + 1) * stride
        _copy(field[a : a + width], row[2 : width + 2])
        row[0] = row[1] = row[2]
        row[width + 2] = row[width + 3] = row[width + 1]
        _median_of_five(
            row[:width],
            row[1 : width + 1],
            row[3 : width + 3],
            row[4 : width + 4],
            row[2 : width + 2],
            scratch[a : a + width],
        )
    for y in range(height):
        a = (max(y - 2, 0) + 1) * stride
        b = (max(y - 1, 0) + 1) * stride
        c = (min(y + 1, height - 1) + 1) * stride
        d = (min(y + 2, height - 1) + 1) * stride
        e = (y + 1) * stride
        _median_of_five(
            scratch[a : a + width],
            scratch[b : b + width],
            scratch[c : c + width],
            scratch[d : d + width],
            scratch[e : e + width],
            field[e : e + width],
        )


@kernel
def solve_level(
    reference, current, fields, mask, row, weights, taps, index, height, width, stride, iterations, lam, theta, kappa
):
    """One warp from the start in ``fields[U]`` and ``fields[V]``, which become the solution."""
    for field in range(_UP, _VQ + 1):
        _clear(fields[field])
    _warp(
        current,
        fields[U],
        fields[V],
        fields[_SUM],
        fields[_INSIDE],
        height,
        width,
        stride,
        weights,
        taps,
        index,
    )
    _linearise(reference, fields, height, width, stride, _f32(kappa))
    _iterate(fields, mask, height, stride, iterations, lam, theta)
    _median(fields[U], fields[_SUM], row, height, width, stride)
    _median(fields[V], fields[_SUM], row, height, width, stride)


@kernel
def shrink_solution(fields, stride, height, width, coarse, coarse_stride):
    """Start a coarser level from the solution of the next finer one: mean of 2x2, in px of the coarser level."""
    eighth = _f32(0.125)
    for field in (U, V):
        for y in range((height + 1) // 2):
            a = (2 * y + 1) * stride
            b = (min(2 * y + 1, height - 1) + 1) * stride
            c = (y + 1) * coarse_stride
            for x in range((width + 1) // 2):
                m = 2 * x
                n = min(m + 1, width - 1)
                total = fields[field, a + m] + fields[field, a + n] + fields[field, b + m] + fields[field, b + n]
                coarse[field, c + x] = eighth * total


@strict_kernel
def usable(image):
    """Return whether all values are finite and of a magnitude that grey values have."""
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if not abs(image[y, x]) <= GREATEST_GREY:
                return False
    return True
