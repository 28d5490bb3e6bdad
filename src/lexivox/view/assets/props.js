// What is not a voxel: the ground and the car.

function groundLines({ lower, size, shape, ground }) {
  const out = [], gray = theme() === "dark" ? 0.55 : 0.45, upper = lower.map((v, a) => v + size[a] * shape[a]);
  const line = (a, b, alpha) => { for (const p of [a, b]) out.push(p[0], p[1], ground, gray, gray, gray * 1.1, alpha); };
  for (let v = Math.ceil(lower[0] / 10) * 10; v <= upper[0]; v += 10) line([v, lower[1]], [v, upper[1]], v === 0 ? 0.55 : 0.22);
  for (let v = Math.ceil(lower[1] / 10) * 10; v <= upper[1]; v += 10) line([lower[0], v], [upper[0], v], v === 0 ? 0.55 : 0.22);
  return new Float32Array(out);
}

// A small car where the recording car stands: 4.6 x 1.9 x 1.5 m. The origin lies under its rear axle (ego) or under its roof LiDAR.
function carTriangles({ frame, ground }) {
  const out = [], shift = frame === "ego" ? 1.4 : 0.45, side = { "1,0,0": 0.9, "-1,0,0": 0.8, "0,1,0": 0.72, "0,-1,0": 0.76, "0,0,1": 1, "0,0,-1": 0.5 };
  const place = (x, y, z) => (frame === "ego" ? [x + shift, y, z + ground] : [-y, x + shift, z + ground]);
  const slab = (x0, x1, top0, top1, w, z0, z1, rgb) => {  // a box whose roof runs from top0 to top1
    const corner = (i, j, k) => place(k ? (i ? top1 : top0) : i ? x1 : x0, ((j ? 1 : -1) * (k ? w * 0.86 : w)) / 2, k ? z1 : z0);
    for (const f of FACES) {
      const at = (s, t) => corner(...[0, 1, 2].map((a) => f.o[a] + s * f.u[a] + t * f.v[a]));
      for (const [s, t] of [[0, 0], [1, 0], [1, 1], [0, 0], [1, 1], [0, 1]]) out.push(...at(s, t), ...rgb.map((c) => (c / 255) * side[f.n.join()]), 1);
    }
  };
  const paint = theme() === "dark" ? [129, 140, 248] : [79, 70, 229];
  slab(-2.3, 2.3, -2.25, 2.15, 1.9, 0.25, 0.85, paint);
  slab(-1.9, 0.95, -1.5, 0.25, 1.7, 0.85, 1.5, paint.map((c) => c * 0.45 + 20));
  const [a, b, c] = [place(3.0, 0.9, 0.12), place(3.0, -0.9, 0.12), place(4.6, 0, 0.12)];
  for (const p of [a, b, c]) out.push(...p, ...paint.map((v) => v / 255), 1);
  return new Float32Array(out);
}

// Edges of boxes, corners given: the lower four around, then the four above them.
function boxLines(boxes) {
  const out = [], rgb = theme() === "dark" ? [0.35, 0.95, 0.75] : [0.02, 0.45, 0.36];
  for (const c of boxes) {
    for (let i = 0; i < 4; i++) {
      const j = (i + 1) % 4;
      for (const k of [i, j, i + 4, j + 4, i, i + 4]) out.push(...c[k], ...rgb, 1);
    }
  }
  return new Float32Array(out);
}
