"""Turns a running episode into a picture or shows it in a window."""

from __future__ import annotations

import importlib
import weakref
from typing import Any, ClassVar

import numpy as np
import pygame

from mbrl_gym.envs.rendering.canvas import Canvas
from mbrl_gym.envs.rendering.episode import Episode
from mbrl_gym.envs.rendering.layout import Inverse

__all__ = ["Renderer"]


class Renderer:
    """Draws episodes of one environment, each with the scene that its task names.

    Args:
        render_mode: "rgb_array" draws in memory only; "human" shows a window.
        size: Width and height of the picture, or of the window when it opens [px].
        fps: Frames a second that "human" shows.
    """

    _shown: ClassVar[weakref.WeakSet[Renderer]] = weakref.WeakSet()  # those with a window

    def __init__(self, render_mode: str, size: tuple[int, int], fps: int) -> None:
        self._human = render_mode == "human"
        self._size = size
        self._fps = fps
        self._canvas: Canvas | None = None
        self._window: pygame.Window | None = None
        self._clock = pygame.time.Clock()
        self.dismissed = False  # whether the user closed the window
        self._inverse: Inverse | None = None

    def draw(self, episode: Episode) -> np.ndarray[Any, Any] | None:
        """Return the picture `[height, width, 3]` (uint8), or show it and return None."""
        if not self._human:
            picture = pygame.image.tobytes(self._paint(episode, self._size), "RGB")
            width, height = self._size
            return np.frombuffer(picture, np.uint8).reshape(height, width, 3).copy()
        if not self.dismissed:
            self._show(episode)
        return None

    def locate(self, x: float, y: float) -> np.ndarray[Any, Any] | None:
        """Return where in the world a point of the last picture [px] is, in the target's coordinates.

        A scene in three dimensions takes the depth of the target. None if the scene has no target to move.
        """
        return None if self._inverse is None else self._inverse(x, y)

    def close(self) -> None:
        """Close the window, if there is one; the next `draw` opens another."""
        if self._window is not None and pygame.display.get_init():
            self._window.destroy()
        self._window = None
        self.dismissed = False
        self._shown.discard(self)

    def _paint(self, episode: Episode, size: tuple[int, int]) -> pygame.Surface:
        if self._canvas is None or self._canvas.size != size:
            self._canvas = Canvas(size)
        self._canvas.clear()
        scene = importlib.import_module(f"mbrl_gym.envs.rendering.{episode.task.scene}")
        with np.errstate(over="ignore", invalid="ignore"):  # a diverging model imagines infinities
            self._inverse = scene.draw(self._canvas, episode)
        return self._canvas.finish()

    def _show(self, episode: Episode) -> None:
        self._open()
        self._heed_events()
        if self._window is None:
            return
        surface = self._window.get_surface()
        width, height = surface.get_size()
        surface.blit(self._paint(episode, (max(width, 16), max(height, 16))), (0, 0))
        self._window.flip()
        self._clock.tick(self._fps)

    def _open(self) -> None:
        """Open a window where there is none, or where somebody's `pygame.quit()` took it."""
        if self._window is not None:
            try:
                self._window.get_surface()
                return
            except pygame.error:
                self._window = None
        pygame.display.init()
        self._window = pygame.Window("mbrl-gym", self._size, resizable=True)
        self._window.get_surface()  # makes the surface that the first `flip` needs
        self._shown.add(self)

    @classmethod
    def _heed_events(cls) -> None:
        """Close the windows that the user closed. Keys stay in the queue, for programs that read them."""
        for event in pygame.event.get(exclude=(pygame.KEYDOWN, pygame.KEYUP)):
            for renderer in list(cls._shown):
                if event.type == pygame.QUIT or (event.type == pygame.WINDOWCLOSE and event.window is renderer._window):
                    renderer.close()
                    renderer.dismissed = True
