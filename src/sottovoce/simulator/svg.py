"""A small plot as SVG: lines over logarithmic axes, with what is needed to read it and nothing else."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Line", "plot"]

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 190, 50, 60
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e6bb0", "#b8860b")


@dataclass(frozen=True)
class Line:
    """A named curve; `dashed` for one to compare with."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False


def _decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _number(exponent: int) -> str:
    return f"{10**exponent:,}" if exponent >= 0 else f"{10.0**exponent:.{-exponent}f}"


def plot(title: str, x: str, y: str, lines: Sequence[Line]) -> str:
    """The document. All values are positive."""
    x_low, x_high = _decades([px for line in lines for px, _ in line.points])
    y_low, y_high = _decades([py for line in lines for _, py in line.points])

    def at_x(value: float) -> float:
        return LEFT + (math.log10(value) - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def at_y(value: float) -> float:
        return HEIGHT - BOTTOM - (math.log10(value) - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"',
        '  font-family="sans-serif" font-size="12" fill="#222">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="15">{escape(title)}</text>',
    ]
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for exponent in range(x_low, x_high + 1):
        px = at_x(10.0**exponent)
        out.append(f'<path d="M{px:.1f} {TOP}V{bottom}" stroke="#ddd"/>')
        out.append(f'<text x="{px:.1f}" y="{bottom + 18}" text-anchor="middle">{_number(exponent)}</text>')
    for exponent in range(y_low, y_high + 1):
        py = at_y(10.0**exponent)
        out.append(f'<path d="M{LEFT} {py:.1f}H{right}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{py + 4:.1f}" text-anchor="end">{_number(exponent)}</text>')
    out.append(
        f'<text x="{(LEFT + right) / 2}" y="{HEIGHT - 16}" text-anchor="middle">{escape(x)}</text>'
        f'<text transform="translate(20 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">{escape(y)}</text>'
    )
    for number, line in enumerate(lines):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{at_x(px):.1f},{at_y(py):.1f}" for px, py in line.points)
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [
            f'<circle cx="{at_x(px):.1f}" cy="{at_y(py):.1f}" r="3" fill="{colour}"/>'
            for px, py in line.points
        ]
        ly = TOP + 14 + 22 * number
        out.append(f'<path d="M{right + 14} {ly - 4}h24" stroke="{colour}" stroke-width="2"{dash}/>')
        out.append(f'<text x="{right + 44}" y="{ly}">{escape(line.name)}</text>')
    return "\n".join([*out, "</svg>", ""])
