"""Recipes: functions that return an ``ExperimentConfig``. A variant calls one and changes fields."""

from lexivox.recipes.pop3d import pop3d_pandaset, pop3d_tiny, supervised

RECIPES = {"pop3d_tiny": pop3d_tiny, "pop3d_pandaset": pop3d_pandaset}
"""Recipes by the name that the command line knows."""

__all__ = ["RECIPES", "pop3d_pandaset", "pop3d_tiny", "supervised"]
