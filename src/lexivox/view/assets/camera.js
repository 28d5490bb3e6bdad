// An orbit camera: always upright, never mirrored. Metres of the grid's frame; z is up.

const FIELD_OF_VIEW = (42 * Math.PI) / 180;
const sub = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const along = (a, s, b) => [a[0] + s * b[0], a[1] + s * b[1], a[2] + s * b[2]];
const unit = (a) => { const n = Math.hypot(...a); return [a[0] / n, a[1] / n, a[2] / n]; };

class Camera {
  constructor() { Object.assign(this, { target: [0, 0, 0], distance: 60, azimuth: Math.PI, elevation: 0.6, aspect: 1 }); }

  // The viewpoints that picture.py knows under the same names. Forward is +x in ego grids, +y in lidar grids.
  look(name, grid) {
    const ahead = grid.frame === "ego" ? 0 : Math.PI / 2, forward = [Math.cos(ahead), Math.sin(ahead), 0];
    const reach = Math.max(grid.size[0] * grid.shape[0], grid.size[1] * grid.shape[1]);
    const middle = grid.lower.map((low, a) => low + (grid.size[a] * grid.shape[a]) / 2);
    if (name === "top") {
      const fit = Math.max(1, 1 / this.aspect);
      Object.assign(this, { target: [middle[0], middle[1], grid.ground], azimuth: ahead + Math.PI, elevation: Math.PI / 2 - 1e-4, distance: (reach * 0.54 * fit) / Math.tan(FIELD_OF_VIEW / 2) });
    } else if (name === "driver") {
      Object.assign(this, { target: along([0, 0, grid.ground + 1.2], 10, forward), azimuth: ahead + Math.PI, elevation: 0.22, distance: 17 });
    } else {
      const fit = Math.max(1, 1.15 / this.aspect);
      Object.assign(this, { target: [0, 0, grid.ground], azimuth: ahead + Math.PI - 0.35, elevation: 0.62, distance: 0.84 * reach * fit });
    }
  }

  get eye() {
    const c = Math.cos(this.elevation);
    return along(this.target, this.distance, [c * Math.cos(this.azimuth), c * Math.sin(this.azimuth), Math.sin(this.elevation)]);
  }

  get basis() {
    const f = unit(sub(this.target, this.eye)), right = [-Math.sin(this.azimuth), Math.cos(this.azimuth), 0];
    return { f, right, up: cross(right, f) };
  }

  turn(dx, dy) {
    this.azimuth -= dx * 0.0055;
    this.elevation = Math.min(Math.PI / 2 - 1e-4, Math.max(-0.2, this.elevation + dy * 0.0055));
  }

  // Moves over the ground: what was under the finger stays under it, roughly.
  pan(dx, dy, height) {
    const s = (2 * this.distance * Math.tan(FIELD_OF_VIEW / 2)) / height, { right } = this.basis;
    const ahead = [-Math.cos(this.azimuth), -Math.sin(this.azimuth), 0];
    this.target = along(along(this.target, -dx * s, right), (dy * s) / Math.max(0.35, Math.sin(this.elevation)), ahead);
  }

  zoom(factor) { this.distance = Math.min(600, Math.max(2, this.distance * factor)); }

  // Column-major clip_from_grid.
  get matrix() {
    const { f, right, up } = this.basis, eye = this.eye, near = Math.max(0.1, this.distance * 0.01), far = this.distance + 800;
    const s = 1 / Math.tan(FIELD_OF_VIEW / 2), a = (far + near) / (near - far), b = (2 * far * near) / (near - far);
    const x = right.map((v) => (v * s) / this.aspect), y = up.map((v) => v * s);
    return new Float32Array([
      x[0], y[0], -a * f[0], f[0], x[1], y[1], -a * f[1], f[1], x[2], y[2], -a * f[2], f[2],
      -dot(x, eye), -dot(y, eye), a * dot(f, eye) + b, -dot(f, eye),
    ]);
  }

  // Ray through a point of the canvas in -1..1 (y up).
  ray(x, y) {
    const { f, right, up } = this.basis, t = Math.tan(FIELD_OF_VIEW / 2);
    return { origin: this.eye, direction: unit(along(along(f, x * t * this.aspect, right), y * t, up)) };
  }

  // Position on the canvas in -1..1 and depth in metres.
  project(p) {
    const { f, right, up } = this.basis, d = sub(p, this.eye), depth = dot(d, f), t = Math.tan(FIELD_OF_VIEW / 2);
    return [dot(d, right) / (depth * t * this.aspect), dot(d, up) / (depth * t), depth];
  }
}
