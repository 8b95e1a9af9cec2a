"""The agent that searches trees: on Stable-Baselines3's API, in every kind of environment, in files."""

import io

import gymnasium as gym
import numpy as np
import pytest
import torch
from agent_toys import FROZEN, Counter, Offset, environment, frozen_lake
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv
from tic_tac_toe import O, TicTacToe, X, board

import mbrl_gym
from mbrl_gym.agents import MCTS, TreeSearch, plot_tree
from mbrl_gym.agents.planning.tree import root_table
from mbrl_gym.agents.replay import transitions
from mbrl_gym.errors import InvalidSettingError, UnsupportedSpaceError
from mbrl_gym.wrappers import ShowPlans, SimulatorModel, TrackState

QUICK = {
    "simulations": 12,
    "learning_starts": 30,
    "train_freq": 20,
    "search_kwargs": {"horizon": 4},
    "model_kwargs": {"hidden": [16], "max_epochs": 4},
}
KINDS = [("dummy", 1), ("dummy", 3), ("native", 3)]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1", "mbrl/ArmPickPlace-v0"])
@pytest.mark.parametrize("rule", ["UCT", "PUCT", "Gumbel"])
def test_every_rule_runs_in_every_kind_of_environment(rule, env_id):
    env = make_vec_env(env_id, 2, seed=0)
    if rule == "Gumbel" and isinstance(env.action_space, spaces.Box):
        with pytest.raises(UnsupportedSpaceError, match="UCT or PUCT"):
            MCTS(rule, env, **QUICK)
        return
    agent = MCTS(rule, env, seed=0, **QUICK).learn(42)
    observations = env.reset()
    actions, state = agent.predict(observations, deterministic=True)
    assert actions.shape == (2, *env.action_space.shape)
    assert actions.dtype == env.action_space.dtype
    assert all(env.action_space.contains(action) for action in actions)
    again, _ = agent.predict(observations, deterministic=True)
    assert_array_equal(actions, again)
    _, state = agent.predict(observations, state, np.array([True, False]), deterministic=True)
    assert_array_equal(state.age, [0, 1])
    one = {name: part[0] for name, part in observations.items()} if isinstance(observations, dict) else observations[0]
    single, _ = agent.predict(one, deterministic=True)
    assert env.action_space.contains(single)
    assert agent.decision_times_ms


def test_the_exact_lake_is_crossed_and_trees_live_on():
    env = Monitor(gym.make("FrozenLake-v1", **FROZEN))
    agent = MCTS("UCT", env, model=frozen_lake(), simulations=200, gamma=0.9, search_kwargs={"horizon": 8}, seed=0)
    assert evaluate_policy(agent, env, 2) == (1.0, 0.0)
    observation, state = 0, None
    for step in range(3):
        action, state = agent.predict(observation, state, np.array([step == 0]), deterministic=True)
        assert (state.decisions.simulated[0] > 200) == (step > 0)
        observation = int(frozen_lake().dynamics_fn(torch.tensor(observation), torch.tensor(int(action))))


def test_a_simulator_of_the_slippery_lake_agrees_with_value_iteration():
    env = gym.make("FrozenLake-v1")
    model = SimulatorModel(env)
    agent = MCTS("UCT", env, model=model, simulations=4_000, search_kwargs={"horizon": 60}, seed=0)
    assert agent.policy.compiled_model is not None
    table, value = model.outcome_table, np.zeros(16)
    for _ in range(500):
        q = (table.probability * (table.reward + 0.99 * ~table.ends * value[table.following])).sum(-1)
        value = q.max(1)
    states = np.array([8, 13, 14])
    actions, _ = agent.predict(states, deterministic=True)
    assert (q[states, actions] > value[states] - 0.05).all()
    assert (q[states].min(1) < value[states] - 0.05).all()  # others would be worse


GRAPH = {"transpositions": True, "backup": "max", "rollout": "none"}


def test_a_graph_of_the_slippery_lake_finds_the_best_action_everywhere():
    """Value iteration's, from every state; a tree of as many simulations misses it."""
    model = SimulatorModel(gym.make("FrozenLake-v1"))
    table, value = model.outcome_table, np.zeros(16)
    for _ in range(2000):
        q = (table.probability * (table.reward + 0.99 * ~table.ends * value[table.following])).sum(-1)
        value = q.max(1)
    states, regret = np.flatnonzero(value > 0), {}
    for name, settings in (("graph", {**GRAPH, "exploration": 0.3, "leaf_value": 1.0}), ("tree", {})):
        agent = MCTS("UCT", "FrozenLake-v1", model=model, simulations=500, search_kwargs={"horizon": 100, **settings})
        actions, _ = agent.predict(states, deterministic=True)
        regret[name] = value[states] - q[states, actions]
    assert regret["graph"].max() < 0.03
    assert regret["graph"].mean() < 0.2 * regret["tree"].mean()


def test_a_graph_drives_the_taxi_on_shortest_paths():
    """Breadth-first search over the table knows their lengths."""
    env = gym.make("Taxi-v4")
    model = SimulatorModel(env)
    table = model.outcome_table
    distance = np.where(table.ends[..., 0].any(1), 1.0, np.inf)
    for _ in range(50):
        following = np.where(table.ends[..., 0], 0.0, distance[table.following[..., 0]])
        distance = np.minimum(distance, 1 + following.min(1))
    settings = {"horizon": 50, "leaf_value": 20.0, **GRAPH}
    agent = MCTS("UCT", env, model=model, simulations=500, gamma=1.0, search_kwargs=settings, seed=0)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        start, state, steps, done = observation, None, 0, False
        while not done:
            action, state = agent.predict(observation, state, np.array([steps == 0]), deterministic=True)
            observation, _, terminated, truncated, _ = env.step(action)
            steps, done = steps + 1, terminated or truncated
        assert steps == distance[start]
    env.reset(seed=0)


def test_one_leaf_judged_by_a_critic_of_stable_baselines():
    critic = PPO("MlpPolicy", "CartPole-v1", n_steps=64, batch_size=64, seed=0).learn(64)
    agent = MCTS("PUCT", "CartPole-v1", value=critic, seed=0, **QUICK).learn(40)
    observation = agent.env.reset()
    _, state = agent.predict(observation, deterministic=True)
    expected = critic.policy.predict_values(torch.as_tensor(observation)).item()
    assert state.tree.nodes["raw"][0, 0] == pytest.approx(expected, rel=1e-5)


def test_choices_may_start_anywhere_and_be_many():
    quick = {"simulations": 30, "learning_starts": 20, "search_kwargs": {"horizon": 2}}
    agent = MCTS("UCT", DummyVecEnv([Offset] * 2), model="linear", seed=0, **quick).learn(30)
    assert_array_equal(agent.predict(np.array([7, 9]), deterministic=True)[0], [1, 1])
    quick = {"model": "linear", "simulations": 60, "learning_starts": 60, "search_kwargs": {"horizon": 2}}
    agent = MCTS("UCT", DummyVecEnv([Counter] * 2), seed=0, **quick).learn(70)
    assert_array_equal(agent.predict(agent.env.reset(), deterministic=True)[0], [[2, 8], [2, 8]])


def test_tic_tac_toe_finds_the_winning_move():
    """After x(0,1) o(2,2) x(0,0) o(1,1) the third of the row wins at once; against a random opponent."""
    env = TrackState(TicTacToe())
    agent = MCTS(
        "UCT", env, model=SimulatorModel(env, stochastic=True), simulations=300, search_kwargs={"horizon": 9}, seed=0
    )
    env.reset(seed=0)
    observation = env.unwrapped.place(board({(0, 1): X, (0, 0): X, (2, 2): O, (1, 1): O}))
    env.observation = observation
    action, _ = agent.predict(observation, deterministic=True)
    assert divmod(int(action), 3) == (0, 2)


def test_tic_tac_toe_from_two_moves_leads_to_a_won_game():
    """After x(0,1) o(2,2), x(0,2) threatens a row and guards the column: what brute force says is best is taken."""
    env = TrackState(TicTacToe())
    agent = MCTS(
        "UCT",
        env,
        model=SimulatorModel(env, stochastic=True),
        simulations=2500,
        gamma=1.0,
        search_kwargs={"horizon": 9},
        seed=0,
    )
    env.reset(seed=0)
    start = board({(0, 1): X, (2, 2): O})
    env.observation = env.unwrapped.place(start)
    action, _ = agent.predict(env.observation, deterministic=True)
    values = TicTacToe.action_values(start, 1.0)
    assert divmod(int(action), 3) == (0, 2)
    assert values[int(action)] == np.nanmax(values) == 1.0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, kind):
    count = kind[1]
    settings = {**QUICK, "reward": "exact", "exploration": 0.3, "learning_starts": 30 * count, "seed": 3}
    whole = MCTS("UCT", environment(kind), **settings).learn(80 * count)
    half = MCTS("UCT", environment(kind), **settings).learn(40 * count)
    half.save(tmp_path / "half.zip", include=["replay_buffer"])
    resumed = MCTS.load(tmp_path / "half.zip", environment(kind)).learn(40 * count, reset_num_timesteps=False)
    mine, other = (transitions(agent.replay_buffer, agent.policy) for agent in (whole, resumed))
    for one, same in zip(mine, other, strict=True):
        assert_array_equal(one, same)
    assert resumed.num_timesteps == whole.num_timesteps


@pytest.mark.parametrize("search", [{}, GRAPH], ids=["tree", "graph"])
def test_a_run_on_choices_is_resumed_with_its_tree(tmp_path, search):
    """The bandit's model is learned; the lake's is exact, so that trees are reused when the run is interrupted."""
    options = {"model": frozen_lake(), "simulations": 20, "learning_starts": 2, "train_freq": 5, "seed": 1}
    options["search_kwargs"] = search
    agent = MCTS("UCT", "FrozenLake-v1", **options).learn(12)
    stream = io.BytesIO()
    agent.save(stream, include=["replay_buffer"])
    stream.seek(0)
    loaded = MCTS.load(stream, model=frozen_lake())
    for mine, other in zip(loaded._searched.tree, agent._searched.tree, strict=True):
        for name in mine.dtype.names or (...,):
            assert_array_equal(mine[name], other[name])
    for mine, other in zip(loaded._searched.states, agent._searched.states, strict=True):
        assert_array_equal(mine, other)
    assert loaded.predict(3, deterministic=True)[0] == agent.predict(3, deterministic=True)[0]


def test_evaluation_disturbs_neither_training_nor_itself():
    runs = []
    for watch in (False, True):
        callback = EvalCallback(Monitor(gym.make("CartPole-v1")), eval_freq=40, n_eval_episodes=1, verbose=0)
        agent = MCTS("UCT", "CartPole-v1", seed=5, **QUICK)
        agent.learn(45, callback=callback if watch else None)
        runs.append(agent.replay_buffer.actions[:45].copy())
    assert_array_equal(*runs)


def test_boxes_are_searched_by_progressive_widening():
    env = make_vec_env("mbrl/Drift-v0", 4, seed=2)
    agent = MCTS("UCT", env, model="exact", simulations=40, search_kwargs={"horizon": 6}, seed=0)
    agent.policy.predict(env.reset())
    returns, _ = evaluate_policy(agent, make_vec_env("mbrl/Drift-v0", 2, seed=4), 2)
    assert mbrl_gym.score("mbrl/Drift-v0", returns) > 0.9


def test_wrong_arguments_are_refused():
    with pytest.raises(InvalidSettingError, match="policy must be one of UCT, PUCT, Gumbel"):
        MCTS("iCEM", "CartPole-v1")
    with pytest.raises(InvalidSettingError, match="model must be one of ensemble"):
        MCTS("UCT", "CartPole-v1", model="network")
    with pytest.raises(InvalidSettingError, match="repeats the arguments simulations"):
        MCTS("UCT", "CartPole-v1", search_kwargs={"simulations": 3})
    with pytest.raises(InvalidSettingError, match="no setting 'depth'"):
        MCTS("UCT", "CartPole-v1", search_kwargs={"depth": 3})
    with pytest.raises(InvalidSettingError, match="was made for actions"):
        MCTS(TreeSearch(spaces.Discrete(3)), "CartPole-v1")
    with pytest.raises(InvalidSettingError, match="has its settings"):
        MCTS(TreeSearch(spaces.Discrete(2)), "CartPole-v1", search_kwargs={"horizon": 3})


def test_expert_iteration_learns_priors_and_values_and_is_resumed(tmp_path):
    """Seven simulations are too few to see the goal; learned values lead there from afar, and last in files."""
    settings = {
        "model": frozen_lake(),
        "simulations": 30,
        "gamma": 0.9,
        "learn_policy": True,
        "learning_starts": 0,
        "train_freq": 25,
        "buffer_size": 400,
        "policy_learning_rate": 3e-3,
        "seed": 0,
    }
    make = lambda: make_vec_env("FrozenLake-v1", 4, env_kwargs=FROZEN)  # noqa: E731
    agent = MCTS("PUCT", make(), **settings).learn(600)
    network = agent.policy.network
    near, far = network.value(torch.tensor([14, 0])).tolist()
    assert near > 0.8
    assert near > far > 0.2  # 0.9^5 = 0.59 at best
    assert network.prior(torch.tensor([14])).argmax() == 2
    env = Monitor(gym.make("FrozenLake-v1", **FROZEN))
    blind = MCTS("PUCT", env, **{**settings, "simulations": 7})
    observation = np.arange(3)
    agent.save(tmp_path / "agent", include=["replay_buffer"])
    loaded = MCTS.load(tmp_path / "agent", make(), model=frozen_lake())
    assert_array_equal(*(each.predict(observation, deterministic=True)[0] for each in (agent, loaded)))
    assert len(loaded._targets) == len(agent._targets) == 400
    few = MCTS("PUCT", env, **{**settings, "simulations": 7})
    few.policy.load_state_dict(agent.policy.state_dict())
    assert evaluate_policy(few, env, 1)[0] == 1.0
    assert evaluate_policy(blind, env, 1)[0] == 0.0
    with pytest.raises(InvalidSettingError, match="learn_policy=True learns"):
        MCTS("UCT", "CartPole-v1", learn_policy=True)


def test_decisions_tell_what_the_search_expects():
    agent = MCTS("UCT", "mbrl/Arm-v0", model="exact", simulations=60, search_kwargs={"horizon": 5}, seed=0)
    env = gym.make("mbrl/Arm-v0", render_mode="rgb_array")
    observation, _ = env.reset(seed=2)
    decision = agent.decide(observation)
    action, _ = agent.predict(observation, deterministic=True)
    assert_array_equal(decision.action, action)
    following, *_ = env.step(action)
    assert_allclose(decision.plans[0, 0], following, atol=1e-5)  # the exact model's next observation
    assert decision.particles is None
    shown = ShowPlans(env, agent)
    shown.reset(seed=2)
    plain = env.render()
    assert (shown.render() != plain).any()
    ensemble = MCTS("UCT", "mbrl/Arm-v0", seed=0, **QUICK).learn(40)
    decision = ensemble.decide(observation)
    assert decision.particles.shape[0] == ensemble.world_model.particle_unit
    assert_allclose(decision.particles[:, 0].mean(0), decision.plans[0, 0], atol=1e-5)
    lake = MCTS("UCT", "FrozenLake-v1", model=SimulatorModel(gym.make("FrozenLake-v1")))
    with pytest.raises(InvalidSettingError, match="compiled models do not hold"):
        lake.decide(0)


def test_a_tree_is_drawn_and_tabulated():
    agent = MCTS("UCT", "FrozenLake-v1", model=frozen_lake(), simulations=80, seed=0)
    _, searched = agent.predict(14, deterministic=True)
    for nodes in (1, 12):
        figure = plot_tree(searched, nodes=nodes, title="Lake")
        lines, meetings, dots = figure.axes[0].collections
        assert len(dots.get_offsets()) == nodes == len(lines.get_paths()) + 1
        assert not meetings.get_paths()
    assert dots.get_array()[0] == pytest.approx(
        np.nansum(searched.decisions.visits * np.nan_to_num(searched.decisions.values)) / 80
    )
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"80", "0", "1", "2", "3"} <= texts
    lines = root_table(searched.decisions).splitlines()
    assert lines[0].split() == ["action", "visits", "value", "prior"]
    assert lines[1].split()[0] == "2"
    assert sum(int(line.split()[1]) for line in lines[1:]) == 80
    with pytest.raises(InvalidSettingError, match="nodes must be at least 1"):
        plot_tree(searched, nodes=0)
    graph = MCTS("UCT", "FrozenLake-v1", model=frozen_lake(), simulations=80, search_kwargs=GRAPH, seed=0)
    _, searched = graph.predict(14, deterministic=True)
    lines, meetings, dots = plot_tree(searched).axes[0].collections
    assert len(dots.get_offsets()) == searched.tree.size[0, 0] == len(lines.get_paths()) + 1
    assert len(meetings.get_paths()) > 3
    assert dots.get_array()[0] == pytest.approx(1.0)
