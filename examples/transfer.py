"""An arm picks up 2 kg: what its model knows of the empty arm carries over, and few further steps do the rest.

What one learns: a model is of the dynamics, not of a task, so that it can be moved to a changed robot. `fit` goes on
from the weights that there are: in this run 200 steps with the load are worth more than 800 to a new model, while
100 are so few that the model forgets more than it learns. Draws transfer.png.
Run: python examples/transfer.py
"""

import argparse
import copy

import gymnasium as gym
import matplotlib.pyplot as plt
from stable_baselines3.common.evaluation import evaluate_policy

import mbrl_gym  # noqa: F401  registers the tasks
from mbrl_gym.agents import MPC, as_sb3_vec_env, random_transitions
from mbrl_gym.models import MLPModel, evaluate_model

parser = argparse.ArgumentParser()
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="transfer.png")
arguments = parser.parse_args()
steps, sizes, episodes, length = (300, (100,), 1, 3) if arguments.small else (3000, (100, 200, 400, 800), 10, 100)
TASK, HEAVY = "mbrl/ArmTorque-v0", {"payload": 2.0}
short = {"max_episode_steps": 12}  # many starts and targets in few steps
empty, heavy = gym.make(TASK, **short), gym.make(TASK, **short, **HEAVY)
further, judged = random_transitions(heavy, max(sizes), seed=1), random_transitions(heavy, 1000, seed=2)
new = MLPModel(empty.observation_space, empty.action_space, reward_fn=empty.unwrapped.task.reward, seed=0)
known = copy.deepcopy(new)
known.fit(random_transitions(empty, steps, seed=0))
judges = as_sb3_vec_env(gym.make_vec(TASK, episodes, autoreset_mode="SameStep", max_episode_steps=length, **HEAVY))


def judge(model):
    """Return the model's error ten steps ahead, and what an agent earns that plans with it."""
    settings = {"horizon": 10, "population": 48, "deviation": 0.3}
    agent = MPC("iCEM", TASK, model=model, reward="exact", planner_kwargs=settings, seed=0)
    judges.seed(0)
    error = evaluate_model(model, judged, horizons=(10,)).horizons[0].error
    return error, evaluate_policy(agent, judges, episodes, warn=False)[0]


curves = {"a model of the empty arm": [(0, *judge(known))], "a new model": []}
for size in sizes:
    for (name, curve), before in zip(curves.items(), (known, new), strict=True):
        model = copy.deepcopy(before)
        model.fit(further.rows(slice(0, size)))
        curve.append((size, *judge(model)))
        print("{:4} steps with 2 kg, {:24}: error {:5.2f}, return {:6.1f}".format(size, name, *curve[-1][1:]))
figure, panels = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
for name, curve in curves.items():
    for column, axes in enumerate(panels, start=1):
        axes.plot([point[0] for point in curve], [point[column] for point in curve], marker="o", label=name)
        axes.set(xlabel="random steps with a payload of 2 kg that the model goes on to learn from")
panels[0].set(title="squared error ten steps ahead / variance", ylim=(0, None))
panels[1].set(title=f"{TASK}: return of a planning agent, {episodes} episodes")
panels[0].legend()
figure.savefig(arguments.out)
