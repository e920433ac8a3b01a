"""Training curves as SVG text: the same bytes for the same numbers, readable in greyscale and without colour vision."""

import io
import math
import re
import warnings
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

PANELS = (  # list in curves.json, title, logarithmic
    ("loss", "Training loss", True),
    ("intervals", "Discretisation intervals", True),
    ("c", "Robustness constant c", True),
    ("gradient_norm", "Gradient norm", True),
)
# one run, one style: colours differ in lightness too, and the dashes tell them apart without any colour
STYLES = (
    ("#004488", "-"),
    ("#b8433f", (0, (6, 1.6))),
    ("#8a6d00", (0, (1.2, 1.4))),
    ("#1f1f1f", (0, (7, 1.6, 1.2, 1.6))),
    ("#5b8e7d", "-"),
    ("#7a4a9e", (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2))),
)
MOST_POINTS = 320  # per line; longer logs are thinned evenly, first and last point kept
_SETTINGS = {
    "svg.hashsalt": "lct",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#8c939b",
    "axes.labelcolor": "#3d444d",
    "text.color": "#1b1f24",
    "xtick.color": "#3d444d",
    "ytick.color": "#3d444d",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "path.simplify": True,
}


def training_curves(curves: list[tuple[str, int, dict[str, list[Any]]]], name: str, title: str) -> str:
    """Loss, intervals, c and gradient norm against the step, one line per (run, seed).

    curves: (run, seed, lists of curves.json) each; a run keeps its style over seeds, later seeds are thinner.
    name:   prefix of every id in the SVG, so that several can stand in one page.
    title:  what a screen reader says.
    """
    runs = list(dict.fromkeys(run for run, _, _ in curves))
    seeds = list(dict.fromkeys(seed for _, seed, _ in curves))
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(9.6, 5.4), layout="constrained")
        canvas = FigureCanvasSVG(figure)
        handles: dict[str, Any] = {}
        for axes, (key, heading, logarithmic) in zip(figure.subplots(2, 2).flat, PANELS, strict=True):
            handles = _panel(axes, curves, runs, seeds, key, logarithmic) | handles
            axes.set_title(heading, loc="left", fontsize=10, fontweight="bold")
        if handles:
            columns = min(3, len(handles))
            labels = [label for label in _labels(curves) if label in handles]
            figure.legend(
                [handles[label] for label in labels],
                labels,
                loc="outside lower center",
                ncols=columns,
                frameon=False,
                handlelength=4,
            )
        buffer = io.StringIO()
        with warnings.catch_warnings():  # a name in a script without glyphs here is drawn by the reader's own fonts
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            canvas.print_svg(buffer, metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return _embedded(buffer.getvalue(), name, title)


def _labels(curves: list[Any]) -> list[str]:
    return [f"{run}, seed {seed}".replace("$", r"\$") for run, seed, _ in curves]  # a bare $ would start a formula


def _panel(
    axes: Any, curves: list[Any], runs: list[str], seeds: list[int], key: str, logarithmic: bool
) -> dict[str, Any]:
    """Draw one list of every run; returns label -> line of those that have something to draw."""
    lines = {}
    for (run, seed, lists), label in zip(curves, _labels(curves), strict=True):
        points = _points(lists["step"], lists.get(key, []), positive=logarithmic)
        if not points:
            continue
        colour, dashes = STYLES[runs.index(run) % len(STYLES)]
        x, y = zip(*points, strict=True)
        steps = "steps-post" if key in ("intervals", "c") else "default"
        width = 1.7 if seeds.index(seed) == 0 else 0.9
        (lines[label],) = axes.plot(x, y, color=colour, linestyle=dashes, linewidth=width, drawstyle=steps)
    if lines and logarithmic:
        axes.set_yscale("log")
        _round_ticks(axes, lines.values())
    if not lines:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=axes.transAxes, color="#57606a")
        axes.set_yticks([])
    axes.set_xlabel("step")
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    return lines


def _round_ticks(axes: Any, lines: Any) -> None:
    """Ticks at 1, 2, 5 times a power of ten, written out; at the values themselves where a line takes only a few."""
    values = sorted({float(y) for line in lines for y in line.get_ydata()})
    few = len(values) <= 8
    wide = values[-1] > 100 * values[0]
    axes.yaxis.set_major_locator(FixedLocator(values) if few else LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _points(steps: list[Any], values: list[Any], positive: bool) -> list[tuple[float, float]]:
    """Thinned (step, value) pairs that can be drawn; gaps, NaN and infinities are left out."""
    if not values:
        return []
    last = len(steps) - 1
    kept = range(len(steps))
    if len(steps) > MOST_POINTS:
        kept = sorted({round(i * last / (MOST_POINTS - 1)) for i in range(MOST_POINTS)})
    drawable = []
    for i in kept:
        x, y = steps[i], values[i]
        if all(isinstance(v, int | float) and math.isfinite(v) for v in (x, y)) and (y > 0 or not positive):
            drawable.append((x, y))
    return drawable


def _embedded(svg: str, name: str, title: str) -> str:
    """The bare <svg> element with ids of its own, a name for screen readers and no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    spoken = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = f'<svg role="img" aria-label="{spoken}" '
    svg = re.sub(r'\s(width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg ", head, 1).strip() + "\n"
