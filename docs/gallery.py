"""Write gallery.md and its pictures: `python docs/gallery.py [ID ...]` (all environments by default)."""

from __future__ import annotations

import re
import sys
from contextlib import closing
from inspect import getdoc
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

import mbrl_gym
from mbrl_gym import envs

FOLDER = Path(__file__).parent
SEED = 7
STEPS = {
    "mbrl/Arm-v0": 6,
    "mbrl/ArmSparse-v0": 4,
    "mbrl/ArmTorque-v0": 4,
    "mbrl/Drift-v0": 4,
    "mbrl/BlockingMaze-v0": 7,
}
"""Steps before the picture is taken, where not 18 (planners), 14 (with a gripper), 12 (in mazes) or 400 (bandits)."""

HEAD = """# Gallery

All environments of this package, written by `python docs/gallery.py`. Planned ones show what `MPC` with the exact model
imagines at that moment: blue the best plan, grey others that it keeps. Mazes show what each cell is worth at best, and
the best actions. Box actions are in [-1, 1].
Returns are means over the 100 evaluation seeds, `env.reset(seed=0)` to `seed=99`.

| | |
|---|---|
"""


def picture_of(env_id: str) -> Path:
    """Return the file of an environment's picture."""
    return FOLDER / "gallery" / f"{env_id.removeprefix('mbrl/')}.png"


def page() -> str:
    """Return the page's text."""
    entries = [_entry(env_id) for env_id in mbrl_gym.env_ids()]
    index = "".join(f"| [`{env_id}`](#{_anchor(env_id)}) | {sentence} |\n" for env_id, sentence, _ in entries)
    return HEAD + index + "".join(text for *_, text in entries)


def _entry(env_id: str) -> tuple[str, str, str]:
    """Return the id, the task in a sentence, and the section of the page."""
    with closing(gym.make(env_id)) as env:
        text = getdoc(type(env.unwrapped)) or ""
        known = mbrl_gym.reference(env_id)
        length = env.spec.max_episode_steps if env.spec else None
        rows = {
            "observations": _describe(env.observation_space),
            "actions": _describe(env.action_space),
            "reward": _section(text, "Reward"),
            "end": _section(text, "Episode End"),
            "steps": f"{length:,}",
            "random actions earn": f"{known.random:,.2f}",
            "the optimum earns": f"{known.optimal:,.2f} ({known.kind}: {known.method}{_gap(known)})",
        }
    sentence = text.split("\n", 1)[0]
    table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
    picture = picture_of(env_id).relative_to(FOLDER).as_posix()
    return env_id, sentence, f"\n## {env_id}\n\n{sentence}\n\n![{env_id}]({picture})\n\n| | |\n|---|---|\n{table}"


def _gap(known: mbrl_gym.Reference) -> str:
    """Say by how much the optimum may be above the best known value."""
    if known.kind == "exact":
        return ""
    return "; no upper bound known" if known.gap is None else f"; at most {known.gap:.2g} below an upper bound"


def _anchor(env_id: str) -> str:
    """Return the anchor that GitHub gives the heading."""
    return re.sub(r"[^\w\- ]", "", env_id.lower()).replace(" ", "-")


def _section(text: str, title: str) -> str:
    """Return the first paragraph of a docstring's section, in one line that a table can hold."""
    found = re.search(rf"^## {title}\n(.+?)(?:\n\s*\n|\Z)", text, re.DOTALL | re.MULTILINE)
    return " ".join(found[1].split()).replace("|", "\\|") if found else ""


def _describe(space: gym.Space[Any]) -> str:
    """Return the sizes of a space."""
    if isinstance(space, spaces.Dict):
        return ", ".join(f"{name} {_describe(part)}" for name, part in space.items())
    if isinstance(space, spaces.Discrete):
        return f"one of {space.n}"
    return " x ".join(str(size) for size in space.shape or ())


def draw(env_id: str) -> np.ndarray[Any, Any]:
    """Return a picture of 640 x 480 pixels some steps into an episode."""
    with closing(gym.make(env_id, render_mode="rgb_array")) as env:
        if isinstance(env.observation_space, spaces.Discrete):
            return _walk(env, STEPS.get(env_id, 12))
        if isinstance(env.action_space, spaces.Discrete):
            return _pull(env, STEPS.get(env_id, 400))
        if isinstance(env.observation_space, spaces.Dict):
            return _carry(env, STEPS.get(env_id, 14))
        return _plan(env, STEPS.get(env_id, 18))


def _plan(env: gym.Env[Any, Any], steps: int) -> np.ndarray[Any, Any]:
    """Let an agent with the exact model play."""
    from mbrl_gym.agents import MPC
    from mbrl_gym.wrappers import ShowPlans

    settings = {"horizon": 20, "population": 150, "iterations": 4}
    agent = MPC("iCEM", env, model="exact", planner_kwargs=settings, seed=SEED, monitor_wrapper=False, device="cpu")
    shown = ShowPlans(env, agent)
    shown.reset(seed=SEED)
    for _ in range(steps):
        *_, terminated, truncated, _ = shown.step(shown.decide())
        if terminated or truncated:
            shown.reset()
    return np.asarray(shown.render())


def _pull(env: gym.Env[Any, Any], steps: int) -> np.ndarray[Any, Any]:
    """Pull the arm with the best sample mean, in one of four pulls any."""
    generator = np.random.default_rng(SEED)
    env.reset(seed=SEED)
    arms = int(env.action_space.n)  # type: ignore[attr-defined]
    totals, pulls = np.zeros(arms), np.full(arms, 1e-9)
    for _ in range(steps):
        arm = generator.integers(arms) if generator.random() < 0.25 else np.argmax(totals / pulls)
        reward = env.step(int(arm))[1]
        totals[arm] += float(reward)
        pulls[arm] += 1
    return np.asarray(env.render())


def _walk(env: gym.Env[Any, Any], steps: int) -> np.ndarray[Any, Any]:
    """Take a best action, in one of four steps any."""
    from mbrl_gym.wrappers import ShowValues

    generator, values = np.random.default_rng(SEED), env.unwrapped.task.action_values()  # type: ignore[attr-defined]
    shown = ShowValues(env, values)
    cell, _ = shown.reset(seed=SEED)
    for _ in range(steps):
        best = np.flatnonzero(values[cell] == values[cell].max())
        action = generator.integers(4) if generator.random() < 0.25 else generator.choice(best)
        cell = shown.step(int(action))[0]
    return np.asarray(shown.render())


def _carry(env: gym.Env[Any, Any], steps: int) -> np.ndarray[Any, Any]:
    """Bring the tip to the object and the object to the goal, by the best of random turns at each step."""
    generator, task = np.random.default_rng(SEED), env.unwrapped.task  # type: ignore[attr-defined]
    env.reset(seed=SEED)
    for _ in range(steps):
        state = env.unwrapped.get_state()["state"]  # type: ignore[attr-defined]
        aim = task.target(state) if task.holding(state) else task.object_position(state)
        turns = generator.uniform(-1.0, 1.0, (500, 3)).astype(np.float32)
        noise = envs.draw(generator, (500,), task.transition_noise, task.dtype)
        *_, x, y = task.joints(task.transition(np.tile(state, (500, 1)), turns, noise))
        distance = np.hypot(x - aim[0], y - aim[1])
        best = turns[np.argmin(distance)]
        best[2] = 1.0 if task.holding(state) or distance.min() < 0.02 else -1.0
        env.step(best)
    return np.asarray(env.render())


def main(env_ids: list[str]) -> None:
    """Write the page, and the pictures of these environments."""
    from PIL import Image

    (FOLDER / "gallery").mkdir(exist_ok=True)
    for env_id in env_ids:
        image = Image.fromarray(draw(env_id)).quantize(128, dither=Image.Dither.NONE)
        image.save(picture_of(env_id), optimize=True)
    (FOLDER / "gallery.md").write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:] or list(mbrl_gym.env_ids()))
