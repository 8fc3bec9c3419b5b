"""The colours of plots and page, by purpose, for light and dark mode.

Series are told apart by colour-blind readers too (after Okabe and Ito, darkened or lightened until
they stand out from the ground), and never by colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping

Colours = Mapping[str, str]  # by name, as `#rrggbb`
SERIES = 8
STEPS = 5  # of a heat map, from worst to best

_BOTH = {  # light and dark
    "ground": ("#ffffff", "#11161d"),
    "surface": ("#f4f6f9", "#1a212b"),
    "text": ("#1a2230", "#e6eaf0"),
    "muted": ("#556072", "#a3aebd"),
    "rule": ("#d5dbe4", "#323c4a"),
    "control": ("#7a8699", "#75818f"),
    "accent": ("#0b5cad", "#7db8f5"),
    "mark": ("#fff0b8", "#4a3f10"),
    "good": ("#0b6b3a", "#62d394"),
    "bad": ("#a8261c", "#ff8f85"),
    "series0": ("#0072b2", "#56b4e9"),
    "series1": ("#c65200", "#f5974a"),
    "series2": ("#00815e", "#3fcf9f"),
    "series3": ("#a8478a", "#e58cc6"),
    "series4": ("#7b6100", "#e3c64b"),
    "series5": ("#2d2f8f", "#a7a9ff"),
    "series6": ("#7a4a2b", "#d3a27f"),
    "series7": ("#5a6472", "#a9b3c0"),  # on the page, the baseline's
    "heat0": ("#eef3f8", "#1f2a36"),
    "heat1": ("#c9dcec", "#21425f"),
    "heat2": ("#8fbbd9", "#27618c"),
    "heat3": ("#2f74a6", "#62a8d8"),
    "heat4": ("#174a73", "#b4dcf5"),
    "onheat0": ("#1a2230", "#e6eaf0"),
    "onheat1": ("#1a2230", "#e6eaf0"),
    "onheat2": ("#1a2230", "#ffffff"),
    "onheat3": ("#ffffff", "#11161d"),
    "onheat4": ("#ffffff", "#11161d"),
    "loss3": ("#f0a58d", "#8f3b26"),
    "loss2": ("#f7c9b8", "#66301f"),
    "loss1": ("#fce6de", "#3f2620"),
    "even": ("#f4f6f9", "#1a212b"),
    "gain1": ("#dcf1e8", "#17332a"),
    "gain2": ("#aedecb", "#1c4f3e"),
    "gain3": ("#74c6a6", "#217057"),
}
LIGHT: Colours = {name: light for name, (light, _) in _BOTH.items()}
DARK: Colours = {name: dark for name, (_, dark) in _BOTH.items()}
ON_PAGE: Colours = {name: f"#a1b2{number:02x}" for number, name in enumerate(_BOTH)}


def to_variables(svg: str) -> str:
    """A drawing made in ON_PAGE's colours, with those of the page that it will stand in."""
    for name, colour in ON_PAGE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg


def as_css() -> str:
    """The variables: light, dark where a screen is set to it; paper is light."""
    light, dark = (
        " ".join(f"--{name}: {colour};" for name, colour in colours.items())
        for colours in (LIGHT, DARK)
    )
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        "@media screen and (prefers-color-scheme: dark) {\n"
        f":root {{ color-scheme: dark; {dark} }} }}\n"
    )
