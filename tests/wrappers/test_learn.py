"""Models that learn while an agent acts, and what the environment tells of them."""

from __future__ import annotations

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import BaseCallback
from wrapper_toys import LADDER_SPACES, Drift, Ladder, assert_checker_is_silent, ladder

import mbrl_gym  # noqa: F401  (registers the environments)
from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import ExactModel, GaussianEnsemble
from mbrl_gym.wrappers import LearnModel, RecordTransitions, vector

KEYS = ("model/error", "model/reward_error", "model/uncertainty")


def cartpole() -> gym.Env:
    """Return a cart-pole whose episodes are cut off before the pole falls: nothing about ends to learn."""
    return gym.make("CartPole-v1", max_episode_steps=6)


def drift(kind: str = "Box") -> Drift:
    return Drift(LADDER_SPACES[kind], spaces.Discrete(2))


def ensemble(epochs: int = 2) -> GaussianEnsemble:
    env = cartpole()
    return GaussianEnsemble(env.observation_space, env.action_space, members=3, hidden=(16,), max_epochs=epochs)


def walk(env: gym.Env, steps: int, seed: int = 0) -> list[dict]:
    """Take random steps; return what was told of each."""
    generator = np.random.default_rng(seed)
    env.reset(seed=seed)
    infos = []
    for _ in range(steps):
        _, _, terminated, truncated, info = env.step(int(generator.integers(2)))
        infos.append(info)
        if terminated or truncated:
            env.reset()
    return infos


def test_the_model_is_fitted_when_it_is_due_to_all_that_was_recorded():
    model = drift()
    env = LearnModel(ladder(), model, every=3, start=5)
    infos = walk(env, 13)
    assert [len(data.reward) for data in model.seen] == [5, 8, 11]
    for data in model.seen:
        expected = env.transitions().rows(slice(0, len(data.reward)))
        assert all(np.array_equal(one, two) for one, two in zip(data, expected, strict=True))
    assert [index for index, info in enumerate(infos) if "model/fit_seconds" in info] == [4, 7, 10]
    assert infos[4]["model/fit_seconds"] == env.report.seconds == 0.5
    assert env.report.transitions == 11
    assert env.model is model


def test_a_capacity_limits_what_is_fitted_to():
    model = drift()
    env = LearnModel(ladder(), model, every=4, start=6, capacity=5)
    walk(env, 10)
    assert [len(data.reward) for data in model.seen] == [5, 5]
    assert len(env) == 5


def test_nothing_is_told_before_the_model_can_predict():
    infos = walk(LearnModel(ladder(), drift(), every=3, start=5), 8)
    assert not any(key in info for info in infos[:5] for key in KEYS)
    assert all(type(info[key]) is float for info in infos[5:] for key in KEYS)


@pytest.mark.parametrize("kind", ["Box", "Dict"])
def test_errors_are_those_of_each_step_before_it_is_learned_in_units_of_what_came_before(kind):
    model = drift(kind)
    env = LearnModel(ladder(kind), model, every=4, start=6)
    infos, data = walk(env, 17), env.transitions()
    size = data.observation.shape[1]
    for step in range(6, 17):
        fitted_to = 6 if step < 10 else 10 if step < 14 else 14
        after, change = data.next_observation, data.next_observation - data.observation
        # The one-hot columns of a Dict's choice are probabilities: what follows, not its change.
        targets = np.where(np.arange(size) < 1, change, after) if kind == "Dict" else change
        targets = np.column_stack((targets, data.reward)).astype(np.float64)
        expected, spread = targets[:fitted_to].mean(0), targets[:step].std(0)
        wrong = np.abs(targets[step] - (expected if kind == "Box" else by_choice(model, data, step))) / spread
        assert infos[step]["model/error"] == pytest.approx(np.sqrt((wrong[:size] ** 2).mean()), rel=1e-5)
        assert infos[step]["model/reward_error"] == pytest.approx(wrong[size], rel=1e-5)
        fits = {6: 1, 10: 2, 14: 3}[fitted_to]
        assert infos[step]["model/uncertainty"] == pytest.approx((1 + data.action[step]) / fits)


def by_choice(model: Drift, data, step: int) -> np.ndarray:
    """Return the targets that the toy means at a step of the mixed ladder: it adds its mean to the features."""
    fits = [each for each in model.seen if len(each.reward) <= step]
    mean = model.targets(fits[-1]).mean(0).numpy()
    following = data.observation[step] + mean[:3].astype(np.float32)
    return np.concatenate((mean[:1], following[1:], mean[3:]))


def test_what_never_varied_is_in_its_own_units():
    class Still(Ladder):
        """Nothing changes, and the reward is 2, until the fifth step moves the first column by 4."""

        def observe(self):
            return np.array([4.0 if self.steps == 5 else 0.0, 0.0], np.float32)

        def step(self, action):
            observation, _, terminated, truncated, info = super().step(self.steps % 2)
            return observation, 2.0, terminated, truncated, info

    env = LearnModel(Still(), drift(), every=100, start=4)
    env.reset(seed=0)
    infos = [env.step(0)[4] for _ in range(5)]
    assert infos[4]["model/reward_error"] == 0.0
    assert infos[4]["model/error"] == pytest.approx(4.0 / np.sqrt(2.0))


def test_the_environment_stays_as_it_is():
    def trajectory(wrap):
        env, found = wrap(cartpole()), []
        generator = np.random.default_rng(0)
        env.reset(seed=0)
        for _ in range(80):
            found.append(env.step(int(generator.integers(2)))[:4])
            if found[-1][2] or found[-1][3]:
                found.append(env.reset())
        return found

    plain = trajectory(lambda env: env)
    learning = trajectory(lambda env: LearnModel(env, ensemble(), every=500, start=30))
    for one, two in zip(plain, learning, strict=True):
        assert np.array_equal(one[0], two[0])
        assert len(one) == 2 or one[1:] == two[1:]


def test_infos_that_an_environment_keeps_are_left_alone():
    class Keeping(Ladder):
        kept = {"own": 1}  # noqa: RUF012

        def step(self, action):
            return (*super().step(action)[:4], self.kept)

    infos = walk(LearnModel(gym.wrappers.TimeLimit(Keeping(), 8), drift(), every=3, start=5), 8)
    assert Keeping.kept == {"own": 1}
    assert infos[-1]["own"] == 1
    assert "model/error" in infos[-1]


def test_a_fitted_model_tells_from_the_first_step():
    task = gym.make("mbrl/CartPoleContinuous-v0").unwrapped.task
    env = LearnModel(gym.make("mbrl/CartPoleContinuous-v0"), ExactModel(task), every=10, start=10)
    env.reset(seed=0)
    infos = [env.step(np.array([0.3], np.float32))[4] for _ in range(8)]
    assert all(info["model/error"] < 1e-3 for info in infos)
    assert all(info["model/uncertainty"] == info["model/reward_error"] == 0.0 for info in infos)


class Collect(BaseCallback):
    """Keeps the errors that the environment tells."""

    def _on_training_start(self) -> None:
        self.errors: list[float] = []

    def _on_step(self) -> bool:
        self.errors += [info["model/error"] for info in self.locals["infos"] if "model/error" in info]
        return True


def test_a_model_learns_while_an_agent_of_stable_baselines_acts():
    """The error after four fits is far below the one after the first."""
    model, collect = ensemble(epochs=20), Collect()
    env = LearnModel(gym.make("CartPole-v1"), model, every=100, start=20)
    DQN("MlpPolicy", env, learning_starts=50, buffer_size=500, seed=0).learn(448, callback=collect)
    assert len(env) == 448
    assert len(collect.errors) == 428
    assert np.median(collect.errors[-100:]) < 0.3 * np.median(collect.errors[:100])
    assert np.median(collect.errors[-100:]) < 0.2  # of the spread of the changes


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_models_learn_inside_loops_without_gradients(mode):
    model = ensemble()
    with mode():
        walk(LearnModel(cartpole(), model, every=50, start=20), 22)
    assert model.fitted
    model.fit(walk_data())


def walk_data():
    recorder = RecordTransitions(cartpole())
    walk(recorder, 20)
    return recorder.transitions()


def test_other_spaces_and_settings_out_of_range_are_refused():
    with pytest.raises(InvalidSettingError, match="observation space"):
        LearnModel(gym.make("Acrobot-v1"), ensemble())
    with pytest.raises(InvalidSettingError, match="action space"):
        vector.LearnModel(SyncVectorEnv([ladder] * 2), Drift(LADDER_SPACES["Box"], spaces.Discrete(3)))
    for setting, value, allowed in (
        ("every", 0, "at least 1"),
        ("start", 1, "at least 2"),
        ("capacity", 1, "at least 2"),
    ):
        with pytest.raises(InvalidSettingError, match=f"{setting} must be {allowed}.*{value} was given"):
            LearnModel(cartpole(), ensemble(), **{setting: value})


def test_the_wrapper_keeps_gymnasiums_rules():
    assert_checker_is_silent(LearnModel(cartpole(), ensemble(), every=20, start=20))


def test_specs_and_the_wrappers_around_share_the_model():
    model = ensemble()
    env = gym.wrappers.TimeLimit(LearnModel(cartpole(), model, every=30), 20)
    twin = env.spec.make()
    assert twin.get_wrapper_attr("model") is model
    assert env.spec == twin.spec


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_learn_by_themselves(copied):
    env = LearnModel(cartpole(), ensemble(), every=20, start=20)
    walk(env, 25)
    twin = copied(env)
    assert twin.model is not env.model
    assert twin.spec.additional_wrappers[-1].kwargs["model"] is twin.model
    assert env.spec.additional_wrappers[-1].kwargs["model"] is env.model
    told, again = (walk(each, 16, seed=1) for each in (env, twin))
    assert [info[key] for info in told for key in KEYS] == [info[key] for info in again for key in KEYS]


def test_global_generators_are_neither_used_nor_changed():
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()

    before = states()
    walk(LearnModel(cartpole(), ensemble(), every=20, start=20), 25)
    assert states() == before


# Vector environments ---------------------------------------------------------------------------------------------


def test_one_copy_learns_like_the_environment_alone():
    alone = LearnModel(gym.wrappers.Autoreset(ladder()), drift(), every=4, start=6)
    env = vector.LearnModel(SyncVectorEnv([ladder]), drift(), every=4, start=6)
    generator = np.random.default_rng(0)
    alone.reset(seed=0)
    env.reset(seed=0)
    for _ in range(40):
        action = int(generator.integers(2))
        expected, infos = alone.step(action)[4], env.step(np.array([action]))[4]
        for key in (*KEYS, "model/fit_seconds"):
            assert (key in expected) == (key in infos) == (f"_{key}" in infos)
            if key in expected:
                assert infos[key].tolist() == [expected[key]]
                assert infos[f"_{key}"].tolist() == [True]
    assert len(env.model.seen) == len(alone.model.seen) > 4
    assert env.report == alone.report


def test_copies_share_the_count_of_steps_and_one_model():
    model = drift()
    env = vector.LearnModel(SyncVectorEnv([ladder] * 3), model, every=4, start=7)
    env.reset(seed=0)
    fits = ["model/fit_seconds" in env.step(np.array([0, 1, 0]))[4] for _ in range(5)]
    assert fits[:2] == [False, False]
    assert fits[2]
    assert len(model.seen[0].reward) == 9


def test_steps_that_only_reset_a_copy_are_masked():
    env = vector.LearnModel(SyncVectorEnv([ladder] * 2), drift(), every=100, start=4)
    env.reset(seed=0)
    ended = np.zeros(2, bool)
    for step in range(30):
        *_, terminated, truncated, infos = env.step(np.array([1, step % 2]))
        if step >= 2:
            assert np.array_equal(infos["_model/error"], ~ended)
            assert np.array_equal(infos["model/uncertainty"], np.where(ended, 0.0, [2, 1 + step % 2]))
        ended = terminated | truncated


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_the_exact_model_is_right_in_every_autoreset_mode_also_where_episodes_end(mode):
    env_id = "mbrl/CartPoleContinuous-v0"
    env = gym.make_vec(env_id, num_envs=3, max_episode_steps=6, autoreset_mode=mode.value)
    env = vector.LearnModel(env, ExactModel(gym.make(env_id).unwrapped.task), every=1000)
    env.reset(seed=0)
    ended, ends, told = np.zeros(3, bool), 0, 0
    for step in range(40):
        if mode is AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended.copy()})
        *_, terminated, truncated, infos = env.step(np.full((3, 1), np.sin(step), np.float32))
        ended = terminated | truncated
        ends += ended.sum()
        told += infos.get("_model/error", np.zeros(3)).sum()
        assert (infos.get("model/error", np.zeros(3)) < 1e-3).all()
    assert ends > 9
    assert told == len(env)
