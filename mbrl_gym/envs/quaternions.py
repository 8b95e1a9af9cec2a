"""Unit quaternions as tuples (w, x, y, z) of columns `[...]`, which turn the body's axes into the world's."""

from __future__ import annotations

from typing import Any

from mbrl_gym.envs.task import namespace, norm

__all__ = ["Columns", "normalised", "quaternion_of", "quaternion_rate", "rotation_matrix", "third_axis"]

Columns = tuple[Any, ...]  # arrays `[...]`


def normalised(q: Columns) -> Columns:
    """Return q / |q|."""
    scale = 1.0 / norm(*q)
    return tuple(part * scale for part in q)


def quaternion_rate(q: Columns, rates: Columns) -> Columns:
    """Return q' = q (0, rates) / 2 [1/s] for body rates [rad/s] (Beard and McLain 2012, "Small Unmanned Aircraft")."""
    w, x, y, z = q
    a, b, c = (0.5 * rate for rate in rates)
    return (
        -(x * a + y * b + z * c),
        w * a + y * c - z * b,
        w * b + z * a - x * c,
        w * c + x * b - y * a,
    )


def third_axis(q: Columns) -> Columns:
    """Return the body's z axis in the world."""
    w, x, y, z = q
    return 2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)


def rotation_matrix(q: Columns) -> Columns:
    """Return the nine entries of the rotation from body to world, row by row."""
    w, x, y, z = q
    xx, yy, zz = x * x, y * y, z * z
    xy, xz, yz, wx, wy, wz = x * y, x * z, y * z, w * x, w * y, w * z
    return (
        1.0 - 2.0 * (yy + zz),
        2.0 * (xy - wz),
        2.0 * (xz + wy),
        2.0 * (xy + wz),
        1.0 - 2.0 * (xx + zz),
        2.0 * (yz - wx),
        2.0 * (xz - wy),
        2.0 * (yz + wx),
        1.0 - 2.0 * (xx + yy),
    )


def quaternion_of(matrix: Columns) -> Columns:
    """Return the unit quaternion of a rotation matrix (nine entries, row by row), up to its sign.

    The rows of 4 q q^T are multiples of q: the one with the largest diagonal entry, which is at least 1, is taken
    and normalised (Shepperd 1978, "Quaternion from rotation matrix"). It works for all rotations, those by pi
    included, and has finite gradients.
    """
    xx, xy, xz, yx, yy, yz, zx, zy, zz = matrix
    wx, wy, wz = zy - yz, xz - zx, yx - xy
    x_y, x_z, y_z = xy + yx, xz + zx, yz + zy
    candidates = (
        (1.0 + xx + yy + zz, wx, wy, wz),
        (wx, 1.0 + xx - yy - zz, x_y, x_z),
        (wy, x_y, 1.0 - xx + yy - zz, y_z),
        (wz, x_z, y_z, 1.0 - xx - yy + zz),
    )
    xp = namespace(xx)
    best, largest = candidates[0], candidates[0][0]
    for i in range(1, 4):
        larger = candidates[i][i] > largest
        largest = xp.where(larger, candidates[i][i], largest)
        best = tuple(xp.where(larger, new, old) for new, old in zip(candidates[i], best, strict=True))
    return normalised(best)
