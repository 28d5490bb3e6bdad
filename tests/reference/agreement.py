"""Agreement of one calibration at a time, edge by edge: what the doctor asked before it asked in batches."""

from __future__ import annotations

import torch

from lexivox.data.doctor.agreement import BORDER, MIN_DEPTH_M, NUM_STRIPS, Agreement
from lexivox.data.doctor.edges import NUM_SECTORS
from lexivox.geometry.camera import pixels_from_cam


def slow_agreement(views) -> Agreement:
    total, count, strips = (torch.zeros(n).double() for n in (NUM_SECTORS, NUM_SECTORS, NUM_STRIPS))
    for view in views:
        uv, depth_m = pixels_from_cam(view.ego_from_cam.inverse().apply(view.edges), view.image_from_cam)
        place = uv / uv.new_tensor([view.image_hw[1], view.image_hw[0]])
        inside = (depth_m > MIN_DEPTH_M) & ((place - 0.5).abs() < uv.new_tensor([0.5 - BORDER, 0.5])).all(dim=1)
        height, width = view.prominence.shape
        for (across, down), sector in zip(place[inside].tolist(), view.sector[inside].tolist(), strict=True):
            total[sector] += float(view.prominence[int(down * height), int(across * width)])
            count[sector] += 1
            strips[int(across * NUM_STRIPS)] += 1
    return Agreement(total, count, strips)
