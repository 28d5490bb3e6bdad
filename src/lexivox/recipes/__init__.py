"""Recipes: functions that return an ``ExperimentConfig``. A variant calls one and changes fields."""

from lexivox.recipes.occflownet import (
    occflownet_2d,
    occflownet_2d_flow,
    occflownet_2d_flow_3d,
    occflownet_tiny,
    paper_size,
    released,
)
from lexivox.recipes.pop3d import pop3d, pop3d_pandaset, pop3d_released, pop3d_tiny, supervised, within_memory
from lexivox.recipes.pop3d_table1 import (
    TABLE1,
    pop3d_table1a_lambda025,
    pop3d_table1a_lambda050,
    pop3d_table1a_lambda100,
    pop3d_table1b_rn50_full,
    pop3d_table1b_rn50_half,
    pop3d_table1b_rn101_full,
    pop3d_table1b_rn101_half,
    pop3d_table1c_occ2_ft2,
    pop3d_table1c_occ2_ft3,
    pop3d_table1c_occ3_ft2,
    pop3d_table1c_occ3_ft3,
)
from lexivox.recipes.weak import mixture, weak, weak_pandaset, weak_tiny

RECIPES = {
    recipe.__name__: recipe
    for recipe in (
        pop3d_tiny,
        pop3d_pandaset,
        pop3d,
        pop3d_released,
        pop3d_table1a_lambda100,
        pop3d_table1a_lambda050,
        pop3d_table1a_lambda025,
        pop3d_table1b_rn50_half,
        pop3d_table1b_rn101_half,
        pop3d_table1b_rn50_full,
        pop3d_table1b_rn101_full,
        pop3d_table1c_occ2_ft2,
        pop3d_table1c_occ2_ft3,
        pop3d_table1c_occ3_ft2,
        pop3d_table1c_occ3_ft3,
        occflownet_tiny,
        occflownet_2d,
        occflownet_2d_flow,
        occflownet_2d_flow_3d,
        weak_tiny,
        weak,
        weak_pandaset,
    )
}
"""Recipes by the name that the command line knows."""

__all__ = [
    "RECIPES",
    "TABLE1",
    "mixture",
    "occflownet_2d",
    "occflownet_2d_flow",
    "occflownet_2d_flow_3d",
    "occflownet_tiny",
    "paper_size",
    "pop3d",
    "pop3d_pandaset",
    "pop3d_released",
    "pop3d_table1a_lambda025",
    "pop3d_table1a_lambda050",
    "pop3d_table1a_lambda100",
    "pop3d_table1b_rn50_full",
    "pop3d_table1b_rn50_half",
    "pop3d_table1b_rn101_full",
    "pop3d_table1b_rn101_half",
    "pop3d_table1c_occ2_ft2",
    "pop3d_table1c_occ2_ft3",
    "pop3d_table1c_occ3_ft2",
    "pop3d_table1c_occ3_ft3",
    "pop3d_tiny",
    "released",
    "supervised",
    "weak",
    "weak_pandaset",
    "weak_tiny",
    "within_memory",
]
