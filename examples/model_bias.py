"""A model of few data promises its planner more than the real arm pays: model bias, shown and measured.

What one learns: an imagined return is no measure of an agent, since a planner prefers actions that the model overrates,
so that its plans are overrated by more than random actions are; with more data this ends, and real returns rise.
Draws model_bias.png. Run: python examples/model_bias.py
"""

import argparse

import gymnasium as gym
import matplotlib.pyplot as plt

import mbrl_gym  # noqa: F401  registers the tasks
from mbrl_gym.agents import MPC, measure_exploitation, random_transitions
from mbrl_gym.models import MLPModel, evaluate_model

parser = argparse.ArgumentParser()
parser.add_argument("--plans", type=int, default=40, help="that are carried out for each model")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="model_bias.png")
arguments = parser.parse_args()
sizes, plans = ((100, 200), 2) if arguments.small else ((100, 300, 1000, 3000), arguments.plans)

env = gym.make("mbrl/Arm-v0", max_episode_steps=25)  # short episodes show many targets
judged = random_transitions(env, 2000, seed=1)
measured = []
figure, (errors, returns) = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
for number, size in enumerate(sizes):
    model = MLPModel(env.observation_space, env.action_space, seed=0)
    model.fit(random_transitions(env, size, seed=0))
    report = evaluate_model(model, judged, horizons=(1, 2, 5, 10, 20))
    curve = [at.horizon for at in report.horizons], [at.error for at in report.horizons]
    errors.plot(*curve, marker="o", color=plt.cm.viridis(number / len(sizes)), label=f"{size:,} random steps")
    agent = MPC("iCEM", env, model=model, planner_kwargs={"horizon": 10}, seed=0)
    measured.append(measure_exploitation(agent, env, plans=plans, seed=0))
    found = measured[-1]
    print(
        f"{size:5,} steps: plans of 10 steps promise {found.planned_imagined.mean():6.1f}, pay "
        f"{found.planned_real.mean():6.1f}: overrated by {found.gap:5.1f} +- {found.gap_error:.1f} "
        f"(random actions: {found.random_gap:5.1f})"
    )
errors.plot([at.horizon for at in report.horizons], [at.baseline for at in report.horizons], "k:", label="no change")
errors.set(
    xticks=[at.horizon for at in report.horizons],
    title="mbrl/Arm-v0: error of the model",
    yscale="log",
    xlabel="steps ahead",
)
errors.set_ylabel("squared error / variance of the data")
errors.legend()
for name, color in (("imagined", "C1"), ("real", "C0")):
    means = [getattr(found, f"planned_{name}").mean() for found in measured]
    returns.plot(sizes, means, marker="o", color=color, label=f"{name} return of the plans")
returns.set(title="plans of 10 steps", xscale="log", xticks=sizes, xticklabels=[f"{size:,}" for size in sizes])
returns.set(xlabel="random steps that the model has seen", ylabel="return of 10 steps")
returns.minorticks_off()
returns.legend()
figure.savefig(arguments.out)
