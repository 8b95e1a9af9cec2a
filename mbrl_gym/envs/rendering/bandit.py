"""Scene of the bandit: what the pulls so far say about every arm, and the hidden truth."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.hud import Entry, draw_frame
from mbrl_gym.envs.rendering.layout import Axes, Box, ticks
from mbrl_gym.envs.rendering.palette import ACCENT, AXIS, BODY, GRID, MUTED, PANEL, TARGET, TEXT, mix

__all__ = ["draw"]

IDLE = mix(ACCENT, 0.38, PANEL)
LEGEND = (
    Entry("sample mean", "bar", IDLE),
    Entry("last pulled", "bar", ACCENT),
    Entry("95 % interval", "line", BODY),
    Entry("hidden mean", "line", TARGET),
)


DRIFT_STEPS = 200  # over which means that move leave a shade


class Statistics(NamedTuple):
    """What the pulls so far say."""

    pulls: np.ndarray[Any, Any]  # [k] times each arm was pulled
    means: np.ndarray[Any, Any]  # [k] mean rewards, 0 where never pulled
    errors: np.ndarray[Any, Any]  # [k] half widths of the 95 % intervals, 0 where unknown


def statistics(actions: list[Any], rewards: list[float], arms: int) -> Statistics:
    """Return the statistics of T pulls; one standard deviation is estimated for all arms together."""
    chosen, paid = np.array(actions, np.intp), np.array(rewards, np.float64)
    pulls = np.bincount(chosen, minlength=arms)
    means = np.bincount(chosen, paid, minlength=arms) / np.maximum(pulls, 1)
    freedom = len(chosen) - np.count_nonzero(pulls)
    deviation = np.sqrt(((paid - means[chosen]) ** 2).sum() / freedom) if freedom else 0.0
    return Statistics(pulls, means, np.where(pulls, 1.96 * deviation / np.sqrt(np.maximum(pulls, 1)), 0.0))


def draw(canvas: Canvas, episode: Episode) -> None:
    """Draw a chart of the means above a chart of the pulls."""
    task: Any = episode.task
    arms = int(task.arms)
    truth = np.asarray(task.means(np.stack([episode.states[-1], episode.states[-DRIFT_STEPS - 1 :][0]])), np.float64)
    moved = (*LEGEND, Entry(f"{DRIFT_STEPS} pulls ago", "bar", mix(TARGET, 0.25, PANEL)))
    box = draw_frame(canvas, episode, moved if (truth[0] != truth[1]).any() else LEGEND)
    stats = statistics(episode.actions, episode.rewards, arms)
    last = int(episode.actions[-1]) if episode.actions else -1
    label = 2.0 * canvas.text_size  # room for the numbers at the left
    middle = box.top + 0.7 * box.height
    gap = max(0.7 * canvas.text_size, 1.0)
    upper = Box(box.left + label, box.top, box.right, middle - gap)
    lower = Box(box.left + label, middle + gap, box.right, box.bottom - 1.3 * canvas.text_size)
    _draw_means(canvas, upper, stats, truth, last)
    _draw_pulls(canvas, lower, stats, last)


def _draw_means(canvas: Canvas, box: Box, stats: Statistics, truth: np.ndarray[Any, Any], last: int) -> None:
    """Draw bars of the sample means with whiskers, and the hidden means now and a while ago, `[2, k]`."""
    low, high = _scale(stats, truth)
    axes = Axes(box, (-0.5, truth.shape[1] - 0.5), (low, high))
    _draw_scale(canvas, axes, low, high)
    width = 0.66 * axes.x_scale
    zero, tops = axes.y(0.0), axes.y(stats.means)
    with canvas.clip(box):
        for arm in np.flatnonzero(stats.pulls):
            x, top, bottom = axes.x(arm), *sorted((zero, tops[arm]))
            canvas.panel(
                Box(x - width / 2, top, x + width / 2, bottom),
                ACCENT if arm == last else IDLE,
                min(3 * canvas.unit, width / 4),
            )
        canvas.lines([(box.left, zero), (box.right, zero)], AXIS, max(1.5 * canvas.unit, 1.0))
    _draw_truth(canvas, axes, truth)
    with canvas.clip(box):
        _draw_whiskers(canvas, axes, stats)


def _draw_truth(canvas: Canvas, axes: Axes, truth: np.ndarray[Any, Any]) -> None:
    """Draw the hidden means now, and shades from where they were."""
    half, (now, before) = 0.46 * axes.x_scale, axes.y(truth).tolist()
    places = axes.x(np.arange(truth.shape[1])).tolist()
    if now != before:
        with canvas.tint(axes.box):
            for x, y, old in zip(places, now, before, strict=True):
                canvas.panel(Box(x - half, min(y, old), x + half, max(y, old)), mix(TARGET, 0.25, PANEL))
    with canvas.clip(axes.box):
        for x, y in zip(places, now, strict=True):
            canvas.bar((x - half, y), (x + half, y), TARGET, max(3 * canvas.unit, 1.5))


def _scale(stats: Statistics, truth: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Return round limits of the means' axis that leave room for every bar, marker and whisker."""
    low = min(0.0, float(truth.min()), float((stats.means - stats.errors).min()))
    high = max(0.0, float(truth.max()), float((stats.means + stats.errors).max()))
    step = max(high - low, 1e-6) / 16
    step = 2.0 ** math.ceil(math.log2(step))  # seldom changes from one pull to the next
    return step * (math.floor(low / step) - 0.5), step * (math.ceil(high / step) + 0.5)


def _draw_scale(canvas: Canvas, axes: Axes, low: float, high: float) -> None:
    box = axes.box
    canvas.panel(box, PANEL, 8 * canvas.unit)
    most = int(box.height / (2.5 * canvas.text_size)) if canvas.text_size else 4
    for value in ticks(low, high, min(most, 8)):
        y = axes.y(value)
        canvas.lines([(box.left, y), (box.right, y)], GRID, max(canvas.unit, 0.75))
        canvas.text(
            f"{value:g}".replace("-", "\N{MINUS SIGN}"),
            (box.left - 0.5 * canvas.text_size, y),
            size=0.85,
            anchor=(1.0, 0.5),
        )


def _draw_whiskers(canvas: Canvas, axes: Axes, stats: Statistics) -> None:
    half = min(0.12 * axes.x_scale, 6 * canvas.unit)
    if half < 0.8:
        return
    width = max(1.5 * canvas.unit, 1.0)
    for arm in np.flatnonzero(stats.errors):
        x = axes.x(arm)
        low, high = axes.y(stats.means[arm] - stats.errors[arm]), axes.y(stats.means[arm] + stats.errors[arm])
        canvas.segments(
            [(x, low), (x, high), (x - half, low), (x + half, low), (x - half, high), (x + half, high)],
            BODY,
            width,
        )


def _draw_pulls(canvas: Canvas, box: Box, stats: Statistics, last: int) -> None:
    """Draw bars of the pulls, with the counts where they have room, and the arms' numbers below."""
    arms, unit, line = len(stats.pulls), canvas.unit, canvas.text_size
    axes = Axes(box, (-0.5, arms - 0.5), (0.0, max(1.0, stats.pulls.max())))
    width = 0.66 * axes.x_scale
    roomy = canvas.text_width(f"{stats.pulls.max()}", 0.8) < axes.x_scale
    top = 1.3 * line if roomy else 0.0
    height = max(box.height - top, 1.0) / max(stats.pulls.max(), 1)
    for arm, pulls in enumerate(stats.pulls):
        x, y = axes.x(arm), box.bottom - height * pulls
        color = ACCENT if arm == last else IDLE
        if pulls:
            canvas.panel(Box(x - width / 2, y, x + width / 2, box.bottom), color, min(3 * unit, width / 4))
            if roomy:
                canvas.text(f"{pulls}", (x, y - 0.6 * line), size=0.8, anchor=(0.5, 0.5))
    canvas.lines([(box.left, box.bottom), (box.right, box.bottom)], AXIS, max(1.5 * unit, 1.0))
    _label_arms(canvas, axes, last)
    if line:
        canvas.text("pulls", (box.left, box.top), size=0.8, anchor=(0.0, 1.0))


def _label_arms(canvas: Canvas, axes: Axes, last: int) -> None:
    """Write the arms' numbers, as many as have room."""
    box, line = axes.box, canvas.text_size
    arms = round(box.width / axes.x_scale)
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 10**9) if n * axes.x_scale > 2.0 * line)
    for arm in range(0, arms, every):
        color = TEXT if arm == last else MUTED
        canvas.text(f"{arm}", (axes.x(arm), box.bottom + 0.8 * line), size=0.85, color=color, anchor=(0.5, 0.5))
