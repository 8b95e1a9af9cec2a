"""Pictures of what an agent imagines: the wrapper that draws it, and what planning agents tell."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.wrappers import RecordVideo
from stable_baselines3.common.evaluation import evaluate_policy

from mbrl_gym.agents import MPC, PETS
from mbrl_gym.agents.planning import Plan
from mbrl_gym.envs.rendering import Renderer
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.wrappers import Decision, PlanningAgent, ShowPlans

ARM, DRIFT = "mbrl/Arm-v0", "mbrl/Drift-v0"
PLANNER = {"horizon": 4, "population": 16, "iterations": 2}


def pictured(env_id: str = ARM, **settings: Any) -> gym.Env:
    return gym.make(env_id, render_mode="rgb_array", width=160, height=120, **settings)


class Fixed:
    """Decides for the same action always, and expects to move along the diagonal; its state counts decisions."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, Any, bool]] = []

    def decide(self, observation: Any, state: Any = None, episode_start: Any = None) -> Decision:
        self.asked.append((np.array(observation), state, bool(episode_start[0])))
        plans = np.asarray(observation) + 0.1 * np.arange(1, 6)[None, :, None]
        action = np.array([0.5, -0.5], np.float32)
        return Decision(action, 0 if state is None else state + 1, plans, np.concatenate([plans, plans + 0.05]))


@pytest.fixture(scope="module")
def agent() -> MPC:
    """An agent whose ensemble has seen little."""
    settings = {"learning_starts": 40, "train_freq": 40, "planner_kwargs": PLANNER, "reward": "exact"}
    return MPC("iCEM", ARM, seed=1, model_kwargs={"hidden": [16], "max_epochs": 5}, **settings).learn(45)


# What agents tell -----------------------------------------------------------------------------------------------


def test_an_exact_model_imagines_what_happens() -> None:
    env = gym.make(ARM)
    exact = MPC("iCEM", ARM, model="exact", planner_kwargs=PLANNER, seed=0)
    observation, _ = env.reset(seed=1)
    action, state, plans, particles = exact.decide(observation)
    assert isinstance(state, Plan)
    assert particles is None
    assert plans.shape == (1 + state.elites.shape[1], 4, 8)
    np.testing.assert_array_equal(action, state.actions[0, 0])
    start = env.unwrapped.get_state()
    for path, actions in zip(plans, [state.actions[0], *state.elites[0]], strict=True):
        env.unwrapped.set_state(start)
        for expected, taken in zip(path, actions, strict=True):
            np.testing.assert_allclose(env.step(np.asarray(taken))[0], expected, atol=1e-5)


def test_an_ensemble_tells_what_each_member_expects(agent: MPC) -> None:
    observation, _ = gym.make(ARM).reset(seed=3)
    decision = agent.decide(observation)
    members = agent.world_model.particle_unit
    assert decision.particles is not None
    assert decision.particles.shape == (members, 4, 8)
    np.testing.assert_allclose(decision.plans[0], decision.particles.mean(0), atol=1e-6)
    assert (decision.particles.std(0).max(-1) > 0).all()
    model = agent.world_model
    state, actions = model.start(torch.as_tensor(observation)[None], members), torch.as_tensor(decision.state.actions)
    for step in range(4):
        prediction = model.step(state, actions[:, step])
        state = prediction.state
        np.testing.assert_allclose(prediction.observation[:, 0].detach(), decision.particles[:, step], atol=1e-5)


def test_decisions_are_those_of_predict(agent: MPC) -> None:
    observation, _ = gym.make(ARM).reset(seed=3)
    first, second = agent.decide(observation), None
    action, plan = agent.predict(observation, deterministic=True)
    np.testing.assert_array_equal(action, first.action)
    for start in (np.zeros(1, bool), np.ones(1, bool)):
        second = agent.decide(observation, first.state, start)
        action, _ = agent.predict(observation, plan, start, deterministic=True)
        np.testing.assert_array_equal(action, second.action)


def test_samples_of_the_model_noise_are_particles() -> None:
    pets = PETS(
        "CEM",
        DRIFT,
        seed=0,
        learning_starts=30,
        train_freq=30,
        reward="exact",
        planner_kwargs={"horizon": 3, "population": 20, "iterations": 1, "elites": 5, "particles": 10},
        model_kwargs={"hidden": [8], "max_epochs": 3},
    ).learn(31)
    one, again = (pets.decide(np.array([1.0], np.float32)).particles for _ in range(2))
    assert one is not None
    assert one.shape == (10, 3, 1)
    assert len(np.unique(one[:, 0])) == 10
    np.testing.assert_array_equal(one, again)  # deterministic, as the decision is


@pytest.mark.parametrize(("limit", "seen"), [(-10.0, 4), (10.0, 1)])
def test_nothing_is_imagined_after_a_predicted_end(limit: float, seen: int) -> None:
    exact = MPC(
        "iCEM",
        DRIFT,
        model="exact",
        planner_kwargs=PLANNER,
        termination=lambda observation: observation[..., 0] < limit,
        seed=0,
    )
    plans = exact.decide(np.array([4.0], np.float32)).plans
    assert np.isfinite(plans[:, :seen]).all()
    assert np.isnan(plans[:, seen:]).all()


# The wrapper ----------------------------------------------------------------------------------------------------


def test_every_picture_shows_the_plan_for_its_own_state() -> None:
    fixed = Fixed()
    env, plain = ShowPlans(pictured(), fixed), pictured()
    for each in (env, plain):
        each.reset(seed=0)
    for _ in range(3):
        image = env.render()
        observation = plain.unwrapped.task.observation(plain.unwrapped.get_state()["state"])
        decision = Fixed().decide(observation, None, [True])
        plain.unwrapped.imagine(decision.plans, decision.particles)
        np.testing.assert_array_equal(image, plain.render())
        np.testing.assert_array_equal(env.render(), image)
        for each in (env, plain):
            each.step(env.decide() if each is env else decision.action)
    assert [state for _, state, _ in fixed.asked] == [None, 0, 1]  # once a state, however many pictures
    assert [start for *_, start in fixed.asked] == [True, False, False]


def test_the_last_picture_shows_no_plan_and_a_new_episode_starts_afresh() -> None:
    fixed = Fixed()
    env = ShowPlans(pictured(max_episode_steps=2), fixed)
    for _ in range(2):
        env.reset(seed=0)
        for _ in range(2):
            *_, truncated, _ = env.step(env.decide())
        assert truncated
        asked = len(fixed.asked)
        shown = env.render()
        assert len(fixed.asked) == asked
        env.unwrapped.imagine(None)
        np.testing.assert_array_equal(env.env.render(), shown)
    assert [start for *_, start in fixed.asked] == [True, False] * 2
    assert [state for _, state, _ in fixed.asked] == [None, 0] * 2


def test_it_changes_neither_the_episode_nor_the_agent(agent: MPC) -> None:
    def play(env: gym.Env) -> list[Any]:
        observation, _ = env.reset(seed=2)
        state, start, seen = None, np.ones(1, bool), [observation]
        for _ in range(4):
            action, state = agent.predict(observation, state, start, deterministic=True)
            if isinstance(env, ShowPlans):
                np.testing.assert_array_equal(env.decide(), action)  # what is shown is what is done
            observation, start = env.step(action)[0], np.zeros(1, bool)
            env.render()
            seen.append(observation)
        return seen

    np.testing.assert_array_equal(play(ShowPlans(pictured(), agent)), play(pictured()))


def test_videos_show_the_plans(tmp_path: Path, agent: MPC) -> None:
    env = RecordVideo(ShowPlans(pictured(max_episode_steps=6), agent), str(tmp_path / "videos"), disable_logger=True)
    observation, _ = env.reset(seed=0)
    plain = pictured(max_episode_steps=6)
    plain.reset(seed=0)
    assert (np.asarray(env.recorded_frames[0]) != plain.render()).any()
    for _ in range(5):
        observation, *_ = env.step(agent.predict(observation, deterministic=True)[0])
    recorded = list(env.recorded_frames)
    assert len(recorded) == 6
    assert all((one != other).any() for one, other in itertools.pairwise(recorded))
    env.step(agent.predict(observation, deterministic=True)[0])
    env.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 1000


def test_evaluate_policy_runs_through_it(agent: MPC) -> None:
    settings = {"n_eval_episodes": 1, "warn": False}
    shown = ShowPlans(pictured(max_episode_steps=5), agent)
    shown.reset(seed=0)
    mean, _ = evaluate_policy(agent, shown, **settings)
    assert np.isfinite(mean)


def test_windows_show_one_picture_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[int, int | None]] = []

    def note(self: Renderer, episode: Any) -> None:
        imagined = episode.imagined
        shown.append((len(episode.actions), None if imagined is None else imagined.plans.shape[1]))

    monkeypatch.setattr(Renderer, "draw", note)
    env = ShowPlans(gym.make(ARM, render_mode="human", max_episode_steps=3), Fixed())
    for _ in range(2):
        shown.clear()
        env.reset(seed=0)
        assert env.render_mode == "human"
        for _ in range(3):
            env.step(env.decide())
        assert shown == [(0, 5), (1, 5), (2, 5), (3, None)]
    with pytest.raises(InvalidSettingError, match="no option 'unknown'"):
        env.reset(options={"unknown": 1})
    assert env.render_mode == "human"

    # Without the wrapper a plan lasts for several steps, and every step draws what is left of it.
    shown.clear()
    env = gym.make(ARM, render_mode="human")
    observation, _ = env.reset(seed=0)
    env.unwrapped.imagine(Fixed().decide(observation, None, [True]).plans)
    for _ in range(6):
        env.step(np.zeros(2, np.float32))
    assert shown == [(0, None), (1, 4), (2, 3), (3, 2), (4, 1), (5, None), (6, None)]

    # Whoever calls `render` shows the plan to come, and the step draws no second picture.
    shown.clear()
    for _ in range(2):
        env.unwrapped.imagine(Fixed().decide(observation, None, [True]).plans)
        env.render()
        env.step(np.zeros(2, np.float32))
    env.step(np.zeros(2, np.float32))
    assert shown == [(6, 5), (7, 5), (9, 3)]


def test_a_moved_target_makes_a_new_decision() -> None:
    fixed = Fixed()
    env = ShowPlans(pictured(), fixed)
    env.reset(seed=0)
    env.render()
    observation = env.move_target([0.3, 0.4])
    np.testing.assert_allclose(observation[4:6], [0.3, 0.4], atol=1e-6)
    env.render()
    assert len(fixed.asked) == 2
    np.testing.assert_array_equal(fixed.asked[1][0], observation)
    assert fixed.asked[1][1:] == (None, True)


@pytest.mark.parametrize(
    "point",
    [
        *(["a", "b"], ["0.1", "0.2"], [np.nan, 0.0], [0.0, -np.inf], [1e300, 0.0], [1.0], [[0.1, 0.2]], [[1], 2]),
        *([None, 0.0], [1j, 0.0], [True, False], None, "ab", 0.5, [0.1, 0.2, np.nan], ["x", "y", "z"]),
    ],
    ids=repr,
)
@pytest.mark.parametrize(("env_id", "size"), [(ARM, 2), ("mbrl/Drone-v0", 3)])
def test_targets_move_towards_finite_points_only(env_id: str, size: int, point: Any) -> None:
    env = pictured(env_id)
    env.reset(seed=0)
    before = env.unwrapped.get_state()["state"].copy()
    with pytest.raises(InvalidSettingError) as refusal:
        env.unwrapped.move_target(point)
    assert f"has a target of {size} coordinates: a point of {size} finite numbers" in str(refusal.value)
    assert str(refusal.value).endswith(f"but {point!r} was given")
    np.testing.assert_array_equal(env.unwrapped.get_state()["state"], before)


@pytest.mark.parametrize("given", [[0, 1], (0.0, 1.0), np.array([0.0, 1.0]), torch.tensor([0.0, 1.0])])
def test_targets_move_to_points_of_any_kind_of_numbers(given: Any) -> None:
    env = pictured()
    env.reset(seed=0)
    np.testing.assert_array_equal(env.unwrapped.move_target(given)[4:6], [0.0, 1.0])


def test_plans_need_an_episode() -> None:
    fixed = Fixed()
    env = ShowPlans(pictured(), fixed)
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) before decide\(\)"):
        env.decide()
    assert fixed.asked == []
    env.reset(seed=0)
    np.testing.assert_array_equal(env.decide(), np.float32([0.5, -0.5]))


def test_what_cannot_be_shown_is_refused(agent: MPC) -> None:
    assert isinstance(agent, PlanningAgent)
    with pytest.raises(InvalidSettingError, match="object has no method `decide`"):
        ShowPlans(pictured(), object())  # type: ignore[arg-type]
    with pytest.raises(InvalidSettingError, match="no method `imagine`"):
        ShowPlans(gym.make("Pendulum-v1", render_mode="rgb_array"), agent)
