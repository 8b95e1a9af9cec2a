"""What a trained agent shows of itself: an episode, and how good its world model is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.base_class import BaseAlgorithm

from mbrl_gym.errors import MbrlGymError
from mbrl_gym.models import WorldModel, evaluate_model
from mbrl_gym.models.plots import plot_error
from mbrl_gym.scores import EVALUATION_SEEDS

from ..collect import random_transitions
from .film import write_gif
from .records import replacing

__all__ = ["FILM", "MODEL", "draw_film", "draw_model"]

FILM, MODEL = "film.gif", "model.png"
SIZE = (320, 240)  # of films, many of which are on one page [px]
MAX_BYTES = 400_000
STEPS = 1000  # random ones, with which a model is compared


def draw_film(env_id: str, settings: dict[str, Any], agent: Any, folder: Path) -> None:
    """Write the first evaluation episode as `film.gif`, with the agent's plans; nothing where it cannot be drawn."""
    try:
        write_gif(env_id, agent, folder / FILM, seed=EVALUATION_SEEDS[0], size=SIZE, max_bytes=MAX_BYTES, **settings)
    except (MbrlGymError, gym.error.Error, AttributeError):  # no picture, or an agent that has not begun to learn
        (folder / FILM).unlink(missing_ok=True)


def draw_model(env_id: str, settings: dict[str, Any], agent: BaseAlgorithm, folder: Path, title: str) -> None:
    """Write the errors of the agent's world model on random episodes as `model.png`, if it has one."""
    model = getattr(agent, "world_model", None)
    if not isinstance(model, WorldModel) or not model.fitted:
        return
    with gym.make(env_id, **settings) as env:
        length = env.spec.max_episode_steps if env.spec is not None else None
        transitions = random_transitions(env, STEPS, EVALUATION_SEEDS[0])
    horizons = [horizon for horizon in (1, 2, 5, 10, 20) if length is None or horizon <= length]
    try:
        report = evaluate_model(model, transitions, horizons=horizons, starts=200)
    except MbrlGymError:  # episodes that are shorter than the horizons, or a model that is given its dynamics
        return
    with replacing(folder / MODEL) as path:
        plot_error(report, title=title).savefig(path, dpi=100)
