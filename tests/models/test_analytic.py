"""World models made of functions: by hand, in any dtype, and in files."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from model_toys import LINE, UNIT, linear
from torch.testing import assert_close

from mbrl_gym.errors import InvalidSettingError
from mbrl_gym.models import AnalyticModel, WorldModel


def move(observation, action):
    """x' = 2 x + a."""
    return 2 * observation + action


def reward(observation, action, following):
    """10 x' - a + x / 10."""
    return (10 * following - action + observation / 10)[..., 0]


def past_five(following):
    """Ends beyond 5."""
    return following[..., 0] > 5


def model(**functions):
    return AnalyticModel(LINE, UNIT, **{"dynamics_fn": move, "reward_fn": reward, **functions})


OBSERVATION, ACTION = torch.tensor([[1.0], [3.0]]), torch.tensor([[0.5], [-0.5]])


def test_a_step_applies_the_functions():
    prediction = model(termination_fn=past_five).step(OBSERVATION.expand(2, 2, 1), ACTION)
    assert prediction.observation.tolist() == [[[2.5], [5.5]]] * 2
    assert_close(prediction.reward, torch.tensor([[25.0 - 0.5 + 0.1, 55.0 + 0.5 + 0.3]] * 2))
    assert prediction.terminated.tolist() == [[False, True]] * 2
    assert torch.equal(prediction.state, prediction.observation)


def test_without_a_termination_function_no_episode_ends():
    assert not model().terminates
    assert not model().step(model().start(OBSERVATION, 3), ACTION).terminated.any()
    assert model(termination_fn=past_five).terminates


def test_functions_see_double_precision_as_it_is():
    known = model()
    prediction = known.step(known.start(OBSERVATION.double() + 1e-12), ACTION.double())
    assert prediction.observation.dtype == prediction.reward.dtype == torch.float64
    assert (prediction.observation - torch.tensor([[2.5], [5.5]]))[0, :, 0].tolist() == pytest.approx([2e-12] * 2, 1e-3)


def test_advance_is_a_step_without_its_reward():
    for known in (model(), model(termination_fn=past_five)):
        state = known.start(OBSERVATION, 2)
        prediction, (after, observation, ended) = known.step(state, ACTION), known.advance(state, ACTION)
        assert torch.equal(after, prediction.state)
        assert torch.equal(observation, prediction.observation)
        assert torch.equal(prediction.terminated, torch.zeros(2, 2, dtype=torch.bool) if ended is None else ended)
        action = known.over_particles(ACTION, 2)
        assert torch.equal(known.reward_fn(state, action, observation), prediction.reward)


def test_discrete_actions_reach_the_functions_as_integers():
    known = AnalyticModel(
        LINE,
        spaces.Discrete(3),
        dynamics_fn=lambda x, a: x + a[..., None],
        reward_fn=lambda x, a, after: a * after[..., 0],
    )
    prediction = known.step(known.start(OBSERVATION), torch.tensor([2, 1]))
    assert prediction.observation.tolist() == [[[3.0], [4.0]]]
    assert prediction.reward.tolist() == [[6.0, 4.0]]


@pytest.mark.parametrize("name", ["dynamics_fn", "reward_fn", "termination_fn"])
def test_what_is_not_a_function_is_refused_by_name(name):
    with pytest.raises(InvalidSettingError, match=f"^{name} must be .*a function, but 'learned' was given"):
        model(**{name: "learned"})


def test_it_knows_everything_and_learns_nothing():
    known = model()
    assert known.uncertainty(OBSERVATION, ACTION).tolist() == [0.0, 0.0]
    assert known.fit(linear(30)).transitions == 30
    assert known.fitted


def test_a_file_takes_its_functions_again_and_names_those_that_are_missing(tmp_path):
    model(termination_fn=past_five).save(tmp_path / "model")
    functions = {"dynamics_fn": move, "reward_fn": reward, "termination_fn": past_five}
    for missing in functions:
        others = {name: function for name, function in functions.items() if name != missing}
        with pytest.raises(InvalidSettingError, match=f"pass {missing} to load again"):
            AnalyticModel.load(tmp_path / "model", **others)
    loaded = WorldModel.load(tmp_path / "model", **functions)
    assert isinstance(loaded, AnalyticModel)
    assert (loaded.observation_space, loaded.action_space) == (LINE, UNIT)
    assert loaded.step(loaded.start(OBSERVATION), ACTION).terminated.tolist() == [[False, True]]


def test_a_file_may_be_loaded_with_other_functions(tmp_path):
    model().save(tmp_path / "model")  # that no episode ends is stored: it is no function
    loaded = AnalyticModel.load(tmp_path / "model", dynamics_fn=move, reward_fn=lambda x, a, after: a[..., 0])
    prediction = loaded.step(loaded.start(OBSERVATION), ACTION)
    assert np.allclose(prediction.reward, [[0.5, -0.5]])
    assert not loaded.terminates
