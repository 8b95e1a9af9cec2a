"""Antialiased drawing in picture coordinates.

Points are `[..., 2]` in pixels of the finished picture: x to the right, y downwards, fractions allowed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pygame
from pygame import gfxdraw

from mbrl_gym.envs.rendering.layout import Box
from mbrl_gym.envs.rendering.palette import BACKGROUND, MUTED, TEXT, Color, mix

__all__ = ["Canvas"]

Points = Any  # [..., 2] numbers


class Canvas:
    """A picture under construction: shapes are drawn enlarged and scaled down, texts come on top.

    Attributes:
        size: Width and height [px].
        unit: Factor of line widths and distances: 1 at 640 x 480.
        text_size: Height of normal text [px]; 0 where the picture is too small for any.
    """

    _fonts: ClassVar[dict[int, pygame.Font]] = {}  # shared by all canvases

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = width, height = size
        self.box = Box(0.0, 0.0, float(width), float(height))
        self.unit = max(0.3, math.sqrt(min(size) / 480 * math.sqrt(width * height / 307_200)))
        text_size = min(max(11, round(14 * (width * height / 307_200) ** 0.35)), min(size) // 16)
        self.text_size = text_size if text_size >= 11 else 0
        self._zoom = 4 if width * height <= 100_000 else 3 if width * height <= 500_000 else 2
        self._large = pygame.Surface((width * self._zoom, height * self._zoom), 0, 32)
        self._surface = pygame.Surface(size, 0, 32)
        self._limit = min(4 * self._zoom * max(size), 32_000)  # gfxdraw counts in 16 bits
        self._film: pygame.Surface | None = None  # made when a scene first tints
        self._backdrop: tuple[Any, pygame.Surface] | None = None  # key, picture
        self._texts: list[tuple[pygame.Surface, tuple[int, int]]] = []

    def clear(self) -> None:
        """Start a new picture."""
        self._large.set_clip(None)
        self._large.fill(BACKGROUND)
        self._texts.clear()

    def finish(self) -> pygame.Surface:
        """Return the finished picture, which the canvas reuses."""
        self._large.blits(self._texts, False)
        return pygame.transform.smoothscale(self._large, self.size, self._surface)

    def _pixels(self, points: Points) -> list[Any]:
        """Return the finite points as pixels of the enlarged picture, within reach of its edges."""
        if isinstance(points, list):  # few: NumPy would take longer
            return [pixel for x, y in points for pixel in self._pixel(x, y)]
        points = np.asarray(points, np.float64).reshape(-1, 2) * self._zoom
        if not np.abs(points).max(initial=0.0) <= self._limit:
            points = points[np.isfinite(points).all(-1)].clip(-self._limit, self._limit)
        pixels: list[Any] = np.rint(points).astype(np.intp).tolist()
        return pixels

    def _pixel(self, x: float, y: float) -> list[tuple[int, int]]:
        if not math.isfinite(x + y):
            return []
        zoom, limit = self._zoom, self._limit
        return [(round(min(max(zoom * x, -limit), limit)), round(min(max(zoom * y, -limit), limit)))]

    def _width(self, width: float) -> int:
        return max(1, round(width * self._zoom))

    @contextmanager
    def clip(self, box: Box) -> Iterator[None]:
        """Draw shapes within `box` only."""
        self._large.set_clip(self._area(box))
        yield
        self._large.set_clip(None)

    def _area(self, box: Box) -> pygame.Rect:
        zoom = self._zoom
        return pygame.Rect(
            round(box.left * zoom), round(box.top * zoom), round(box.width * zoom), round(box.height * zoom)
        )

    def backdrop(self, box: Box, key: Any, paint: Callable[[], None]) -> None:
        """Fill the box with what `paint` draws (no texts), or with what it drew the last time under the same key."""
        area = self._area(box)
        if self._backdrop is None or self._backdrop[0] != (box, key):
            with self.clip(box):
                paint()
            self._backdrop = (box, key), self._large.copy()
        else:
            self._large.blit(self._backdrop[1], area, area)

    @contextmanager
    def tint(self, box: Box) -> Iterator[None]:
        """Draw shapes within `box` like coloured glass: what lies below shows through, and overlaps are no darker."""
        if self._film is None:
            self._film = pygame.Surface(self._large.get_size(), 0, 32)
        area = self._area(box).clip(self._large.get_rect())
        self._large, self._film = self._film, self._large
        self._large.fill((255, 255, 255), area)
        self._large.set_clip(area)
        yield
        self._large.set_clip(None)
        self._large, self._film = self._film, self._large
        self._large.blit(self._film, area, area, pygame.BLEND_RGB_MULT)

    def lines(self, points: Points, color: Color, width: float = 1.0) -> None:
        """Draw a path through points `[M, 2]`."""
        pixels = self._pixels(points)
        if len(pixels) > 1:
            pygame.draw.lines(self._large, color, False, pixels, self._width(width))

    def segments(self, points: Points, color: Color, width: float = 1.0) -> None:
        """Draw M separate lines between pairs of points `[M, 2, 2]`, none of them with a NaN."""
        pixels, thick = self._pixels(points), self._width(width)
        for start, end in zip(pixels[::2], pixels[1::2], strict=False):
            pygame.draw.line(self._large, color, start, end, thick)

    def trail(self, points: Points, color: Color, width: float = 2.0, background: Color = BACKGROUND) -> None:
        """Draw a path through points `[M, 2]`, oldest first, that fades with age."""
        pixels = self._pixels(points)
        size = max(1, math.ceil(len(pixels) / 10))
        for start in range(0, len(pixels) - 1, size):
            share = min(start + size, len(pixels)) / len(pixels)
            part = pixels[start : start + size + 1]
            shade = mix(color, 0.1 + 0.7 * share * share, background)
            pygame.draw.lines(self._large, shade, False, part, self._width(width * (0.6 + 0.4 * share)))

    def bar(self, start: Points, end: Points, color: Color, width: float) -> None:
        """Draw a straight line with rounded ends."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        if length > 0:
            dx, dy = (x1 - x0) * width / (2 * length), (y1 - y0) * width / (2 * length)
            self.polygon([(x0 - dy, y0 + dx), (x1 - dy, y1 + dx), (x1 + dy, y1 - dx), (x0 + dy, y0 - dx)], color)
        self.disc(start, width / 2, color)
        self.disc(end, width / 2, color)

    def dashes(self, start: Points, end: Points, color: Color, width: float = 1.0, dash: float = 6.0) -> None:
        """Draw a dashed line, with dashes and gaps of `dash` pixels."""
        start, end = np.asarray(start, np.float64), np.asarray(end, np.float64)
        count = min(math.ceil(math.hypot(*(end - start)) / (2 * dash)), 500)
        if count:
            share = np.arange(2 * count).reshape(count, 2, 1) / (2 * count - 1)
            self.segments(start + share * (end - start), color, width)

    def arrow(self, start: Points, end: Points, color: Color, width: float = 2.0) -> None:
        """Draw an arrow; the head shrinks with short ones."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0)
        if not 0.5 < length < math.inf:
            return
        head = min(4.5 * width, 0.8 * length)
        dx, dy = (x1 - x0) / length, (y1 - y0) / length
        x, y = x1 - head * dx, y1 - head * dy
        if length > head:
            self.bar((x0, y0), (x + 0.3 * head * dx, y + 0.3 * head * dy), color, width)
        half = 0.5 * head
        self.polygon([(x1, y1), (x - half * dy, y + half * dx), (x + half * dy, y - half * dx)], color)

    def disc(self, center: Points, radius: float, color: Color) -> None:
        """Draw a filled circle."""
        for pixel in self._pixel(*center):
            pygame.draw.circle(self._large, color, pixel, max(1, round(radius * self._zoom)))

    def ring(self, center: Points, radius: float, color: Color, width: float) -> None:
        """Draw a circle whose line lies inside the radius."""
        for pixel in self._pixel(*center):
            pygame.draw.circle(self._large, color, pixel, max(1, round(radius * self._zoom)), self._width(width))

    def polygon(self, points: Points, color: Color, opacity: float = 1.0) -> None:
        """Draw a filled polygon `[M, 2]`."""
        pixels = self._pixels(points)
        if len(pixels) < 3:
            return
        if opacity < 1.0:
            gfxdraw.filled_polygon(self._large, pixels, (*color, round(255 * opacity)))
        else:
            pygame.draw.polygon(self._large, color, pixels)

    def panel(self, box: Box, color: Color, radius: float = 0.0) -> None:
        """Draw a filled rectangle with rounded corners."""
        (left, top), (right, bottom) = self._pixels([(box.left, box.top), (box.right, box.bottom)])
        rect = (left, top, max(right - left, 1), max(bottom - top, 1))
        pygame.draw.rect(self._large, color, rect, border_radius=round(radius * self._zoom))

    def text(
        self,
        text: str,
        place: tuple[float, float],
        *,
        color: Color = MUTED,
        size: float = 1.0,
        anchor: tuple[float, float] = (0.0, 0.5),
    ) -> float:
        """Write on top of all shapes and return the width [px], 0 where nothing was written.

        Args:
            text: One line.
            place: Where the anchor goes [px].
            color: Colour of the letters.
            size: Height in units of `text_size`.
            anchor: Point of the text's box, as shares of its width and height.
        """
        if not self.text_size:
            return 0.0
        letters = self._letters(text, size, color)
        width, height = letters.get_size()
        x, y = self._zoom * place[0] - anchor[0] * width, self._zoom * place[1] - anchor[1] * height
        self._texts.append((letters, (round(x), round(y))))
        return width / self._zoom

    def text_width(self, text: str, size: float = 1.0) -> float:
        """Return the width of a text [px]; 0 where the picture is too small for any."""
        return self._letters(text, size, TEXT).get_width() / self._zoom if self.text_size else 0.0

    def _letters(self, text: str, size: float, color: Color) -> pygame.Surface:
        """Return the enlarged text. Anybody's `pygame.quit()` may have ended the fonts meanwhile."""
        height = round(size * self.text_size * self._zoom)
        pygame.font.init()
        try:
            return self._fonts[height].render(text, True, color)
        except (KeyError, pygame.error):
            self._fonts[height] = pygame.Font(None, round(1.45 * height))
            return self._fonts[height].render(text, True, color)
