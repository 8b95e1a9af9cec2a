"""Geometry of spheres: range readings, swept distances, and obstacles that leave two points free."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mbrl_gym.envs.task import Array, namespace, norm

__all__ = ["Vector", "beside_the_line", "range_readings", "ray_range", "segment_distance"]

FAR = 1e9  # [m]
Vector = tuple[Any, Any, Any]  # x, y, z: arrays that broadcast against each other


def _dot(one: Vector, other: Vector) -> Array:
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


def ray_range(along: Array, power: Array) -> Array:
    """Return the distance from the origin, outside a sphere, to where a ray enters it; `FAR` or so if it does not.

    Gradients are finite, for rays that graze the sphere as well.

    Args:
        along: Component of the sphere's centre along the ray's unit direction.
        power: Power of the origin, |centre|^2 - radius^2.
    """
    xp = namespace(along)
    depth = along * along - power  # square of half the chord, negative where the ray's line misses
    # Below 1e-12 the root stays at 1e-6, so that it is never differentiated at zero.
    entry = along - xp.sqrt(xp.clip(depth, 1e-12, None))
    miss = xp.astype((depth <= 0.0) | (along <= 0.0), entry.dtype)
    return entry + FAR * miss  # `where` would take four times as long as all the rest


def range_readings(centre: Vector, radius: Array, directions: np.ndarray[Any, Any], limit: float) -> list[Array]:
    """Return the distances from the origin to the nearest sphere along rays, each `[...]`, at most `limit`.

    Within a sphere all of them are 0.

    Args:
        centre: Centres of the spheres, each component `[K, ...]`.
        radius: Radii `[K, ...]`.
        directions: Horizontal unit vectors `[R, 2]`.
        limit: Longest reading.
    """
    xp = namespace(radius)
    x, y, _ = centre
    power = _dot(centre, centre) - radius * radius
    # Rays lead, then spheres, then the batch.
    rays = directions.T.reshape(2, -1, *[1] * radius.ndim)
    rays = xp.asarray(rays, dtype=radius.dtype, device=radius.device)
    # A large batch goes ray by ray: in NumPy that is faster as soon as all rays at once do not fit into the cache.
    several = xp is not np or math.prod(radius.shape) * len(directions) < 2**15
    parts = [rays] if several else [rays[:, i : i + 1] for i in range(len(directions))]
    nearest = [xp.min(ray_range(part[0] * x + part[1] * y, power), axis=1) for part in parts]
    entry = nearest[0] if several else xp.concat(nearest)
    outside = xp.astype(xp.min(power, axis=0) > 0.0, entry.dtype)
    return list(outside * xp.clip(entry, 0.0, limit))


def segment_distance(point: Vector, segment: Vector) -> Array:
    """Return the smallest distance of a point to the segment from the origin to `segment`."""
    squared = _dot(segment, segment)
    xp = namespace(squared)
    # A segment shorter than 1e-6 is as good as its start.
    share = xp.clip(_dot(point, segment) / xp.clip(squared, 1e-12, None), 0.0, 1.0)
    return norm(*(p - share * s for p, s in zip(point, segment, strict=True)))


def beside_the_line(end: Vector, distance: Array, uniform: Vector, width: float) -> Vector:
    """Return a point around the line from the origin to `end` that keeps `distance` to both of its ends.

    The three uniform numbers select a place along the line, a distance from it (uniform over a disc of radius
    `width`), and an angle around it. Moving straight away from the line adds to the distances from both ends alike,
    so a point too close to an end is pushed out to where it is far enough, without drawing again.
    """
    length = norm(*end)
    xp = namespace(length)
    axis = tuple(part / length for part in end)
    along = uniform[0] * length
    nearer = xp.minimum(along, length - along)
    least = xp.sqrt(xp.clip(distance * distance - nearer * nearer, 1e-30, None))
    away = xp.maximum(width * xp.sqrt(uniform[1]), least)
    first, second = _perpendicular(axis)
    angle = math.tau * uniform[2]
    one, other = away * xp.cos(angle), away * xp.sin(angle)
    x, y, z = (along * a + one * f + other * s for a, f, s in zip(axis, first, second, strict=True))
    return x, y, z


def _perpendicular(axis: tuple[Any, ...]) -> tuple[Vector, Vector]:
    """Return two unit vectors at right angles to a unit vector, or to the zero vector, and to each other.

    Duff et al. 2017, "Building an orthonormal basis, revisited", Journal of Computer Graphics Techniques 6(1).
    """
    x, y, z = axis
    xp = namespace(x)
    sign = xp.where(z >= 0.0, xp.ones_like(z), -xp.ones_like(z))
    a = -1.0 / (sign + z)
    b = x * y * a
    return (1.0 + sign * x * x * a, sign * b, -sign * x), (b, sign + y * y * a, -y)
