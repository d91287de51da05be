"""Plots of benchmarks: the writer that `sottovoce simulate` uses too."""

from sottovoce.simulator.svg import Line, plot

__all__ = ["Line", "plot"]
