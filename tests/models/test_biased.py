"""The deliberately wrong model: by how much it is wrong, and where it is still right."""

from dataclasses import fields

import gymnasium as gym
import pytest
import torch
from model_toys import fully_observed_tasks, some_actions, task_states
from numpy.testing import assert_allclose

from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.models import BiasedModel, ExactModel, draw

TASKS = {env_id: task for env_id, task in fully_observed_tasks().items() if fields(task.params)}  # mazes have none
DYNAMIC = {  # a constant of each that is not 0 and that the next state depends on
    "mbrl/Drift-v0": "max_step",
    "mbrl/Arm-v0": "max_step",
    "mbrl/ArmSparse-v0": "max_step",
    "mbrl/ArmPickPlace-v0": "max_step",
    "mbrl/ArmTorque-v0": "mass_1",
    "mbrl/Drone-v0": "max_acceleration",
    "mbrl/DroneObstacles-v0": "drag",
    "mbrl/DroneQuad-v0": "mass",
    "mbrl/CartPoleContinuous-v0": "half_length",
}


def task_of(env_id, **params):
    return gym.make(env_id, **params).unwrapped.task


@pytest.fixture(params=TASKS)
def task_id(request: pytest.FixtureRequest) -> str:
    """Every id whose task is fully observed."""
    return request.param


def inputs(task):
    observation = torch.as_tensor(task.observation(task_states(task, 30)))
    return observation, torch.as_tensor(some_actions(task.action_space, 30))


def predict(model, observation, action, particles=2):
    noise = draw(torch.Generator().manual_seed(0), (particles, len(observation)), model.noise_sizes)
    first = model.step(model.start(observation, particles), action, noise)
    return first, model.step(first.state, action, noise)


def test_no_bias_is_the_exact_model_bit_for_bit(task_id):
    task = TASKS[task_id]
    observation, action = inputs(task)
    zero = dict.fromkeys([DYNAMIC[task_id]], 0.0)
    for settings in ({}, {"relative": zero, "absolute": zero}):
        steps = zip(
            predict(BiasedModel(task, **settings), observation, action),
            predict(ExactModel(task), observation, action),
            strict=True,
        )
        for ours, exact in steps:
            for name in ("observation", "reward", "terminated"):
                assert torch.equal(getattr(ours, name), getattr(exact, name))


def test_every_task_takes_a_bias_that_changes_what_follows(task_id):
    """Rewards and terminations stay the true functions of the wrong observations."""
    task = TASKS[task_id]
    observation, action = inputs(task)
    model = BiasedModel(task, relative={DYNAMIC[task_id]: 0.2})
    assert model.observation_space == task.observation_space
    (wrong, _), (right, _) = predict(model, observation, action), predict(ExactModel(task), observation, action)
    assert (wrong.observation - right.observation).abs().max() > 1e-4
    true = task.reward(observation.expand_as(wrong.observation), action.expand(2, *action.shape), wrong.observation)
    assert torch.equal(wrong.reward, true)
    assert torch.equal(wrong.terminated, task.terminal(wrong.observation))


def test_the_wrong_world_reads_states_from_observations_like_the_true_one(task_id):
    task = TASKS[task_id]
    observation, _ = inputs(task)
    for name in task.params.__dataclass_fields__:
        value = getattr(task.params, name)
        if not isinstance(value, float) or name in task.params.fixed:
            continue
        biased = BiasedModel(task, absolute={name: 0.01}).task
        assert torch.equal(biased.state(observation), task.state(observation)), name
        again = biased.state(biased.observation(biased.state(observation)))
        assert_allclose(again, task.state(observation), atol=1e-5)


def test_drift_by_hand():
    model = BiasedModel(task_of("mbrl/Drift-v0"), absolute={"drift": 0.05}, relative={"max_step": 0.2})
    prediction = model.step(model.start(torch.tensor([[2.0], [0.0]])), torch.tensor([[-0.5], [1.0]]))
    assert_allclose(prediction.observation[0], [[2.0 - 0.6 + 0.15], [1.2 + 0.15]], rtol=1e-6)
    assert_allclose(prediction.reward[0], [-1.55, -1.35], rtol=1e-6)


def test_both_biases_of_one_constant_add_up():
    model = BiasedModel(task_of("mbrl/Drift-v0", drift=1), absolute={"drift": 0.05}, relative={"drift": 0.5})
    prediction = model.step(model.start(torch.tensor([[0.0]])), torch.tensor([[0.0]]))
    assert_allclose(prediction.observation[0], [[1.55]], rtol=1e-6)


def test_drone_by_hand():
    """v' = v + 1.2 a dt and p' = p + v' dt, with dt 0.1; true would be 1.0 a."""
    observation = torch.tensor([[3.0, 0.0, -1.0, 0.5, 0.0, -0.2, 1.0, 2.0, 3.0]])
    model = BiasedModel(task_of("mbrl/Drone-v0"), relative={"max_acceleration": 0.2})
    prediction = model.step(model.start(observation), torch.tensor([[1.0, -0.5, 0.0]]))
    velocity = [0.5 + 0.12, -0.06, -0.2]
    position = [1.0 + 0.062, 2.0 - 0.006, 3.0 - 0.02]
    offset = [4.0 - 1.062, 2.0 - 1.994, 2.0 - 2.98]
    assert_allclose(prediction.observation[0, 0], [*offset, *velocity, *position], atol=1e-6)


def test_wrong_links_show_in_the_very_first_predicted_tip():
    """The angles are right, the tip is where the wrong links put it; the observation at the start stays what it is."""
    task = task_of("mbrl/Arm-v0")
    model = BiasedModel(task, absolute={"link_1": 0.1})
    observation = torch.as_tensor(task.observation(torch.tensor([[0.0, 0.0, 1.0, 0.5]])))
    state = model.start(observation)
    assert torch.equal(state[1][0], observation)
    prediction = model.step(state, torch.zeros(1, 2))
    assert_allclose(prediction.observation[0, 0], [1, 0, 1, 0, 1.0, 0.5, 1.9 - 1.0, -0.5], atol=1e-6)
    assert_allclose(prediction.reward[0, 0], -((0.9**2 + 0.5**2) ** 0.5), rtol=1e-6)


def test_it_takes_itself_for_exact():
    observation, action = inputs(TASKS["mbrl/Drone-v0"])
    model = BiasedModel(TASKS["mbrl/Drone-v0"], relative={"max_acceleration": 0.5})
    assert (model.uncertainty(observation, action) == 0).all()
    assert model.fitted


def test_the_dtype_is_the_tasks():
    model = BiasedModel(task_of("mbrl/Drift-v0", dtype="float64"), absolute={"drift": 0.05})
    assert model.task.dtype == "float64"
    prediction = model.step(model.start(torch.zeros(1, 1, dtype=torch.float64)), torch.zeros(1, 1))
    assert prediction.observation.dtype == torch.float64
    assert_allclose(prediction.observation, 0.15, rtol=1e-14)


@pytest.mark.parametrize("kind", ["relative", "absolute"])
@pytest.mark.parametrize("name", ["wind", "effort_cost", "max_speed"])  # unknown; of the reward; of the bounds
def test_constants_that_cannot_be_wrong_are_refused_with_those_that_can(kind, name):
    with pytest.raises(InvalidSettingError, match=rf"{kind} .*ArmTorque.* link_1, .*'{name}'"):
        BiasedModel(task_of("mbrl/ArmTorque-v0"), **{kind: {name: 0.1}})


def test_whole_numbers_are_refused():
    with pytest.raises(InvalidSettingError, match="'obstacles'"):
        BiasedModel(task_of("mbrl/DroneObstacles-v0"), absolute={"obstacles": 1})


def test_values_out_of_range_are_refused():
    with pytest.raises(InvalidSettingError, match=r"relative=.*-1\.5.*mass_1 must be greater than 0, but -0\.5"):
        BiasedModel(task_of("mbrl/ArmTorque-v0"), relative={"mass_1": -1.5})


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), "0.2", None, True])
def test_a_bias_has_to_be_a_number(amount):
    with pytest.raises(InvalidSettingError, match="relative bias of mass_1 must be a finite number"):
        BiasedModel(task_of("mbrl/ArmTorque-v0"), relative={"mass_1": amount})


def test_a_relative_bias_of_nothing_is_refused():
    with pytest.raises(InvalidSettingError, match=r"payload as it is.*absolute"):
        BiasedModel(task_of("mbrl/ArmTorque-v0"), relative={"payload": 0.2})


def test_randomised_tasks_are_refused():
    task = task_of("mbrl/ArmTorque-v0", randomize={"payload": (0.0, 1.0)})
    with pytest.raises(InvalidSettingError, match="ArmTorque randomises payload"):
        BiasedModel(task, absolute={"payload": 0.1})


def test_hidden_states_are_refused():
    with pytest.raises(UnsupportedSpaceError, match="Bandit hides"):
        BiasedModel(task_of("mbrl/Bandit-v0"))
