"""The colours of plots and page, by purpose, for light and dark mode.

Series are told apart by colour-blind readers too (after Okabe and Ito, darkened or lightened until
they stand out from the ground), and never by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping

Colours = Mapping[str, str]  # by name, as `#rrggbb`
SERIES = 8
STEPS = 5  # of a heat map, from worst to best

LIGHT: Colours = {
    "ground": "#ffffff",
    "surface": "#f4f6f9",
    "text": "#1a2230",
    "muted": "#556072",
    "rule": "#d5dbe4",
    "control": "#7a8699",
    "accent": "#0b5cad",
    "mark": "#fff0b8",
    "good": "#0b6b3a",
    "bad": "#a8261c",
    "series0": "#0072b2",
    "series1": "#c65200",
    "series2": "#00815e",
    "series3": "#a8478a",
    "series4": "#7b6100",
    "series5": "#2d2f8f",
    "series6": "#5a6472",
    "series7": "#7a4a2b",
    "heat0": "#eef3f8",
    "heat1": "#c9dcec",
    "heat2": "#8fbbd9",
    "heat3": "#2f74a6",
    "heat4": "#174a73",
    "onheat0": "#1a2230",
    "onheat1": "#1a2230",
    "onheat2": "#1a2230",
    "onheat3": "#ffffff",
    "onheat4": "#ffffff",
}
DARK: Colours = {
    "ground": "#11161d",
    "surface": "#1a212b",
    "text": "#e6eaf0",
    "muted": "#a3aebd",
    "rule": "#323c4a",
    "control": "#75818f",
    "accent": "#7db8f5",
    "mark": "#4a3f10",
    "good": "#62d394",
    "bad": "#ff8f85",
    "series0": "#56b4e9",
    "series1": "#f5974a",
    "series2": "#3fcf9f",
    "series3": "#e58cc6",
    "series4": "#e3c64b",
    "series5": "#a7a9ff",
    "series6": "#a9b3c0",
    "series7": "#d3a27f",
    "heat0": "#1f2a36",
    "heat1": "#21425f",
    "heat2": "#27618c",
    "heat3": "#62a8d8",
    "heat4": "#b4dcf5",
    "onheat0": "#e6eaf0",
    "onheat1": "#e6eaf0",
    "onheat2": "#ffffff",
    "onheat3": "#11161d",
    "onheat4": "#11161d",
}
ON_PAGE: Colours = {name: f"#a1b2{number:02x}" for number, name in enumerate(LIGHT)}


def to_variables(svg: str) -> str:
    """A drawing made in ON_PAGE's colours, with those of the page that it will stand in."""
    for name, colour in ON_PAGE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def as_css() -> str:
    """The variables: light, dark where a screen is set to it; paper is light."""
    return (
        f":root {{ color-scheme: light; {_variables(LIGHT)} }}\n"
        "@media screen and (prefers-color-scheme: dark) {\n"
        f":root {{ color-scheme: dark; {_variables(DARK)} }} }}\n"
    )


def _variables(colours: Colours) -> str:
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())


def contrast(one: str, other: str) -> float:
    """WCAG's ratio of two colours, from 1 to 21; text needs 4.5, what is drawn 3."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
