"""A person at the controls: `mbrl-gym play`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pygame
from gymnasium import spaces

from mbrl_gym.errors import UnsupportedSpaceError
from mbrl_gym.wrappers import ShowPlans

__all__ = ["Controls", "Game"]

AXES = (
    (pygame.K_LEFT, pygame.K_RIGHT, "Left Right"),
    (pygame.K_DOWN, pygame.K_UP, "Down Up"),
    (pygame.K_s, pygame.K_w, "S W"),
    (pygame.K_a, pygame.K_d, "A D"),
    (pygame.K_q, pygame.K_e, "Q E"),
    (pygame.K_f, pygame.K_g, "F G"),
)
"""For each component of a Box action: the key that lowers it, the one that raises it, and their names."""

TEXT, STRIP, GLOW = (226, 232, 240), (40, 53, 72), (255, 214, 170)
TEXT_SIZE, MARGIN = 18, 8  # [px]


class Controls:
    """Turns the keys that are held into actions.

    Box: each component has two keys (`AXES`), and its middle where neither or both are held. Discrete: the digits, 0
    for the first action (`start`); of two actions also the arrows left and right, and the keys that the environment
    names itself (`get_keys_to_action`, a convention of Gymnasium). Of several the last one counts.

    Args:
        space: The action space.
        keys: Key codes, each alone in a tuple, and the Discrete actions that they stand for; all else is left out.

    Raises:
        UnsupportedSpaceError: Neither a Discrete of at most ten actions nor a flat Box of at most six components.
    """

    def __init__(self, space: gym.Space[Any], keys: Mapping[Any, int] | None = None) -> None:
        discrete = isinstance(space, spaces.Discrete) and space.n <= 10
        flat = isinstance(space, spaces.Box) and len(space.shape) == 1 and space.shape[0] <= len(AXES)
        if not discrete and not flat:
            raise UnsupportedSpaceError(
                f"a keyboard has keys for Discrete actions (at most 10) and flat Box actions (at most {len(AXES)} "
                f"components), but the action space is {space}"
            )
        self.space: Any = space
        self.discrete = discrete
        self._choices: dict[int, int] = {}  # key -> which of the Discrete actions, from 0 on
        self._own: dict[int, int] = {}  # those of the environment
        if isinstance(space, spaces.Discrete):
            self._choices = {pygame.K_0 + index: index for index in range(int(space.n))}
            if space.n == 2:
                self._choices |= {pygame.K_LEFT: 0, pygame.K_RIGHT: 1}
            self._own = {
                held[0]: int(action - space.start)
                for held, action in (keys or {}).items()
                if len(held) == 1 and isinstance(held[0], int)
            }
            self._choices |= self._own

    @property
    def help(self) -> str:
        """The keys, in words."""
        if self.discrete:
            first, more = self.space.start, self.space.n - 1
            if not more:
                return f"0: action {first}"
            arrows = ", or Left Right" if more == 1 else ""
            if self._own:
                arrows = ", or " + " ".join(pygame.key.name(key).capitalize() for key in self._own)
            return f"0 to {more}{arrows}: actions {first} to {first + more}"
        axes = ", ".join(name for *_, name in AXES[: self.space.shape[0]])
        return f"{axes}: action {'components' if self.space.shape[0] > 1 else ''}".rstrip()

    def action(self, held: Collection[int], otherwise: Any = None) -> Any:
        """Return the action of the held keys.

        Args:
            held: Key codes, in the order in which they were pressed.
            otherwise: The action whose components apply where no key is held. None stands for the middle of a Box; a
                Discrete space has no such action, and None is returned.
        """
        if self.discrete:
            chosen = [self._choices[key] for key in held if key in self._choices]
            return self.space.start + chosen[-1] if chosen else otherwise
        low, high = np.maximum(self.space.low, -1e3), np.minimum(self.space.high, 1e3)
        action = np.array((low + high) / 2 if otherwise is None else otherwise, self.space.dtype)
        for i, (down, up, _) in enumerate(AXES[: len(action)]):
            if (down in held) != (up in held):
                action[i] = high[i] if up in held else low[i]
        return action


class Game:
    """A window in which a person plays; an agent may play, too, and a mouse moves its target.

    `frame` is one turn of the loop, so that programs (and tests) can run it themselves. Keys that are held overrule the
    agent's action, component by component. Without an agent, Discrete environments wait for a key.

    Args:
        env: In mode "rgb_array"; a `ShowPlans` around it decides for its agent.
        agent: Plays where it is not overruled: has `predict`.
        seed: Seed of the first episode.
        report: Called with a line of text at the end of every episode.
    """

    def __init__(
        self, env: gym.Env[Any, Any], agent: Any = None, *, seed: int = 0, report: Callable[[str], None] = print
    ) -> None:
        self.env, self.agent, self.seed = env, agent, seed
        keys = getattr(env.unwrapped, "get_keys_to_action", None)
        self.controls = Controls(env.action_space, None if keys is None else keys())
        self.returns: list[float] = []  # of the episodes so far
        self.total = 0.0
        self.paused = False
        self._state: Any = None  # the agent's recurrent state
        self._report = report
        self._held: dict[int, None] = {}  # keys, in the order in which they were pressed
        self._tapped: dict[int, None] = {}  # those pressed since the last frame, some of them let go within it
        self._dragging = False
        self._mouse = (0, 0)
        self._restart()
        self._picture = self._render()
        self._window = self._open()
        self._draw()

    @property
    def fps(self) -> float:
        """Frames a second in real time."""
        return float(self.env.metadata.get("render_fps") or 30)

    @property
    def help(self) -> list[str]:
        """What keys and mouse do, in two lines."""
        lines = [self.controls.help + (" (else the agent's)" if self.agent is not None else "")]
        if self._locate(0, 0) is not None:
            lines[0] += "   Mouse: drag the target"
        return [*lines, "Space: pause   R: restart   Esc: quit"]

    def run(self) -> None:
        """Play until the person quits."""
        clock = pygame.time.Clock()
        while self.frame():
            clock.tick(self.fps)

    def frame(self) -> bool:
        """Heed keys and mouse, advance by one step, and draw; return whether the game goes on."""
        if not self._heed():
            return False
        if self._dragging and (point := self._locate(*self._mouse)) is not None:
            self._move_target(point)
        if not self.paused and (action := self._action()) is not None:
            self._step(action)
        self._tapped.clear()
        self._picture = self._render()
        self._draw()
        return True

    def close(self) -> None:
        """Close window and environment."""
        if pygame.display.get_init():
            self._window.destroy()
        self.env.close()

    def _heed(self) -> bool:
        """Take in the events since the last frame; return whether to go on."""
        for event in pygame.event.get():
            match event.type:
                case pygame.QUIT | pygame.WINDOWCLOSE:
                    return False
                case pygame.KEYDOWN if event.key == pygame.K_ESCAPE:
                    return False
                case pygame.KEYDOWN if event.key == pygame.K_SPACE:
                    self.paused = not self.paused
                case pygame.KEYDOWN if event.key == pygame.K_r:
                    self._restart()
                case pygame.KEYDOWN:
                    for keys in (self._held, self._tapped):
                        keys.pop(event.key, None)  # pressed again, it is the last one
                        keys[event.key] = None
                case pygame.KEYUP:
                    self._held.pop(event.key, None)
                case pygame.WINDOWFOCUSLOST:
                    self._held.clear()
                    self._dragging = False
                case pygame.MOUSEBUTTONDOWN | pygame.MOUSEBUTTONUP if event.button == 1:
                    self._dragging, self._mouse = event.type == pygame.MOUSEBUTTONDOWN, event.pos
                case pygame.MOUSEMOTION:
                    self._mouse = event.pos
        return True

    def _action(self) -> Any:
        """Return the next action; None for waiting."""
        otherwise = None
        if isinstance(self.env, ShowPlans):
            otherwise = self.env.decide()
        elif self.agent is not None:
            otherwise, self._state = self.agent.predict(self._observation, self._state, self._start, deterministic=True)
        earlier = [key for key in self._held if key not in self._tapped]
        return self.controls.action([*earlier, *self._tapped], otherwise)

    def _step(self, action: Any) -> None:
        self._observation, reward, terminated, truncated, _ = self.env.step(action)
        self._start = np.zeros(1, np.bool_)
        self.total += float(reward)
        if terminated or truncated:
            self._finish()

    def _finish(self) -> None:
        self.returns.append(self.total)
        self._report(f"episode {len(self.returns)}: return {self.total:.2f}")
        self._restart()

    def _restart(self) -> None:
        """Start the episode that is due: the next one, or the running one again."""
        self._observation, _ = self.env.reset(seed=self.seed + len(self.returns))
        self._state = None
        self._start = np.ones(1, np.bool_)
        self.total = 0.0

    def _locate(self, x: float, y: float) -> Any:
        """Return where in the world a point of the window [px] is, or None."""
        locate = getattr(self.env.unwrapped, "locate", None)
        if locate is None:
            return None
        left, top, scale = self._place()
        return locate((x - left) / scale, (y - top) / scale)

    def _move_target(self, point: Any) -> None:
        env: Any = self.env if isinstance(self.env, ShowPlans) else self.env.unwrapped
        self._observation = env.move_target(point)

    # The window -------------------------------------------------------------------------------------------------

    def _render(self) -> np.ndarray[Any, Any]:
        return np.asarray(self.env.render())

    def _open(self) -> pygame.Window:
        pygame.display.init()
        pygame.font.init()
        self._font = pygame.font.Font(None, round(1.2 * TEXT_SIZE))
        height, width = self._picture.shape[:2]
        self._strip = 2 * MARGIN + 2 * TEXT_SIZE
        window = pygame.Window("mbrl-gym play", (width, height + self._strip), resizable=True)
        window.get_surface()  # makes the surface that the first `flip` needs
        return window

    def _place(self) -> tuple[float, float, float]:
        """Return left and top [px] and the scale of the picture in the window."""
        width, height = self._window.size
        tall, wide = self._picture.shape[:2]
        scale = max(min(width / wide, (height - self._strip) / tall), 0.01)
        return (width - scale * wide) / 2, (height - self._strip - scale * tall) / 2, scale

    def _draw(self) -> None:
        surface = self._window.get_surface()
        width, height = surface.get_size()
        surface.fill(STRIP)
        left, top, scale = self._place()
        tall, wide = self._picture.shape[:2]
        picture = pygame.image.frombuffer(self._picture.tobytes(), (wide, tall), "RGB")
        if scale != 1.0:
            picture = pygame.transform.smoothscale(picture, (round(scale * wide), round(scale * tall)))
        surface.blit(picture, (round(left), round(top)))
        for row, line in enumerate(self.help):
            letters = self._font.render(line, True, TEXT)
            surface.blit(letters, (MARGIN, height - self._strip + MARGIN + row * TEXT_SIZE))
        status = "PAUSED" if self.paused else f"return {self.total:.2f}"
        letters = self._font.render(status, True, GLOW)
        surface.blit(letters, (width - MARGIN - letters.get_width(), height - MARGIN - TEXT_SIZE))
        self._window.flip()
