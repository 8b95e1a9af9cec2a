"""Vector environments on tensors: equal to their NumPy twins, and never waiting for the device."""

import copy
import pickle
import types

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.testing import assert_allclose

from mbrl_gym.envs import TaskVectorEnv
from mbrl_gym.envs.arm import Arm, ArmVectorEnv
from mbrl_gym.envs.arrays import NumpyArrays, TensorArrays
from mbrl_gym.envs.bandit import Bandit
from mbrl_gym.errors import InvalidActionError, InvalidSettingError
from mbrl_gym.noise import Noise

ROWS = 5
MODES = list(AutoresetMode)


@pytest.fixture
def same_noise(monkeypatch):
    """Give both twins the same noise, different in every row and every draw of the same length."""

    def fixed(task, rows, sizes):
        shapes = [(rows, size) for size in sizes]
        fractions = [0.1 + 0.8 * np.linspace(0, 1, rows * size).reshape(rows, size) for rows, size in shapes]
        return [part.astype(task.dtype) for part in fractions]

    monkeypatch.setattr(NumpyArrays, "draw", lambda self, rows, sizes: Noise(*fixed(self._task, rows, sizes)))
    monkeypatch.setattr(
        TensorArrays, "draw", lambda self, rows, sizes: Noise(*map(torch.from_numpy, fixed(self._task, rows, sizes)))
    )


def parts(observation):
    return observation if isinstance(observation, dict) else {"": observation}


def assert_same(tensors, arrays, what):
    for name, array in parts(arrays).items():
        tensor = parts(tensors)[name]
        assert isinstance(tensor, torch.Tensor), what
        assert tensor.numpy().dtype == np.asarray(array).dtype, what
        assert_allclose(tensor.numpy(), array, rtol=1e-4, atol=1e-4, err_msg=what)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.usefixtures("same_noise")
def test_equals_its_numpy_twin(env_id, make_task, some_actions, mode):
    task = make_task(env_id)
    settings = {"max_episode_steps": 4, "autoreset_mode": mode}
    twins = [TaskVectorEnv(task, ROWS, **settings), TaskVectorEnv(task, ROWS, xp=torch, **settings)]
    (arrays, _), (tensors, _) = (twin.reset(seed=0) for twin in twins)
    assert_same(tensors, arrays, "start")
    for t, actions in enumerate(some_actions(twins[0].action_space, 10)):
        ours, theirs = (twin.step(actions) for twin in twins)
        for name, array, tensor in zip(
            ("observation", "reward", "terminated", "truncated"), ours[:4], theirs[:4], strict=True
        ):
            assert_same(tensor, array, f"{name} of step {t}")
        ended = ours[2] | ours[3]
        if mode is AutoresetMode.SAME_STEP and ended.any():
            for row in np.flatnonzero(ended):
                final = {name: part[row] for name, part in parts(theirs[4]["final_obs"]).items()}
                assert_same(final, parts(ours[4]["final_obs"][row]), f"end of row {row}")
            assert_same(theirs[4]["_final_obs"], ours[4]["_final_obs"], "mask")
        for name in set(ours[4]) - {"final_obs", "_final_obs", "final_info", "_final_info"}:
            assert_same(theirs[4][name], ours[4][name], name)
        if mode is AutoresetMode.DISABLED and ended.any():
            for twin in twins:
                twin.reset(options={"reset_mask": ended})


@pytest.mark.parametrize("mode", MODES)
def test_no_step_looks_at_values(env_id, make_task, monkeypatch, mode):
    """Tensors of the "meta" device have no values: whatever would wait for a device raises."""
    task = make_task(env_id)
    xp = types.ModuleType("torch")
    xp.__dict__.update({**vars(torch), "Generator": lambda device: torch.default_generator.clone_state()})
    monkeypatch.setattr(
        TensorArrays,
        "draw",
        lambda self, rows, sizes: Noise(*(self._like.new_empty((rows, size)) for size in sizes)),
    )
    env = TaskVectorEnv(task, ROWS, xp=xp, device="meta", max_episode_steps=3, autoreset_mode=mode)
    env.reset(seed=0)
    space = env.action_space
    dtype = torch.float32 if isinstance(space, spaces.Box) else torch.int64
    for _ in range(5):
        observation, reward, terminated, truncated, info = env.step(
            torch.empty(space.shape, dtype=dtype, device="meta")
        )
        for tensor in (*parts(observation).values(), reward, terminated, truncated):
            assert tensor.device.type == "meta"
        assert all(value.device.type == "meta" for name, value in info.items() if not name.startswith("final"))


def test_same_seed_same_trajectory_and_clones_replay(env_id, make_task, some_actions):
    env = TaskVectorEnv(make_task(env_id), ROWS, xp=torch, max_episode_steps=4)

    def play(one, actions):
        return [torch.cat([part.reshape(ROWS, -1) for part in parts(one.step(a)[0]).values()], 1) for a in actions]

    actions = some_actions(env.action_space, 12)
    env.reset(seed=3)
    begin = play(env, actions[:6])
    snapshot = env.get_state()
    clones = [copy.deepcopy(env), pickle.loads(pickle.dumps(env))]
    expected = play(env, actions[6:])
    env.set_state(snapshot)
    for one in (env, *clones):
        assert all(torch.equal(a, b) for a, b in zip(play(one, actions[6:]), expected, strict=True))
    env.reset(seed=3)
    assert all(torch.equal(a, b) for a, b in zip(play(env, actions[:6]), begin, strict=True))


def test_starts_differ_from_row_to_row_and_from_seed_to_seed():
    env = TaskVectorEnv(Arm(), 50, xp=torch)
    starts = [env.reset(seed=seed)[0] for seed in (0, 1)]
    assert len(torch.unique(torch.cat(starts), dim=0)) == 100


def test_rewards_have_gradients_with_respect_to_actions():
    env = TaskVectorEnv(Arm(dtype="float64"), 3, xp=torch)
    env.reset(seed=0)
    actions = torch.zeros(3, 2, dtype=torch.float64, requires_grad=True)
    for _ in range(3):
        _, reward, *_ = env.step(actions)
    reward.sum().backward()
    assert actions.grad.abs().min() > 1e-4


def test_pictures_are_those_of_the_numpy_twin():
    twins = [TaskVectorEnv(Arm(), 2, render_mode="rgb_array", width=64, height=64, xp=xp) for xp in (np, torch)]
    state = np.array([0.3, 0.5, 1.0, 0.4], np.float32)
    for twin in twins:
        twin.reset(seed=0, options={"state": torch.from_numpy(state)})
        twin.step(np.full((2, 2), 0.5, np.float32))
    for ours, theirs in zip(*(twin.render() for twin in twins), strict=True):
        assert np.array_equal(ours, theirs)


def test_an_adapted_class_has_its_own_task():
    env = ArmVectorEnv(num_envs=3, xp=torch, link_1=2.0)
    assert env.task.params.link_1 == 2.0
    assert isinstance(env.reset(seed=0)[0], torch.Tensor)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (torch.zeros(2, 2), "must have shape"),
        (torch.zeros(3, 2, dtype=torch.int64), "floating-point"),
        (torch.full((3, 2), torch.nan), "finite"),
        (np.full((3, 2), np.inf), "finite"),
        (None, "must be numbers"),
    ],
    ids=["shape", "integers", "nan", "infinity", "none"],
)
def test_bad_actions_are_refused_and_change_nothing(actions, message):
    env = TaskVectorEnv(Arm(), 3, xp=torch)
    env.reset(seed=0)
    before = env.get_state()
    with pytest.raises(InvalidActionError, match=message):
        env.step(actions)
    assert torch.equal(env.get_state()["state"], before["state"])


@pytest.mark.parametrize(
    "actions", [torch.zeros(3), torch.full((3,), 10), torch.zeros(3, dtype=torch.bool), torch.tensor([0, 1, -1])]
)
def test_bad_choices_are_refused(actions):
    env = TaskVectorEnv(Bandit(), 3, xp=torch)
    env.reset(seed=0)
    with pytest.raises(InvalidActionError, match="must be"):
        env.step(actions)


def test_bad_settings_are_refused():
    with pytest.raises(InvalidSettingError, match="numpy or torch"):
        TaskVectorEnv(Arm(), 3, xp=gym)
    with pytest.raises(InvalidSettingError, match="give xp=torch"):
        TaskVectorEnv(Arm(), 3, device="cuda")
    with pytest.raises(InvalidSettingError, match="needs a task, but 3 was"):
        TaskVectorEnv(3)
    with pytest.raises(InvalidSettingError, match="link_1"):
        TaskVectorEnv(Arm(), 3, link_1=2.0)


def test_disabled_refuses_steps_of_rows_that_ended():
    env = TaskVectorEnv(Arm(), 3, xp=torch, max_episode_steps=1, autoreset_mode="Disabled")
    env.reset(seed=0)
    env.step(torch.zeros(3, 2))
    with pytest.raises(gym.error.ResetNeeded, match=r"rows \[0, 1, 2\]"):
        env.step(torch.zeros(3, 2))


def test_make_vec_takes_the_name_of_the_module_and_keeps_it_in_the_spec():
    env = gym.make_vec("mbrl/Arm-v0", num_envs=2, xp="torch")
    assert isinstance(env.reset(seed=0)[0], torch.Tensor)
    again = gym.make_vec(env.spec)
    assert '"xp": "torch"' in env.spec.to_json()
    assert isinstance(again.reset(seed=0)[0], torch.Tensor)
