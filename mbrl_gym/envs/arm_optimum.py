"""The best that a kinematic two-link arm can do, whose joints turn by at most `max_step` a step.

Angles lie in the joint plane: a pose is `[..., 2]` (theta_1, theta_2, the second measured from the first link) in rad,
a target `[..., 2]` in metres. Everything rests on one closed form, `closest`: how near the tip can come to a target
while the pose stays in a box. The poses that n steps can reach are the box of half width `n * max_step`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mbrl_gym.envs.task import Array

__all__ = [
    "Links",
    "closest",
    "placing_steps",
    "reaching_bound",
    "reaching_path",
    "reaching_return",
    "steps_to_disc",
    "tip",
]

ROUNDING = 1e-9  # [m] or [rad]; distances that differ by less are taken as equal
CORNERS = np.array([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])


class Links(NamedTuple):
    """Lengths of both links [m]."""

    first: float
    second: float


def tip(links: Links, pose: Array) -> Array:
    """Return the tip's x and y `[..., 2]` [m]."""
    first, both = pose[..., 0], pose[..., 0] + pose[..., 1]
    return np.stack(
        [
            links.first * np.cos(first) + links.second * np.cos(both),
            links.first * np.sin(first) + links.second * np.sin(both),
        ],
        axis=-1,
    )


def closest(links: Links, center: Array, half: Array, target: Array) -> tuple[Array, Array]:
    """Return the least distance `[...]` from tip to target over a box of poses, and a pose `[..., 2]` that has it.

    Inside the box the distance is least where one of the two elbows puts the tip on the target (or, for targets out
    of reach, next to it), on an edge where the joint that is free to turn points the tip at the target: six
    candidates, each turned by full turns and clamped into the box.

    Args:
        links: The arm.
        center: Centre of the box `[..., 2]`.
        half: Half widths of the box, `[..., 2]`.
        target: Target `[..., 2]`.
    """
    center, half, target = np.broadcast_arrays(center, half, target)
    base, turn = [center[..., i] for i in range(2)], [half[..., i] for i in range(2)]
    x, y = target[..., 0], target[..., 1]
    bearing, distance = np.arctan2(y, x), np.hypot(x, y)

    def first_for(second: Array) -> Array:
        tip_bearing = np.arctan2(links.second * np.sin(second), links.first + links.second * np.cos(second))
        return _clamp(bearing - tip_bearing - base[0], turn[0])

    def second_for(first: Array) -> Array:
        aim = np.arctan2(y - links.first * np.sin(first), x - links.first * np.cos(first))
        return _clamp(aim - first - base[1], turn[1])

    candidates = []
    bend = elbow_angle(links, distance)
    for sign in (-1.0, 1.0):
        for second in (_clamp(sign * bend - base[1], turn[1]), sign * turn[1]):
            candidates.append((first_for(base[1] + second), second))
        candidates.append((sign * turn[0], second_for(base[0] + sign * turn[0])))
    poses = center + np.stack([np.stack(candidate, -1) for candidate in candidates])
    distances = _distance(links, poses, target)
    best = distances.argmin(0)
    return distances.min(0), np.take_along_axis(poses, best[None, ..., None], 0)[0]


def elbow_angle(links: Links, distance: Array) -> Array:
    """Return |theta_2| in [0, pi] that brings the tip this far from the base, or as near to it as the arm allows."""
    first, second = links
    cosine = (distance * distance - first * first - second * second) / (2 * first * second)
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def steps_to_disc(
    links: Links, pose: Array, target: Array, radius: float, max_step: float, steps: int, half: Array = 0.0
) -> Array:
    """Return the least number of steps `[...]` after which the tip can be in a disc; `steps + 1` if that takes more.

    Args:
        links: The arm.
        pose: Start `[..., 2]`, or the centre of a box of starts.
        target: Centre of the disc `[..., 2]`.
        radius: Radius of the disc [m].
        max_step: Largest turn of a joint a step [rad].
        steps: Largest number of steps to look at.
        half: Half width `[...]` of the box of starts, of which the best is taken.
    """
    shape = np.broadcast_shapes(np.shape(pose)[:-1], np.shape(target)[:-1], np.shape(half))
    fewest, most = np.zeros(shape, np.int64), np.full(shape, steps + 1)
    while np.any(fewest < most):
        middle = (fewest + most) // 2
        reach = np.broadcast_to(np.asarray(half + middle * max_step)[..., None], (*shape, 2))
        inside = closest(links, pose, reach, target)[0] <= radius + ROUNDING
        active = fewest < most
        most = np.where(active & inside, middle, most)
        fewest = np.where(active & ~inside, middle + 1, fewest)
    return most


# --- reaching: the least sum of distances ---


def reaching_path(links: Links, pose: Array, target: Array, max_step: float, steps: int) -> Array:
    """Return the best known poses `[steps, 2]`, whose distances from tip to target have the least sum.

    A lattice search through the start pose finds the way round; it and the straight ways to both elbows start a
    continuous optimisation over all turns.
    """
    horizon = min(steps, math.ceil(2 * math.pi / max_step))  # by then every pose has been in reach
    if horizon == 0:
        return np.empty((0, 2))
    spread = max_step * np.arange(1, horizon + 1)[:, None]
    starts = [_lattice_path(links, pose, target, max_step, horizon)]
    for sign in (-1.0, 1.0):
        bend = sign * elbow_angle(links, np.hypot(*target))
        ahead = math.atan2(links.second * math.sin(bend), links.first + links.second * math.cos(bend))
        aim = np.array([math.atan2(target[1], target[0]) - ahead, bend])
        starts.append(pose + _clamp(aim - pose, spread))
    paths = [path for start in starts for path in (start, _polished(links, pose, target, max_step, start))]
    finished = [_finished(links, pose, target, max_step, path) for path in paths]
    best = max(finished, key=lambda path: -_distance(links, path, target).sum())
    return np.concatenate([best, np.repeat(best[-1:], steps - horizon, axis=0)])


def reaching_return(links: Links, pose: Array, target: Array, max_step: float, steps: int) -> float:
    """Return minus the sum of the distances [m] of `reaching_path`."""
    return -float(_distance(links, reaching_path(links, pose, target, max_step, steps), target).sum())


def _lattice_path(links: Links, pose: Array, target: Array, max_step: float, steps: int) -> Array:
    """Return the best path `[steps, 2]` over a lattice through the start, by dynamic programming.

    A move of the lattice is a box of cells, so that the best next value is a maximum filter along each joint. Moves
    last several steps where single ones would need too fine a lattice.
    """
    from scipy.ndimage import maximum_filter1d  # slow to import

    extent = min(steps * max_step, math.pi + 0.2)
    stride = max(1, math.ceil(extent / (40 * max_step)), math.ceil(steps / 80))
    moves, move = math.ceil(steps / stride), stride * max_step
    cells = max(5, round(160 * move / extent))  # cells of a move
    half = min(moves * cells, math.ceil(extent * cells / move))
    axis = np.arange(-half, half + 1) * (move / cells)
    grid = np.stack(np.meshgrid(pose[0] + axis, pose[1] + axis, indexing="ij"), -1)
    reward = -_distance(links, grid, target).astype(np.float32)
    values = [reward]
    for _ in range(moves - 1):
        best = maximum_filter1d(values[-1], 2 * cells + 1, axis=0, mode="nearest")
        values.append(reward + maximum_filter1d(best, 2 * cells + 1, axis=1, mode="nearest"))
    place, corners = (half, half), [pose]
    for value in reversed(values):
        low = [max(i - cells, 0) for i in place]
        window = value[low[0] : place[0] + cells + 1, low[1] : place[1] + cells + 1]
        row, column = divmod(int(window.argmax()), window.shape[1])
        place = (low[0] + row, low[1] + column)
        corners.append(grid[place])
    times = np.arange(1, steps + 1) / stride
    return np.stack([np.interp(times, np.arange(moves + 1), np.array(corners)[:, i]) for i in range(2)], -1)


def _polished(links: Links, pose: Array, target: Array, max_step: float, path: Array) -> Array:
    """Return the path after local optimisation of all turns; the distance is rounded off at the target."""
    from scipy.optimize import minimize  # slow to import

    steps = len(path)

    def cost(turns: Array, softness: float) -> tuple[float, Array]:
        poses = pose + max_step * turns.reshape(steps, 2).cumsum(0)
        forearm = tip(Links(0.0, links.second), poses)
        point = tip(links, poses)
        error = point - target
        soft = np.sqrt((error * error).sum(-1) + softness * softness)
        force = error / soft[:, None]
        torque = np.stack([_cross(point, force), _cross(forearm, force)], -1)
        return float(soft.sum()), max_step * torque[::-1].cumsum(0)[::-1].ravel()

    turns = np.clip(np.diff(path, axis=0, prepend=pose[None]) / max_step, -1.0, 1.0).ravel()
    for softness in (1e-2, 1e-3):
        scale = softness * (links.first + links.second)
        limits = {"maxiter": 200, "maxcor": 20}
        bounds = [(-1.0, 1.0)] * len(turns)
        turns = minimize(cost, turns, scale, jac=True, method="L-BFGS-B", bounds=bounds, options=limits).x
    return pose + max_step * np.clip(turns, -1.0, 1.0).reshape(steps, 2).cumsum(0)


def _finished(links: Links, pose: Array, target: Array, max_step: float, path: Array) -> Array:
    """Return the path that goes to the target once it is a step away, and stays there, if that is better."""
    before = np.concatenate([pose[None], path[:-1]])
    distance, goal = closest(links, before, np.full_like(before, max_step), target)
    arrived = np.flatnonzero(distance <= _least(links, target) + ROUNDING)
    if not len(arrived):
        return path
    first = arrived[0]
    other = np.concatenate([path[:first], np.repeat(goal[first][None], len(path) - first, axis=0)])
    return min(path, other, key=lambda way: _distance(links, way, target).sum())


def reaching_bound(links: Links, pose: Array, target: Array, max_step: float, steps: int) -> float:
    """Return an upper bound of minus the sum of distances, which no path exceeds.

    Branch and bound over the pose in one step on the way: the boxes of all other steps shrink to what is in reach of
    both the start and that pose's cell, and `closest` bounds each of them.
    """
    time = np.arange(1, steps + 1)
    distance, _ = closest(links, pose, np.repeat(max_step * time[:, None], 2, axis=1), target)
    bound = -float(distance.sum())
    arrival = int(np.argmax(distance <= distance.min(initial=np.inf) + ROUNDING)) if steps else 0
    for via in {arrival // 3, arrival // 2, 2 * arrival // 3, 5 * arrival // 6} - {0}:
        bound = min(bound, _bound_via(links, pose, target, max_step, steps, via))
    return bound


def _bound_via(links: Links, pose: Array, target: Array, max_step: float, steps: int, via: int) -> float:
    """Return the bound that branching over the pose in step `via` gives."""
    time = np.arange(1, steps + 1)[:, None, None]
    cells, half = pose[None], via * max_step
    settled = -np.inf  # the best bound of the cells that are branched no more
    for _ in range(10):
        half = half / 2
        cells = (cells[:, None] + half * CORNERS).reshape(-1, 2)
        around = half + np.abs(time - via) * max_step
        low = np.maximum(pose - time * max_step, cells - around)
        high = np.minimum(pose + time * max_step, cells + around)
        bounds = -closest(links, (low + high) / 2, (high - low) / 2, target)[0].sum(0)
        order = np.argsort(-bounds)
        kept, rest = order[:32], order[32:]
        settled = max(settled, bounds[rest].max(initial=-np.inf))
        if bounds[kept[0]] <= settled:
            break
        cells = cells[kept[bounds[kept] > settled]]
    return max(settled, float(bounds.max()))


# --- picking and placing: the least number of steps ---


def placing_steps(
    links: Links,
    pose: Array,
    pick: tuple[Array, float],
    place: tuple[Array, float],
    max_step: float,
    steps: int,
    wait: int = 1,
) -> tuple[int, int]:
    """Return the least number of steps to bring the tip into one disc and then into another, and a lower bound of it.

    Branch and bound over the pose in which the arm picks. Both numbers agree but for states on the brink of needing
    a step more, which cells of 1e-5 rad cannot tell apart. They are `steps + 1` where the steps do not suffice.

    Args:
        links: The arm.
        pose: Start `[2]`.
        pick: Centre `[2]` and radius of the first disc [m].
        place: Centre `[2]` and radius of the second disc [m].
        max_step: Largest turn of a joint a step [rad].
        steps: Largest number of steps to look at.
        wait: Steps before which the arm cannot pick.
    """
    cells, half = pose[None], min(math.pi, steps * max_step)
    fewest = least = steps + 1
    for _ in range(19):
        half = half / 2
        cells = (cells[:, None] + half * CORNERS).reshape(-1, 2)
        box = np.full_like(cells, half)
        distance, nearest = closest(links, cells, box, pick[0])
        overlapping = distance <= pick[1] + ROUNDING
        cells, box, nearest = cells[overlapping], box[overlapping], nearest[overlapping]
        if not len(cells):
            return fewest, fewest
        picked = np.maximum(_steps_between(pose, cells, half, max_step), wait)
        placed = steps_to_disc(links, cells, *place, max_step, steps, half)
        onward = box + placed[:, None] * max_step
        leaving = np.clip(closest(links, cells, onward, place[0])[1], cells - half, cells + half)
        tried = np.concatenate([nearest, cells, np.clip(pose, cells - half, cells + half), leaving])
        tried = tried[_distance(links, tried, pick[0]) <= pick[1] + ROUNDING]
        reached = np.maximum(_steps_between(pose, tried, 0.0, max_step), wait)
        totals = reached + steps_to_disc(links, tried, *place, max_step, steps)
        fewest = min(fewest, int(totals.min(initial=steps + 1)))
        least = int((picked + placed).min())
        cells = cells[picked + placed < fewest]
        if not len(cells):
            return fewest, fewest
    return fewest, least


def _steps_between(pose: Array, center: Array, half: float, max_step: float) -> Array:
    """Return the steps `[...]` from a pose to the nearest pose of a box."""
    turn = np.max(np.abs(center - pose), axis=-1) - half
    return np.maximum(np.ceil((turn - ROUNDING) / max_step), 0.0).astype(np.int64)


def _least(links: Links, target: Array) -> float:
    """Return the distance [m] of a target from the ring that the tip can reach."""
    return float(closest(links, np.zeros(2), np.full(2, math.pi), target)[0])


def _distance(links: Links, pose: Array, target: Array) -> Array:
    error = tip(links, pose) - target
    return np.hypot(error[..., 0], error[..., 1])


def _clamp(angle: Array, limit: Array) -> Array:
    """Return the angle without its full turns, clamped to [-limit, limit]."""
    return np.clip(angle - 2 * math.pi * np.round(angle / (2 * math.pi)), -limit, limit)


def _cross(arm: Array, force: Array) -> Array:
    return arm[..., 0] * force[..., 1] - arm[..., 1] * force[..., 0]
