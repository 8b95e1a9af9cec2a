"""PPO balances Gymnasium's CartPole after training in a dream only: a world model of at most 2,000 real steps.

Every round records some real steps (random ones at first, then the policy's), fits an ensemble to all of them, with
reward and termination learned too, and trains PPO inside that model. Run: python examples/dream.py --seed 0
"""

import argparse

import gymnasium as gym
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from mbrl_gym.agents import as_sb3_vec_env
from mbrl_gym.models import GaussianEnsemble
from mbrl_gym.wrappers import ImaginedVectorEnv, RecordTransitions

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=2000, help="real steps in all")
parser.add_argument("--rounds", type=int, default=4, help="how often the model is fitted")
parser.add_argument("--dreamed", type=int, default=120, help="imagined steps for each real one")
parser.add_argument("--episodes", type=int, default=100, help="real episodes that judge the policy in the end")
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()

real = RecordTransitions(gym.make("CartPole-v1"))
real.action_space.seed(arguments.seed)
observation, _ = real.reset(seed=arguments.seed)
judged = Monitor(gym.make("CartPole-v1"))
judged.reset(seed=1000 + arguments.seed)
model = GaussianEnsemble(real.observation_space, real.action_space, seed=arguments.seed)
agent = None

for number in range(1, arguments.rounds + 1):
    while len(real) < arguments.steps * number // arguments.rounds:
        action = agent.predict(observation)[0] if agent else real.action_space.sample()
        observation, _, terminated, truncated, _ = real.step(action)
        if terminated or truncated:
            observation, _ = real.reset()

    data = real.transitions()
    model.fit(data)
    dream = as_sb3_vec_env(ImaginedVectorEnv(model, data, num_envs=32, horizon=500, autoreset_mode="SameStep"))
    dream.seed(arguments.seed + number)
    if agent is None:
        settings = {"n_steps": 64, "batch_size": 256, "learning_rate": 1e-3, "gae_lambda": 0.9}
        agent = PPO("MlpPolicy", dream, seed=arguments.seed, device="cpu", **settings)
    agent.set_env(dream)
    agent.learn(arguments.dreamed * arguments.steps // arguments.rounds, reset_num_timesteps=False)

    episodes = arguments.episodes if number == arguments.rounds else min(10, arguments.episodes)
    mean, deviation = evaluate_policy(agent, judged, episodes)
    print(f"{len(real)} real steps: return {mean:.1f} +- {deviation:.1f} of 500 in {episodes} real episodes")
