"""How fast the viewer is: frames per second of a large map in headless Chromium, and seconds per picture.

    python benchmarks/viewer.py --voxels 200000

Chromium renders in software here (SwiftShader, on the CPU); any graphics card is far faster. The picture
without OpenGL is timed in the same run.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from lexivox.geometry.grid import VoxelGrid
from lexivox.view.html import write_report
from lexivox.view.picture import render_scene
from lexivox.view.scene import ClassLayer, HeatLayer, RunReport, VoxelScene

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
TURN = """async (frames) => {
  const canvas = document.querySelector("#canvas"), box = canvas.getBoundingClientRect();
  const send = (type, x) => canvas.dispatchEvent(new PointerEvent(type, {
    pointerId: 1, clientX: box.left + x, clientY: box.top + 200, buttons: 1, bubbles: true }));
  canvas.setPointerCapture = () => {};
  const gl = canvas.getContext("webgl2"), frame = () => new Promise(requestAnimationFrame);
  send("pointerdown", 300);
  const began = performance.now();
  for (let i = 1; i <= frames; i++) {
    send("pointermove", 300 + 4 * i);
    await frame();
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));  // waits until it is drawn
  }
  const seconds = (performance.now() - began) / 1000;
  send("pointerup", 300);
  return frames / seconds;
}"""
CUT = """async () => {
  const slider = document.querySelector("#cut"), began = performance.now();
  slider.value = slider.max - 1;
  slider.dispatchEvent(new Event("input"));
  return performance.now() - began;
}"""


def hills(num_voxels: int) -> VoxelScene:
    """A rough landscape of about ``num_voxels`` voxels, nearly all of them exposed."""
    side = int(np.sqrt(num_voxels / 1.6))
    grid = VoxelGrid((-side * 0.1, -side * 0.1, -3.0), (0.2, 0.2, 0.2), (side, side, 40), "lidar")
    x, y = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    rng = np.random.default_rng(0)
    height = (14 + 7 * np.sin(x / 23) * np.cos(y / 31) + rng.random(x.shape) * 2.2).astype(int)
    column = np.stack([x, y, height], axis=-1).reshape(-1, 3)
    tall = column[rng.random(len(column)) < 0.6] + [0, 0, 1]
    index = np.concatenate([column, tall])[:num_voxels]
    label = index[:, 2] // 6
    palette = rng.integers(60, 230, (7, 3)).astype(np.uint8)
    classes = ClassLayer("classes", label, tuple(f"height {k}" for k in range(7)), palette)
    return VoxelScene(grid, index, (classes, HeatLayer("a hill", rng.random(len(index)))), title="hills")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxels", type=int, default=200_000)
    parser.add_argument("--frames", type=int, default=30)
    arguments = parser.parse_args()
    scene = hills(arguments.voxels)
    for smooth in (1, 2):
        began = time.perf_counter()
        render_scene(scene, size_wh=(1200, 800), smooth=smooth)
        print(f"{len(scene.index)} voxels, 1200x800, smooth={smooth}: {time.perf_counter() - began:.2f} s")
    browser_path = os.environ.get("LEXIVOX_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        began = time.perf_counter()
        path = write_report(RunReport("benchmark", scenes=(scene,)), Path(folder) / "report.html")
        print(f"report: {time.perf_counter() - began:.2f} s, {path.stat().st_size / 1e6:.2f} MB")
        chromium = driver.chromium.launch(executable_path=browser_path, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        began = time.perf_counter()
        page.goto(path.as_uri())
        page.locator("#count:not(:empty)").wait_for()
        print(f"opened in {time.perf_counter() - began:.2f} s")
        print(f"turning: {page.evaluate(TURN, arguments.frames):.1f} frames per second (software renderer)")
        print(f"new faces after a cut: {page.evaluate(CUT):.0f} ms")
        chromium.close()


if __name__ == "__main__":
    main()
