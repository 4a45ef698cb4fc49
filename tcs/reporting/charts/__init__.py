"""Figures of reports as SVG text: what they show comes in typed, and colours are classes that the page or `palette` fills in."""
