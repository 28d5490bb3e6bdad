"""How often classes occur in public training splits: data that class weights and samplers are made from.

Order of ``benchmark_classes.OCC3D`` without free, ids 0..16 (spec occflownet 2.6).
"""

OCC3D_VOXELS = (
    1_163_161, 2_309_034, 188_743, 2_997_643, 20_317_180, 852_476, 243_808, 2_457_947, 497_017, 2_731_022,
    7_224_789, 214_411_435, 5_565_043, 63_191_967, 76_098_082, 128_860_031, 141_625_221,
)  # fmt: skip
"""Voxels of Occ3D-nuScenes."""

LIDARSEG_RAYS = (
    2_854_504, 7_291_443, 141_614, 4_239_939, 32_248_552, 1_583_610, 364_372, 2_346_381, 582_961, 4_829_021,
    14_073_691, 191_019_309, 6_249_651, 55_095_657, 58_484_771, 193_834_360, 131_378_779,
)  # fmt: skip
"""LiDAR returns of nuScenes-lidarseg."""
