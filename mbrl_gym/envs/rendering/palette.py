"""The colours that all scenes share."""

from __future__ import annotations

from functools import lru_cache

Color = tuple[int, int, int]  # red, green, blue, 0 to 255

BACKGROUND: Color = (247, 249, 251)
PANEL: Color = (255, 255, 255)
SHADE: Color = (238, 243, 250)
GRID: Color = (226, 232, 240)
AXIS: Color = (160, 172, 188)
MUTED: Color = (94, 108, 128)  # small text
TEXT: Color = (40, 53, 72)
BODY: Color = (66, 80, 102)  # solid parts of machines
ACCENT: Color = (37, 99, 235)  # what the agent moves
TARGET: Color = (234, 88, 12)
OBJECT: Color = (22, 140, 94)  # what the agent is to move
OBSTACLE: Color = (126, 98, 150)
DANGER: Color = (190, 50, 74)  # limits, collisions


@lru_cache(maxsize=1024)
def mix(color: Color, share: float, background: Color = BACKGROUND) -> Color:
    """Return `color` as it looks with opacity `share` on a plain background."""
    r, g, b = (round(share * c + (1.0 - share) * under) for c, under in zip(color, background, strict=True))
    return r, g, b
