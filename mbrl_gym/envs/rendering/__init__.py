"""Pictures of the tasks, drawn with pygame. Only this package imports pygame."""

import os

import gymnasium as gym

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
try:
    import pygame  # noqa: F401
except ImportError as error:
    raise gym.error.DependencyNotInstalled('pictures of the tasks need pygame: pip install "pygame-ce"') from error

from mbrl_gym.envs.rendering.episode import Episode, Imagined
from mbrl_gym.envs.rendering.renderer import Renderer

__all__ = ["Episode", "Imagined", "Renderer"]
