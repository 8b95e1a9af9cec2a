"""How many steps does an agent need? Planning with a learned model beside SAC and PPO, on the task of a drone.

What one learns: a model turns every step into knowledge of all tasks with the same dynamics, rewards alone do not.
Scores are of real runs on the same evaluation episodes: 0 is what random actions earn, 1 the best possible controller.
MPC is told the reward function, SAC and PPO are not; they have the settings of `mbrl-gym bench`, which runs many seeds
with statistics. One run each proves little: PPO scored 0.2 in one and 0.5 in another. Draws sample_efficiency.png.
Run: python examples/sample_efficiency.py
"""

import argparse
import time

import gymnasium as gym
import matplotlib.pyplot as plt
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy

import mbrl_gym
from mbrl_gym.agents import MPC, as_sb3_vec_env

parser = argparse.ArgumentParser()
parser.add_argument("--episodes", type=int, default=20, help="that judge an agent")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="sample_efficiency.png")
arguments = parser.parse_args()
episodes, rollout = (1, 16) if arguments.small else (arguments.episodes, 1024)
TASK = "mbrl/Drone-v0"


def copies(number):
    return as_sb3_vec_env(gym.make_vec(TASK, num_envs=number, autoreset_mode="SameStep"))


quick = {"learning_rate": 1e-3, "seed": 0, "device": "cpu"}
small = {"policy_kwargs": {"net_arch": [64, 64]}}
planning = {"model": "linear", "reward": "exact", "learning_starts": 25, "train_freq": 5, "seed": 0}
runs = {  # how an agent is made (which seeds the generators that SB3's share), and the steps after which it is judged
    "MPC (a linear model, iCEM)": (lambda: MPC("iCEM", TASK, **planning), (30, 50, 100, 300)),
    "SAC": (lambda: SAC("MlpPolicy", TASK, learning_starts=200, **small, **quick), (300, 1000, 2000, 3000)),
    "PPO": (lambda: PPO("MlpPolicy", copies(4), n_steps=rollout, gamma=0.95, **quick), (4096, 8192, 16_384, 32_768)),
}
judges = copies(episodes)

figure, axes = plt.subplots(figsize=(8, 5), dpi=110, layout="constrained")
for color, (name, (make, marks)) in enumerate(runs.items()):
    agent, curve, begin = make(), [], time.perf_counter()
    for steps in (64,) if arguments.small else marks:
        agent.learn(steps - agent.num_timesteps, reset_num_timesteps=False)
        judges.seed(0)
        returns, _ = evaluate_policy(agent, judges, episodes, return_episode_rewards=True, warn=False)
        curve.append((agent.num_timesteps, mbrl_gym.score(TASK, returns).mean()))
    seconds = time.perf_counter() - begin
    print(f"{name:26}: score {curve[-1][1]:5.2f} after {curve[-1][0]:6,} steps, {seconds:.0f} s with evaluations")
    axes.plot(*zip(*curve, strict=True), marker="o", color=f"C{color}", label=name)
axes.axhline(1, color="k", linestyle=":", label="the best possible controller")
axes.set(title=f"{TASK}, one run each", xscale="log", xlabel="environment steps", ylabel="score", ylim=(-0.1, 1.05))
axes.legend(loc="center left")
figure.savefig(arguments.out)
