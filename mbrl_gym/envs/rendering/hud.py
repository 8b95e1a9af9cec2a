"""The frame around every scene: numbers at the top, the legend at the bottom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.layout import Box, number
from mbrl_gym.envs.rendering.palette import ACCENT, BODY, MUTED, TEXT, Color, mix

__all__ = ["Entry", "draw_frame"]


class Entry(NamedTuple):
    """One mark of the legend."""

    label: str
    mark: Literal["arrow", "bar", "dashes", "disc", "line", "ring"]
    color: Color


PLAN = Entry("imagined", "line", ACCENT)
OTHERS = Entry("other plans", "line", mix(BODY, 0.35))
SPREAD = Entry("model uncertainty", "bar", mix(ACCENT, 0.3))


def draw_frame(canvas: Canvas, episode: Episode, legend: Sequence[Entry]) -> Box:
    """Write step, last reward and return so far, and the legend; return the box that is left for the scene.

    The legend also names what an agent imagines. A picture that is too small for text is left to the scene as a whole.
    """
    if not canvas.text_size:
        return canvas.box.inset(1.0, 1.0)
    legend = (*legend, *_imagined_entries(episode))
    line, margin = canvas.text_size, 1.2 * canvas.text_size
    rewards = episode.rewards
    texts = (
        ("STEP", f"{len(rewards):,}"),
        ("REWARD", number(rewards[-1]) if rewards else "\N{EN DASH}"),
        ("RETURN", number(sum(rewards))),
    )
    column = min(7.0 * line, (canvas.size[0] - 2 * margin) / len(texts))
    for i, (label, value) in enumerate(texts):
        canvas.text(label, (margin + i * column, 1.35 * line), size=0.78)
        size = 1.3 * min(1.0, 0.95 * column / canvas.text_width(value, 1.3))
        canvas.text(value, (margin + i * column, 2.6 * line), size=size, color=TEXT)
    bottom = _draw_legend(canvas, legend, margin) if canvas.size[1] >= 20 * line else canvas.size[1] - margin / 2
    return Box(margin, 3.9 * line, canvas.size[0] - margin, bottom)


def _imagined_entries(episode: Episode) -> list[Entry]:
    imagined = episode.imagined
    if imagined is None:
        return []
    entries = [PLAN]
    if len(imagined.plans) > 1:
        entries.append(OTHERS)
    if imagined.particles is not None and len(imagined.particles) > 1:
        entries.append(SPREAD)
    return entries


def _draw_legend(canvas: Canvas, legend: Sequence[Entry], margin: float) -> float:
    """Write the legend in as many rows as it takes and return the y above them [px]."""
    size, line = 0.9, 1.6 * canvas.text_size
    mark, gap = 1.6 * canvas.text_size, 0.5 * canvas.text_size
    places, x, row = [], margin, 0
    for entry in legend:
        width = mark + gap + canvas.text_width(entry.label, size)
        if x > margin and x + width > canvas.size[0] - margin:
            x, row = margin, row + 1
        places.append((x, row))
        x += width + 1.5 * canvas.text_size
    top = canvas.size[1] - 0.5 * canvas.text_size - (row + 1) * line
    for entry, (x, row) in zip(legend, places, strict=True):
        y = top + (row + 0.5) * line
        _draw_mark(canvas, entry, Box(x, y - 0.4 * canvas.text_size, x + mark, y + 0.4 * canvas.text_size))
        canvas.text(entry.label, (x + mark + gap, y), size=size, color=MUTED)
    return top - 0.5 * canvas.text_size


def _draw_mark(canvas: Canvas, entry: Entry, box: Box) -> None:
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    width = max(2.0 * canvas.unit, 1.6)
    match entry.mark:
        case "arrow":
            canvas.arrow((box.left, y), (box.right, y), entry.color, width)
        case "bar":
            canvas.panel(Box(x - box.height / 2, box.top, x + box.height / 2, box.bottom), entry.color, 2 * canvas.unit)
        case "dashes":
            canvas.dashes((box.left, y), (box.right, y), entry.color, width, box.width / 5)
        case "disc":
            canvas.disc((x, y), box.height / 2, entry.color)
        case "line":
            canvas.bar((box.left + width / 2, y), (box.right - width / 2, y), entry.color, width)
        case "ring":
            canvas.ring((x, y), box.height / 2, entry.color, width)
