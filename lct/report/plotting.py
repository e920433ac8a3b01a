"""Training curves and box plots: same numbers, same bytes; readable in greyscale and without colour vision."""

import functools
import io
import math
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import ScaledTranslation

from lct.report.text import QUANTITIES, count, thinned

PANELS = ("loss", "intervals", "c", "gradient_norm")  # lists in curves.json
# one run, one style: colours differ in lightness too, and the dashes tell them apart without any colour
STYLES = (
    ("#004488", "-"),
    ("#b8433f", (0, (6, 1.6))),
    ("#8a6d00", (0, (1.2, 1.4))),
    ("#1f1f1f", (0, (7, 1.6, 1.2, 1.6))),
    ("#5b8e7d", (0, (3, 1.4))),
    ("#7a4a9e", (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2))),
)
MARKERS = ("o", "s", "^", "D", "v", "P")  # of the same places, where points are few
MOST_POINTS = 320  # per line; longer logs are thinned evenly, first and last point kept
SETTINGS = {
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
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.axisbelow": True,
    "grid.color": "#e4e7eb",
    "legend.frameon": False,
    "axes.titley": 1.0,  # a free one is found by measuring every tick label
    "path.simplify": True,
}


WIDTH, LINE = 9.6, 0.22  # inches: of a figure, of a line of its legend


def panels(
    rows: int, columns: int, height: float, legend: int = 0, gap: float = 0.75, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """A figure of `height` inches with panels (rows, columns), `gap` inches apart, above `legend` lines.

    Margins and places of labels are fixed: they are found otherwise by laying out all text once more."""
    left, right, top, bottom, under = 0.75, 0.12, 0.3, 0.5 + LINE * legend, 0.8
    width = (WIDTH - left - right - gap * (columns - 1)) / columns
    depth = (height - top - bottom - under * (rows - 1)) / rows
    figure = Figure(figsize=(WIDTH, height))
    figure.subplots_adjust(
        left=left / WIDTH,
        right=1 - right / WIDTH,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=gap / width,
        hspace=under / depth,
    )
    drawn = figure.subplots(rows, columns, squeeze=False, **settings)
    for axes in drawn.flat:
        for axis, place, inches in ((axes.xaxis, (0.5, 0), (0, -0.24)), (axes.yaxis, (0, 0.5), (-0.5, 0))):
            axis.set_label_coords(*place, axes.transAxes + ScaledTranslation(*inches, figure.dpi_scale_trans))
    return figure, drawn


def training_curves(curves: list[tuple[str, int, dict[str, list[Any]]]], name: str, title: str) -> str:
    """Loss, intervals, c and gradient norm against the step, one line per (run, seed).

    curves: (run, seed, lists of curves.json) each; a run keeps its style over seeds, later seeds are thinner.
    name:   prefix of every id in the SVG, so that several can stand in one page.
    title:  what a screen reader says.
    """
    runs = list(dict.fromkeys(run for run, _, _ in curves))
    series = []  # label, style, lists
    for run, seed, lists in curves:
        colour, dashes = STYLES[runs.index(run) % len(STYLES)]
        style = {"color": colour, "linestyle": dashes, "linewidth": 1.7 if seed == curves[0][1] else 0.9}
        series.append((f"{run}, seed {seed}".replace("$", r"\$"), style, lists))  # a bare $ would start a formula
    last = max((step for _, _, lists in curves for step in lists["step"] if _finite(step)), default=0) or 1

    def draw() -> Figure:
        figure, drawn = _emptied_panels(-(-len(curves) // 3))
        handles: dict[str, Any] = {}
        for axes, key in zip(drawn.flat, PANELS, strict=True):
            handles = _panel(axes, series, key) | handles
            axes.set_xlim(-0.03 * last, 1.03 * last)
        labels = [label for label, *_ in series if label in handles]
        if labels:
            shown = [handles[label] for label in labels]
            figure.legend(shown, labels, handlelength=4, loc="lower center", ncols=min(3, len(labels)))
        return figure

    return embedded(draw, name, title)


@functools.cache
def _curve_panels(lines: int) -> tuple[Figure, np.ndarray]:
    """The panels of training curves above a legend of so many lines; making them takes as long as drawing them."""
    figure, drawn = panels(2, 2, 5.0 + LINE * lines, lines)
    for axes, key in zip(drawn.flat, PANELS, strict=True):
        axes.set_xlabel("step")
        axes.set_title(QUANTITIES[key])
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: count(round(step))))
        axes.tick_params(axis="y", left=False)
        axes.grid(axis="y")
    return figure, drawn


def _emptied_panels(lines: int) -> tuple[Figure, np.ndarray]:
    """The same without the curves drawn last: no drawing depends on those before it."""
    figure, drawn = _curve_panels(lines)
    figure.legends.clear()
    for axes in drawn.flat:
        for artist in (*axes.lines, *axes.texts):
            artist.remove()
        axes.set_yscale("linear")  # going to a logarithmic one finds limits before the ticks are chosen
        axes.relim()
        axes.autoscale()
    return figure, drawn


def _panel(axes: Any, series: list[tuple[str, dict[str, Any], dict[str, list[Any]]]], key: str) -> dict[str, Any]:
    """Draw one list of every training; returns label -> line of those that have something to draw."""
    lines = {}
    for label, style, lists in series:
        if points := _points(lists["step"], lists.get(key, [])):
            steps = "steps-post" if key in ("intervals", "c") else "default"
            (lines[label],) = axes.plot(*zip(*points, strict=True), drawstyle=steps, **style)
    round_ticks(axes, lines.values())
    if not lines:
        axes.text(0.5, 0.5, "not recorded", ha="center", va="center", transform=axes.transAxes, color="#57606a")
    return lines


def round_ticks(axes: Any, lines: Iterable[Any]) -> None:
    """A logarithmic y axis with ticks at 1, 2, 5 times a power of ten, written out, or at `lines`' values if few."""
    axes.set_yscale("log")
    values = sorted({float(y) for line in lines for y in line.get_ydata()})
    few = len(values) <= 8
    wide = not few and values[-1] > 100 * values[0]
    axes.yaxis.set_major_locator(FixedLocator(values) if few else LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    written = FuncFormatter(lambda value, _: f"{value:.3g}" if value < 1000 else count(round(value)))
    axes.yaxis.set_major_formatter(written)
    axes.yaxis.set_minor_locator(NullLocator())


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _points(steps: list[Any], values: list[Any]) -> list[tuple[float, float]]:
    """Thinned (step, value) pairs that have a logarithm; gaps, NaN and infinities are left out."""
    pairs = [(steps[i], values[i]) for i in thinned(len(steps), MOST_POINTS)] if values else []
    return [(x, y) for x, y in pairs if _finite(x) and _finite(y) and y > 0]


CANVASES = {  # kind of picture -> what draws it, what would name the moment or the program
    "svg": (FigureCanvasSVG, {"Date": None, "Creator": None, "Format": None, "Type": None}),
    "png": (FigureCanvasAgg, {"Software": None}),
    "pdf": (FigureCanvasPdf, {"CreationDate": None, "Creator": None, "Producer": None}),
}


def pictures(draw: Callable[[], Figure], kinds: Iterable[str]) -> dict[str, bytes]:
    """Kind -> a drawing as svg, png or pdf; rendered once, where `savefig` does so once more to find the layout. With
    fixed margins, as all drawings here have them, no kind depends on those before it."""
    contents = {}
    with matplotlib.rc_context(SETTINGS), warnings.catch_warnings():
        # a name in a script without glyphs here is drawn by the reader's own fonts
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = draw()
        for kind in kinds:
            (canvas, metadata), buffer = CANVASES[kind], io.BytesIO()
            figure.set_dpi(200)  # of pixels inside it
            getattr(canvas(figure), f"print_{kind}")(buffer, metadata=metadata)
            contents[kind] = buffer.getvalue()
    return contents


def picture(draw: Callable[[], Figure], kind: str) -> bytes:
    return pictures(draw, [kind])[kind]


_LINEAR = 4.0  # standard deviations up to which the axis is linear; logarithmic beyond
_FENCES = (("inner_fences", "inner fences", (0, (1.2, 1.4))), ("outer_fences", "outer fences", (0, (6, 2))))
_DOTS = (  # label, colour of the edge, of the inside
    ("beyond the inner fences", "#8c5a00", "white"),
    ("beyond the outer fences", "#b8433f", "#b8433f"),
)


def box_plots(numbers: dict[str, Any]) -> Figure:
    """Box plots with inner and outer fences, one panel per `panel` of its boxes.

    numbers: `boxes`, each with panel, label, quartiles, whiskers, inner_fences, outer_fences and the outliers `drawn`,
    in standard deviations."""
    boxes = numbers["boxes"]
    groups = {name: [box for box in boxes if box["panel"] == name] for name in dict.fromkeys(b["panel"] for b in boxes)}
    ratios = [len(shown) for shown in groups.values()]
    figure, ((*drawn,),) = panels(1, len(groups), 4.8, legend=2, gap=0.3, sharey=True, width_ratios=ratios)
    for axes, (name, shown) in zip(drawn, groups.items(), strict=True):
        for place, box in enumerate(shown):
            _draw_box(axes, place, box)
        axes.set_title(name[:1].upper() + name[1:])
        axes.set_xticks(range(len(shown)), [box["label"] for box in shown])
        axes.tick_params(axis="x", length=0)
        axes.set_xlim(-0.6, len(shown) - 0.4)
        axes.grid(axis="y")
    _deviations_axis(drawn[0], max(abs(v) for box in boxes for v in (*box["outer_fences"], *box["drawn"], _LINEAR)))
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=4, handlelength=3)
    return figure


def _deviations_axis(axes: Any, most: float) -> None:
    """A vertical axis for values up to `most` standard deviations either way, the same on both sides of zero."""
    axes.set_yscale("symlog", linthresh=_LINEAR, linscale=2, base=2)
    axes.set_ylim(-1.2 * most, 1.2 * most)
    ticks = [0, 1, 2, 3, 4]
    while 2 * ticks[-1] <= 1.2 * most:
        ticks.append(2 * ticks[-1])
    axes.yaxis.set_major_locator(FixedLocator([-tick for tick in ticks[:0:-1]] + ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}".replace("-", "\u2212")))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylabel("standard deviations from the mean")


def _draw_box(axes: Any, place: int, box: dict[str, Any]) -> None:
    """One box with whiskers, both pairs of fences and outliers; only the first one names its parts for the legend."""
    ink, half, named = "#004488", 0.26, place == 0
    (q1, median, q3), (low, high) = box["quartiles"], box["whiskers"]
    axes.vlines([place, place], [low, q3], [q1, high], color=ink, linewidth=1.1)
    axes.hlines([low, high], place - half / 2, place + half / 2, color=ink, linewidth=1.1)
    axes.bar(place, q3 - q1, 2 * half, q1, facecolor="#c9d8ea", edgecolor=ink, linewidth=1.1)
    axes.hlines(median, place - half, place + half, color=ink, linewidth=2.2)
    for key, words, dashes in _FENCES:
        label = words if named else None
        axes.hlines(box[key], place - 0.4, place + 0.4, color="#57606a", linewidth=1.0, linestyle=dashes, label=label)
    low, high = box["outer_fences"]
    for far, (words, edge, inside) in enumerate(_DOTS):
        points = [value for value in box["drawn"] if (value < low or value > high) == bool(far)]
        label = words if named else None
        style = {"markersize": 3.2, "markeredgewidth": 0.7, "markerfacecolor": inside, "color": edge}
        axes.plot([place] * len(points), points, "o", label=label, **style)


def embedded(draw: Callable[[], Figure], name: str, title: str) -> str:
    """A drawing as an <svg> element for a page."""
    return embed(picture(draw, "svg").decode(), name, title)


def embed(svg: str, name: str, title: str) -> str:
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
