"""Narthex: one address for every model and for a team's documents."""

__version__ = "0.1.0"
