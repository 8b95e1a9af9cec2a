"""Recorded transitions as Minari datasets, and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec

from mbrl_gym.errors import InvalidSettingError, MissingPackageError
from mbrl_gym.models.base import Transitions
from mbrl_gym.models.spaces import event_shape, from_rows, row_dtype, to_rows
from mbrl_gym.wrappers.steps import check_recordable
from mbrl_gym.wrappers.transition_buffer import TransitionBuffer

__all__ = ["Recorder", "from_minari", "to_minari"]

Space = spaces.Space[Any]


class Recorder(Protocol):
    """An environment that keeps transitions, e.g. `RecordTransitions` or `LearnModel`."""

    env: Any

    def transitions(self) -> Transitions:
        """Return them."""
        ...


def to_minari(source: Transitions | Recorder, dataset_id: str, env: Any = None, **metadata: Any) -> Any:
    """Write transitions as a new dataset of Minari, to the folder that Minari keeps its datasets in.

    Every episode of the transitions is one of the dataset, in the order of their first steps. Minari's episodes end:
    one of which the last step is neither terminated nor truncated (it is still running, or was reset half-way) is
    marked as truncated there. `Dict`, `Tuple` and discrete observations are written as the environment gives them.

    Args:
        source: Transitions, or the environment that recorded them.
        dataset_id: Name of the dataset, "(namespace/)name-v(version)".
        env: The environment that the transitions come from: an environment, vector environment, id or spec. By default
            the recorder's own.
        **metadata: For `minari.create_dataset_from_buffers`: `algorithm_name`, `author`, `author_email`,
            `code_permalink`, `description`, `eval_env` and others; Minari warns of those that are missing.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        MissingPackageError: Minari is not installed.
        InvalidSettingError: No transitions, no environment, or an episode of which steps are missing in between.
        UnsupportedSpaceError: The environment's spaces are not those of transitions.
        ValueError: A dataset of this name exists (Minari's own).
    """
    minari = _minari()
    transitions = source if isinstance(source, Transitions) else source.transitions()
    if not isinstance(source, Transitions) and env is None:
        env = source.env
    if env is None:
        raise InvalidSettingError("transitions do not know their environment: give env, an environment or its id")
    if not len(transitions.reward):
        raise InvalidSettingError("there are no transitions to write")
    made = gym.make(env) if isinstance(env, str | EnvSpec) else env
    observation_space, action_space = _single_space(made, "observation"), _single_space(made, "action")
    check_recordable(observation_space, action_space)
    episodes = [_to_buffer(rows, observation_space, action_space) for rows in _episodes(transitions)]
    dataset = minari.create_dataset_from_buffers(
        dataset_id,
        episodes,
        env=made if isinstance(made, gym.Env) else None,
        observation_space=observation_space,
        action_space=action_space,
        **metadata,
    )
    if made is not env:
        made.close()
    return dataset


def from_minari(dataset: Any) -> Transitions:
    """Read a dataset of Minari.

    The columns of `Dict` observations are in the order of `dataset.observation_space`, which Minari sorts by name:
    give that space to a model of them, not an environment's with its parts in another order.

    Args:
        dataset: A `minari.MinariDataset`, or the name of one on this computer; `minari.load_dataset(name,
            download=True)` fetches others.

    Raises:
        MissingPackageError: Minari is not installed.
        InvalidSettingError: There is no such dataset, or one of its episodes has not one observation more than steps.
        UnsupportedSpaceError: Transitions cannot hold its observations or actions.
    """
    minari = _minari()
    if isinstance(dataset, str):
        try:
            dataset = minari.load_dataset(dataset)
        except FileNotFoundError as error:
            raise InvalidSettingError(
                f"no dataset {dataset!r} on this computer: minari.load_dataset({dataset!r}, download=True) may fetch it"
            ) from error
    check_recordable(dataset.observation_space, dataset.action_space)
    buffer = TransitionBuffer(dataset.observation_space, dataset.action_space)
    for number, episode in enumerate(dataset.iterate_episodes()):
        buffer.add(_from_episode(episode, number, dataset.observation_space, dataset.action_space))
    return buffer.transitions()


def _minari() -> Any:
    try:
        import minari
    except ImportError as error:
        raise MissingPackageError('Minari is not installed: pip install "mbrl-gym[minari]"') from error
    return minari


def _single_space(env: Any, kind: str) -> Space:
    return getattr(env, f"single_{kind}_space", None) or getattr(env, f"{kind}_space")


def _episodes(transitions: Transitions) -> Iterator[Transitions]:
    """Yield the rows of each episode."""
    _, first, counts = np.unique(transitions.episode, return_index=True, return_counts=True)
    together = np.split(np.argsort(transitions.episode, kind="stable"), np.cumsum(counts)[:-1])
    for index in np.argsort(first):
        rows = transitions.rows(together[index])
        follows = np.array_equal(rows.observation[1:], rows.next_observation[:-1], equal_nan=True)
        if not follows or (rows.terminated | rows.truncated)[:-1].any():
            raise InvalidSettingError(
                f"episode {rows.episode[0]} has missing steps: each of its {len(rows.reward)} rows must start where "
                "the one before ended, and only the last may end the episode"
            )
        yield rows


def _to_buffer(rows: Transitions, observation_space: Space, action_space: Space) -> Any:
    """Return an episode for Minari, with T + 1 observations."""
    from minari.data_collector import EpisodeBuffer

    truncated = rows.truncated.copy()
    truncated[-1] |= not rows.terminated[-1]
    return EpisodeBuffer(
        observations=from_rows(observation_space, np.concatenate((rows.observation, rows.next_observation[-1:]))),
        actions=from_rows(action_space, rows.action),
        rewards=rows.reward,
        terminations=rows.terminated,
        truncations=truncated,
        infos={},
    )


def _from_episode(episode: Any, number: int, observation_space: Space, action_space: Space) -> Transitions:
    observations, actions = (
        np.asarray(to_rows(space, values), row_dtype(space)).reshape(-1, *event_shape(space))
        for space, values in ((observation_space, episode.observations), (action_space, episode.actions))
    )
    steps = len(episode.rewards)
    if len(observations) != steps + 1:
        raise InvalidSettingError(
            f"episode {episode.id} of the dataset must have {steps + 1} observations for its {steps} steps, "
            f"but has {len(observations)}"
        )
    return Transitions(
        observations[:-1],
        actions,
        np.asarray(episode.rewards, np.float64),
        observations[1:],
        np.asarray(episode.terminations, np.bool_),
        np.asarray(episode.truncations, np.bool_),
        np.full(steps, number),
    )
