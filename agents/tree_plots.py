"""Pictures of search trees."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from mbrl_gym.errors import MissingPackageError

from .planning.evaluation import check_whole
from .planning.tree import Searched, Tree, principal_variation
from .planning.tree.results import outcomes

__all__ = ["plot_tree"]

Array = np.ndarray[Any, Any]

TEXT, LINES, CHOSEN = "#283548", "#B8C3D1", "#D55E00"
LARGEST = 700.0  # area of the root's disc [pt^2]


def plot_tree(searched: Searched, row: int = 0, *, nodes: int = 60, title: str = "") -> Figure:
    """Draw the most visited nodes of a tree: visits as areas and numbers, mean returns or best values as colours.

    The path of most visits is drawn in orange, and the root's edges bear their actions. The layout is Reingold and
    Tilford's (1981), by igraph. Where paths meet, a node hangs below the first that leads there, and thin lines come
    from the others.

    Args:
        searched: What a search found.
        row: Which of its trees.
        nodes: Most nodes that are drawn.
        title: Written above.

    Raises:
        MissingPackageError: igraph is not installed.
        InvalidSettingError: No node to draw.
    """
    check_whole("nodes", nodes, 1)
    tree = searched.tree.one(row)
    chosen, parents, slots = _largest(tree, nodes)
    visits = np.array([_visits(tree, node) for node in chosen])
    places = _layout(parents)
    best = principal_variation(tree, int(searched.decisions.slot[row]))
    figure, axes = _figure(title, places)
    lines = [[places[parent], places[child]] for child, parent in enumerate(parents) if parent >= 0]
    on_path = [chosen[child] in best for child, parent in enumerate(parents) if parent >= 0]
    colors, widths = [CHOSEN if on else LINES for on in on_path], [2.4 if on else 1.0 for on in on_path]
    axes.add_collection(LineCollection(lines, colors=colors, linewidths=widths, zorder=1))
    meetings = [places[list(pair)] for pair in _meetings(tree, chosen, parents)]
    axes.add_collection(LineCollection(meetings, colors=LINES, linewidths=0.6, linestyles="dotted", zorder=0))
    values = np.array([_value(tree, node) for node in chosen])
    norm = Normalize(values.min(), values.max() if np.ptp(values) else values.min() + 1)
    areas = 12 + LARGEST * visits / visits.max()
    axes.scatter(*places.T, s=areas, c=values, cmap="viridis", norm=norm, edgecolors=TEXT, linewidths=0.6, zorder=2)
    _label(axes, searched, row, tree, places, parents, slots, visits)
    bar = figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, fraction=0.025, pad=0.01)
    bar.set_label("mean return" if np.isnan(tree.nodes[0]["value"]) else "best value", color=TEXT)
    bar.outline.set_visible(False)
    return figure


def _largest(tree: Tree, most: int) -> tuple[list[int], list[int], list[int]]:
    """Return the most visited nodes, and of each its parent's place in the list and the edge that leads to it."""
    chosen, parents, slots, open_nodes = [0], [-1], [-1], {0}
    waiting: list[tuple[int, int, int, int]] = []  # (visits, node, place of the parent, edge)

    def open_children(node: int, place: int) -> None:
        for slot in range(int(tree.nodes[node]["width"])):
            for child in tree.outcomes["node"][outcomes(tree, node, slot)].tolist():
                waiting.append((_visits(tree, child), child, place, slot))

    open_children(0, 0)
    while waiting and len(chosen) < most:
        waiting.sort(key=lambda entry: (entry[0], -entry[1]))
        _, node, parent, slot = waiting.pop()
        if node in open_nodes:
            continue
        open_nodes.add(node)
        chosen.append(node)
        parents.append(parent)
        slots.append(slot)
        open_children(node, len(chosen) - 1)
    return chosen, parents, slots


def _meetings(tree: Tree, chosen: list[int], parents: list[int]) -> list[tuple[int, int]]:
    """Return the places of drawn nodes between which an edge leads that is not the one from the parent."""
    place = {node: index for index, node in enumerate(chosen)}
    found = set()
    for node, start in place.items():
        for slot in range(int(tree.nodes[node]["width"])):
            for child in tree.outcomes["node"][outcomes(tree, node, slot)].tolist():
                end = place.get(child, start)
                if start not in (end, parents[end]) and end != parents[start]:
                    found.add((start, end))
    return sorted(found)


def _visits(tree: Tree, node: int) -> int:
    """Return the simulations that went through a node, or ended there first."""
    return int(tree.nodes[node]["visits"]) + (node != 0)


def _value(tree: Tree, node: int) -> float:
    """Return the value of a node's best edge where values are backed up by maximum, otherwise the mean return."""
    best = float(tree.nodes[node]["value"])
    if not np.isnan(best):
        return best
    edges, raw = tree.edges[node, : tree.nodes[node]["width"]], float(tree.nodes[node]["raw"])
    judged = not np.isnan(raw)
    count = int(edges["visits"].sum()) + judged
    return (float(edges["total"].sum()) + (raw if judged else 0.0)) / max(count, 1)


def _layout(parents: list[int]) -> Array:
    """Return places `[n, 2]`, the root on top, siblings from left to right."""
    try:
        import igraph
    except ImportError as error:
        raise MissingPackageError('plot_tree needs igraph: pip install "mbrl-gym[trees]"') from error
    edges = [(parent, child) for child, parent in enumerate(parents) if parent >= 0]
    graph = igraph.Graph(n=len(parents), edges=edges, directed=True)
    return np.array(graph.layout_reingold_tilford(mode="out", root=[0]).coords) * [1.0, -1.0]


def _figure(title: str, places: Array) -> tuple[Figure, Any]:
    width, height = np.ptp(places, axis=0)
    figure = Figure(figsize=(float(np.clip(0.45 * width + 2, 6.4, 16)), float(np.clip(1.1 * height + 1.5, 4, 12))))
    FigureCanvasAgg(figure)
    figure.set_layout_engine("constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_title(title, color=TEXT)
    axes.margins(0.06, 0.1)
    return figure, axes


def _label(
    axes: Any,
    searched: Searched,
    row: int,
    tree: Tree,
    places: Array,
    parents: list[int],
    slots: list[int],
    visits: Array,
) -> None:
    """Write the visits of large nodes, and the actions at the root's edges."""
    for place, count in zip(places, visits, strict=True):
        if count >= max(2, 0.08 * visits.max()):
            color = "white" if count < visits.max() else TEXT
            box = {"boxstyle": "round,pad=0.15", "facecolor": TEXT if color == "white" else "white", "alpha": 0.75}
            axes.annotate(f"{count:,}", place, color=color, fontsize=7, ha="center", va="center", bbox={**box, "lw": 0})
    labelled: set[int] = set()
    for child, parent in enumerate(parents):
        if parent == 0 and slots[child] not in labelled:
            labelled.add(slots[child])
            action = np.array2string(np.asarray(searched.decisions.actions[row, slots[child]]), precision=2)
            middle = 0.45 * places[0] + 0.55 * places[child]
            axes.annotate(
                action,
                middle,
                fontsize=8,
                color=TEXT,
                ha="center",
                va="center",
                bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": LINES, "lw": 0.8},
            )
