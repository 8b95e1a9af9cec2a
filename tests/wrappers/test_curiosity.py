"""Bonuses for what a model does not know."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3 import PPO
from wrapper_toys import LADDER_SPACES, Drift, assert_checker_is_silent, ladder

import mbrl_gym  # noqa: F401  (registers the environments)
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import ExactModel, GaussianEnsemble
from mbrl_gym.wrappers import CuriosityReward, LearnModel, RecordTransitions, vector
from mbrl_gym.wrappers.distillation import Distillation
from mbrl_gym.wrappers.visits import Visits

KINDS = ["disagreement", "error"]


def cartpole() -> gym.Env:
    """Return a cart-pole whose episodes are cut off before the pole falls: nothing about ends to learn."""
    return gym.make("CartPole-v1", max_episode_steps=6)


def drift() -> Drift:
    return Drift(LADDER_SPACES["Box"], spaces.Discrete(2))


def ensemble() -> GaussianEnsemble:
    env = cartpole()
    return GaussianEnsemble(env.observation_space, env.action_space, members=3, hidden=(16,), max_epochs=2)


def walk(env: gym.Env, steps: int, seed: int = 0) -> list[Any]:
    """Take random steps; return all that they returned."""
    generator = np.random.default_rng(seed)
    env.reset(seed=seed)
    found = []
    for _ in range(steps):
        found.append(env.step(int(generator.integers(2))))
        if found[-1][2] or found[-1][3]:
            env.reset()
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalise", [False, True])
def test_the_bonus_comes_on_top_of_the_environments_reward(kind, normalise):
    model = drift()
    env = CuriosityReward(LearnModel(ladder(), model, every=10, start=10), model, 0.5, kind, normalise)
    plain = walk(ladder(), 40)
    for (observation, reward, *ends, info), (expected, extrinsic, *expected_ends, _) in zip(
        walk(env, 40), plain, strict=True
    ):
        assert np.array_equal(observation, expected)
        assert ends == expected_ends
        assert info["extrinsic_reward"] == extrinsic
        assert reward == extrinsic + 0.5 * info["curiosity"]
        assert type(reward) is type(info["curiosity"]) is type(info["extrinsic_reward"]) is float


def test_there_is_no_bonus_before_the_model_is_fitted():
    model = drift()
    found = walk(CuriosityReward(LearnModel(ladder(), model, every=10, start=10), model), 20)
    assert all(info["curiosity"] == 0.0 for *_, info in found[:10])
    assert all(info["curiosity"] > 0.0 for *_, info in found[10:])


def test_disagreement_is_the_models_uncertainty_where_the_step_began():
    recorder = RecordTransitions(cartpole())
    walk(recorder, 60)
    model = ensemble()
    model.fit(recorder.transitions())
    env = CuriosityReward(RecordTransitions(cartpole()), model)
    found = walk(env, 30, seed=5)
    data = env.env.transitions()
    expected = model.uncertainty(torch.as_tensor(data.observation), torch.as_tensor(data.action))
    np.testing.assert_allclose([info["curiosity"] for *_, info in found], expected.detach(), rtol=1e-4)


@pytest.mark.parametrize(("kind", "key"), [("error", "model/error"), ("disagreement", "model/uncertainty")])
def test_the_bonus_is_what_the_learner_inside_tells_also_of_the_steps_that_it_fits_after(kind, key):
    model = drift()
    env = CuriosityReward(LearnModel(ladder(), model, every=7, start=15), model, kind=kind)
    found = walk(env, 40)
    fits = [index for index, (*_, info) in enumerate(found) if "model/fit_seconds" in info]
    assert fits == [14, 21, 28, 35]
    told = [info[key] for *_, info in found[15:]]
    assert [info["curiosity"] for *_, info in found[15:]] == told
    assert len(set(told)) > 5


def test_normalised_bonuses_are_divided_by_the_size_of_their_discounted_sums():
    model = drift()
    model.fit(by_hand_data())
    found = walk(CuriosityReward(ladder(), model, normalise=True), 12)
    plain = walk(CuriosityReward(ladder(), model), 12)
    total, sums = 0.0, []
    for (*_, info), (*_, expected) in zip(found, plain, strict=True):
        total = 0.99 * total + expected["curiosity"]
        sums.append(total)
        assert info["curiosity"] == pytest.approx(expected["curiosity"] / np.sqrt(np.mean(np.square(sums))))
    assert found[0][-1]["curiosity"] == 1.0


def by_hand_data():
    recorder = RecordTransitions(ladder())
    walk(recorder, 10)
    return recorder.transitions()


def test_the_exact_model_leaves_nothing_to_be_curious_about():
    env_id = "mbrl/CartPoleContinuous-v0"
    exact = ExactModel(gym.make(env_id).unwrapped.task)
    for normalise in (False, True):
        env = CuriosityReward(gym.make(env_id), exact, normalise=normalise)
        env.reset(seed=0)
        assert [env.step(np.array([0.2], np.float32))[1] for _ in range(5)] == [1.0] * 5


def test_the_bonus_is_larger_where_the_model_has_never_been():
    recorder = RecordTransitions(cartpole())
    walk(recorder, 150)
    model = ensemble()
    model.fit(recorder.transitions())
    env = CuriosityReward(cartpole(), model)

    def bonus(state):
        env.reset(seed=0, options={"low": -1e-3, "high": 1e-3})
        env.unwrapped.state = np.array(state)
        env.step(0)  # which shows the wrapper where it is
        return env.step(0)[4]["curiosity"]

    assert bonus([2.0, 6.0, 0.1, -6.0]) > 5 * bonus([0.0, 0.0, 0.0, 0.0])


def test_an_agent_of_stable_baselines_learns_from_the_bonus():
    model = ensemble()
    env = CuriosityReward(LearnModel(cartpole(), model, every=60, start=60), model, scale=10.0)
    PPO("MlpPolicy", env, n_steps=64, batch_size=64, n_epochs=1, seed=0).learn(128)
    assert model.fitted


def test_other_spaces_and_kinds_are_refused():
    with pytest.raises(InvalidSettingError, match="observation space"):
        CuriosityReward(gym.make("Acrobot-v1"), ensemble())
    with pytest.raises(
        InvalidSettingError, match='"disagreement", "error", "counts" or "distillation", but \'visits\' was given'
    ):
        CuriosityReward(cartpole(), ensemble(), kind="visits")
    with pytest.raises(InvalidSettingError, match='a world model for kind="error", but None was given'):
        CuriosityReward(cartpole(), None, kind="error")
    with pytest.raises(gym.error.ResetNeeded):
        CuriosityReward(ladder(), drift()).step(0)


def test_the_wrapper_keeps_gymnasiums_rules():
    assert_checker_is_silent(CuriosityReward(cartpole(), ensemble()))


def test_a_spec_makes_wrappers_that_share_the_model():
    model = drift()
    env = CuriosityReward(LearnModel(cartpole(), ensemble()), ensemble())
    assert env.spec.make().spec == env.spec
    model = ensemble()
    twin = CuriosityReward(LearnModel(cartpole(), model), model, normalise=True).spec.make()
    assert twin.model is twin.env.model is model


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_copies_share_a_model_among_themselves(copied):
    model = ensemble()
    env = CuriosityReward(LearnModel(cartpole(), model, every=20, start=20), model, normalise=True)
    walk(env, 25)
    twin = copied(env)
    assert twin.model is twin.env.model is not model
    told, again = (walk(each, 16, seed=1) for each in (env, twin))
    assert [reward for _, reward, *_ in told] == [reward for _, reward, *_ in again]


# Counts ----------------------------------------------------------------------------------------------------------


def test_bounded_columns_have_ten_cells_and_their_bounds_belong_to_the_outer_ones():
    visits = Visits(spaces.Box(np.array([-1.0, 0.0]), np.array([1.0, 10.0]), dtype=np.float64))
    rows = np.array([[-1.0, 0.0], [-0.81, 0.99], [-0.79, 0.0], [1.0, 10.0], [0.81, 9.5], [-1.0, 0.5]])
    assert visits(rows[:3]).tolist() == [2, 2, 1]  # rows side by side count each other
    assert visits(rows[3:]).tolist() == [2, 2, 3]


def test_columns_without_bounds_and_choices_have_cells_of_their_own():
    visits = Visits(spaces.Box(-np.inf, np.inf, (1,)))
    assert [visits(np.array([[x]]))[0] for x in (0.1, 0.4, 0.6, -0.1, 0.0)] == [1, 2, 1, 1, 3]
    visits = Visits(spaces.Discrete(5, start=3))
    assert visits(np.array([3, 4, 3])).tolist() == [2, 1, 2]
    visits = Visits(spaces.MultiDiscrete([3, 3]))
    assert visits(np.array([[0, 1], [1, 0], [0, 1]])).tolist() == [2, 1, 2]
    fine, coarse = (Visits(spaces.Box(0.0, 1.0, (1,)), cells) for cells in (20, 1))
    assert fine(np.array([[0.01], [0.06]])).tolist() == [1, 1]
    assert coarse(np.array([[0.01], [0.99]])).tolist() == [2, 2]
    with pytest.raises(InvalidSettingError, match="cells must be a whole number of at least 1, but 0 was given"):
        Visits(spaces.Discrete(2), 0)


def test_the_bonus_of_counts_falls_with_the_square_root_of_the_visits_over_all_episodes():
    env = CuriosityReward(gym.make("FrozenLake-v1", is_slippery=False), None, 2.0, "counts")
    for n in range(1, 5):
        env.reset(seed=0)
        _, reward, _, _, info = env.step(0)  # stays at the start
        assert info["curiosity"] == pytest.approx(n**-0.5)
        assert reward == pytest.approx(2.0 * n**-0.5)
    _, _, _, _, info = env.step(2)
    assert info["curiosity"] == 1.0


def test_counts_of_copies_are_counted_together():
    env = SyncVectorEnv([lambda: gym.make("FrozenLake-v1", is_slippery=False)] * 3)
    env = vector.CuriosityReward(env, None, kind="counts")
    env.reset(seed=0)
    assert np.allclose(env.step(np.zeros(3, int))[4]["curiosity"], 3**-0.5)  # all stay at the start
    assert np.allclose(env.step(np.array([0, 0, 2]))[4]["curiosity"], [5**-0.5, 5**-0.5, 1.0])


# Random network distillation -------------------------------------------------------------------------------------


def distilled(kind: str = "Box", seed: int = 0, normalise: bool = False) -> CuriosityReward:
    return CuriosityReward(ladder(kind), None, 2.0, "distillation", normalise, seed)


def bonuses(env: gym.Env, steps: int, seed: int = 0) -> list[float]:
    return [info["curiosity"] for *_, info in walk(env, steps, seed)]


def test_the_bonus_is_the_squared_error_at_normalised_and_clipped_observations():
    distillation = Distillation(spaces.Box(-np.inf, np.inf, (2,)), seed=3)
    untrained, target = copy.deepcopy(distillation.predictor), copy.deepcopy(distillation.target)
    rows = np.random.default_rng(0).normal([4.0, -70.0], [0.1, 30.0], (40, 2)).astype(np.float32)
    rows[30] = 9.0, 0.0  # 50 deviations away

    def expected(index, predictor):
        seen = rows[: index + 1].astype(np.float64)
        deviation = seen.std(0) if index else np.ones(2)
        scaled = np.clip((rows[index] - seen.mean(0)) / deviation, -5.0, 5.0)
        scaled = torch.as_tensor(scaled, dtype=torch.float32)
        return float((predictor(scaled) - target(scaled)).detach().square().mean())

    for index, row in enumerate(rows):
        known = copy.deepcopy(distillation.predictor)
        assert distillation(row[None]) == pytest.approx(expected(index, known), rel=1e-3)
        changed = not torch.equal(known[0].weight, distillation.predictor[0].weight)
        assert changed == (index % 8 == 7)  # one gradient step for eight transitions
    assert expected(30, known) < expected(30, untrained)
    for before, after in zip(target.parameters(), distillation.target.parameters(), strict=True):
        assert torch.equal(before, after)


@pytest.mark.parametrize("normalise", [False, True])
def test_the_bonus_falls_where_steps_lead_often_and_is_larger_in_an_unvisited_place(normalise):
    env = CuriosityReward(gym.make("MountainCar-v0"), None, kind="distillation", normalise=normalise)
    valley = [env.unwrapped.reset(seed=seed)[0] for seed in range(600)]

    def bonus(state):
        env.reset()
        env.unwrapped.state = np.array(state)
        return env.step(1)[4]["curiosity"]

    known = [bonus(state) for state in valley]
    assert np.mean(known[-50:]) < 0.2 * np.mean(known[:50])
    assert bonus([0.3, 0.05]) > 20 * np.mean(known[-50:])


def test_new_places_seem_as_new_later_as_the_first_ones_did():
    first, late, new = [], [], []
    for seed in range(4):
        distillation, visited = (
            Distillation(spaces.Discrete(30), seed),
            np.random.default_rng(seed).integers(6, size=600),
        )
        errors = [float(distillation(place)[0]) for place in visited[:, None]]
        first += errors[:20]
        late += errors[-50:]
        new += [float(distillation(np.array([place]))[0]) for place in range(6, 10)]
    assert np.mean(late) < 0.1 * np.mean(new)
    assert 0.5 < np.mean(new) / np.mean(first) < 2.0


def test_noise_does_not_keep_the_bonus_up():
    rows = np.random.default_rng(0).normal(size=(600, 10, 3))
    errors = [Distillation(spaces.Box(-np.inf, np.inf, (3,)))(each).mean() for each in rows[:20]]
    distillation = Distillation(spaces.Box(-np.inf, np.inf, (3,)))
    late = [distillation(each).mean() for each in rows][-20:]
    assert np.mean(late) < 0.05 * np.mean(errors)


@pytest.mark.parametrize("kind", sorted(LADDER_SPACES))
def test_every_observation_is_seen_as_its_flat_form(kind):
    flat = CuriosityReward(gym.wrappers.FlattenObservation(ladder(kind)), None, 2.0, "distillation")
    found = bonuses(distilled(kind), 60)
    assert found == bonuses(flat, 60)
    assert np.mean(found[-20:]) < 0.9 * np.mean(found[:20])


def test_a_seed_decides_the_bonuses_and_global_generators_neither_matter_nor_change():
    first = bonuses(distilled(seed=7), 30)
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    assert bonuses(distilled(seed=7), 30) == first
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert bonuses(distilled(seed=8), 30) != first


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_agent_that_switches_gradients_off_does_not_stop_the_learning(mode):
    expected = bonuses(distilled(), 40)
    with mode():
        assert bonuses(distilled(), 40) == expected


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
def test_a_copy_goes_on_as_the_original_does(copied):
    env = distilled("Dict", normalise=True)
    walk(env, 21)  # five steps wait for the next gradient step
    twin = copied(env)
    assert bonuses(env, 30, seed=1) == bonuses(twin, 30, seed=1)


def test_a_spec_makes_an_environment_with_the_same_bonuses():
    env = CuriosityReward(cartpole(), None, 2.0, "distillation", True, 5)
    assert bonuses(env.spec.make(), 20) == bonuses(env, 20)


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_copies_learn_together_from_their_steps_and_not_from_resets(mode):
    envs = SyncVectorEnv([ladder] * 3, autoreset_mode=mode)
    env = vector.CuriosityReward(envs, None, 2.0, "distillation", seed=1)
    recorder = vector.RecordTransitions(env)
    recorder.reset(seed=0)
    ended, told = np.zeros(3, bool), []
    for step in range(30):
        if mode is AutoresetMode.DISABLED and ended.any():
            recorder.reset(options={"reset_mask": ended.copy()})
        _, _, terminated, truncated, infos = recorder.step(np.array([1, step % 2, (step // 2) % 2]))
        ended = terminated | truncated
        assert np.array_equal(infos["curiosity"] > 0, infos["_curiosity"])
        told.append(infos["curiosity"][infos["_curiosity"]])
    distillation, following = Distillation(envs.single_observation_space, 1), recorder.transitions().next_observation
    parts = np.split(following, np.cumsum([len(part) for part in told])[:-1])
    for part, errors in zip(parts, told, strict=True):
        if len(part):
            assert np.array_equal(distillation(part), errors)


def test_what_cannot_be_distilled_is_refused():
    for seed in (-1, 0.5, None, 2**64):
        with pytest.raises(InvalidSettingError, match=f"seed must be a whole number .* but {seed!r} was given"):
            CuriosityReward(cartpole(), None, kind="distillation", seed=seed)
    with pytest.raises(UnsupportedSpaceError, match="flat Box"):
        Distillation(spaces.Box(0, 255, (8, 8, 3), np.uint8))
    distillation = Distillation(spaces.Box(-np.inf, np.inf, (2,)))
    for wrong in (np.nan, np.inf):
        with pytest.raises(InvalidSettingError, match=f"needs finite observations, but .*{wrong}.* was given"):
            distillation(np.array([[0.0, wrong]]))
    assert np.isfinite(distillation(np.zeros((1, 2)))).all()


# Vector environments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "counts", "distillation"])
def test_one_copy_is_as_curious_as_the_environment_alone(kind):
    alone_model, model = drift(), drift()
    alone = LearnModel(gym.wrappers.Autoreset(ladder()), alone_model, every=4, start=6)
    alone = CuriosityReward(alone, alone_model, 2.0, kind, normalise=True)
    env = vector.LearnModel(SyncVectorEnv([ladder]), model, every=4, start=6)
    env = vector.CuriosityReward(env, model, 2.0, kind, normalise=True)
    generator = np.random.default_rng(0)
    alone.reset(seed=0)
    env.reset(seed=0)
    for _ in range(40):
        action = int(generator.integers(2))
        _, expected, _, _, info = alone.step(action)
        _, rewards, _, _, infos = env.step(np.array([action]))
        assert rewards.tolist() == [expected]
        assert infos["curiosity"].tolist() == [info["curiosity"]]


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_each_copy_has_its_own_bonus_and_resets_have_none(mode):
    model = drift()
    model.fit(by_hand_data())
    env = vector.CuriosityReward(SyncVectorEnv([ladder] * 3, autoreset_mode=mode), model, scale=4.0)
    plain = SyncVectorEnv([ladder] * 3, autoreset_mode=mode)
    env.reset(seed=0)
    plain.reset(seed=0)
    ended = np.zeros(3, bool)
    for step in range(30):
        if mode is AutoresetMode.DISABLED and ended.any():
            env.reset(options={"reset_mask": ended.copy()})
            plain.reset(options={"reset_mask": ended.copy()})
        resting = ended & (mode is AutoresetMode.NEXT_STEP)
        actions = np.array([1, step % 2, (step // 2) % 2])
        _, extrinsic, *_ = plain.step(actions)
        _, rewards, terminated, truncated, infos = env.step(actions)
        bonus = np.where(resting, 0.0, 1 + actions)
        assert np.array_equal(infos["curiosity"], bonus)
        assert np.array_equal(rewards, extrinsic + 4.0 * bonus)
        assert np.array_equal(infos["_curiosity"], ~resting)
        assert np.array_equal(infos["extrinsic_reward"], np.where(resting, 0.0, extrinsic))
        ended = terminated | truncated


def test_rewards_keep_their_dtype():
    env_id = "mbrl/CartPoleContinuous-v0"
    env = gym.make_vec(env_id, num_envs=2)
    env.reset(seed=0)
    expected = env.step(np.zeros((2, 1), np.float32))[1].dtype
    env = vector.CuriosityReward(env, ExactModel(gym.make(env_id).unwrapped.task), kind="error")
    env.reset(seed=0)
    assert env.step(np.zeros((2, 1), np.float32))[1].dtype == expected == np.float32
