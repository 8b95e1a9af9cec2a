"""An arm learns to reach, and then follows a target that runs away from it.

What one learns: a planner decides anew at every step, so that an agent which learned to reach targets at rest follows
one that moves, without any further training. Draws arm_following.gif, with what the agent imagines, and
arm_following.png. Run: python examples/arm_following.py
"""

import argparse
from pathlib import Path

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import mbrl_gym  # noqa: F401  registers the tasks
from mbrl_gym.agents import MPC
from mbrl_gym.wrappers import ShowPlans

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=500, help="to learn from")
parser.add_argument("--small", action="store_true", help="a run of seconds")
parser.add_argument("--out", default="arm_following.png")
arguments = parser.parse_args()
steps, length = (60, 6) if arguments.small else (arguments.steps, 160)

school = gym.make("mbrl/Arm-v0", max_episode_steps=10)  # short episodes show many targets
agent = MPC("iCEM", school, reward="exact", learning_starts=50, planner_kwargs={"horizon": 10}, seed=0)
agent.learn(steps)

env = ShowPlans(gym.make("mbrl/Arm-v0", render_mode="rgb_array", max_episode_steps=length), agent)
observation, _ = env.reset(seed=1)
targets, tips, frames = [], [], []
for step in range(length):
    turn = 2 * np.pi * step / 120  # a figure of eight in 120 steps
    env.move_target([0.9 * np.sin(turn), 0.4 * np.sin(2 * turn) + 0.9])
    if step % 2 == 0:
        frames.append(Image.fromarray(env.render()))
    observation, *_ = env.step(env.decide())
    targets.append(observation[4:6])
    tips.append(observation[4:6] + observation[6:8])

targets, tips = np.array(targets), np.array(tips)
distance = np.linalg.norm(targets - tips, axis=1)
print(
    f"after {steps} steps of learning: {100 * np.median(distance):.1f} cm behind the target (median of {length} steps)"
)
frames[0].save(Path(arguments.out).with_suffix(".gif"), save_all=True, append_images=frames[1:], duration=100, loop=0)
figure, (paths, curve) = plt.subplots(1, 2, figsize=(12, 5), dpi=110, layout="constrained")
paths.plot(*targets.T, "k:", label="target")
paths.plot(*tips.T, label="tip of the arm")
paths.plot(0, 0, "k^", label="shoulder")
paths.set(aspect="equal", xlabel="x [m]", ylabel="y [m]", title="mbrl/Arm-v0, with a target that moves")
paths.legend()
curve.plot(distance)
curve.set(xlabel="step", ylabel="distance from tip to target [m]", ylim=(0, None))
figure.savefig(arguments.out)
