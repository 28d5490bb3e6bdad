// Voxels -> the faces that can be seen, with ambient occlusion; and the voxel that a ray meets first.
// The voxels live in a dense box around them with one empty cell on every side, so no lookup needs a border test.

// Per face: outward normal n, first corner o and edges u, v with u x v = n (counter-clockwise from outside).
const FACES = [
  { n: [1, 0, 0], o: [1, 0, 0], u: [0, 1, 0], v: [0, 0, 1], shade: 0.88 },
  { n: [-1, 0, 0], o: [0, 0, 0], u: [0, 0, 1], v: [0, 1, 0], shade: 0.8 },
  { n: [0, 1, 0], o: [0, 1, 0], u: [0, 0, 1], v: [1, 0, 0], shade: 0.72 },
  { n: [0, -1, 0], o: [0, 0, 0], u: [1, 0, 0], v: [0, 0, 1], shade: 0.76 },
  { n: [0, 0, 1], o: [0, 0, 1], u: [1, 0, 0], v: [0, 1, 0], shade: 1.0 },
  { n: [0, 0, -1], o: [0, 0, 0], u: [0, 1, 0], v: [1, 0, 0], shade: 0.5 },
];

class Mesh {
  // index: all x, then all y, then all z.
  constructor(index, count) {
    this.count = count;
    this.index = index;
    this.low = [0, 0, 0];
    this.dim = [3, 3, 3];
    for (let a = 0; a < 3 && count; a++) {
      let low = Infinity, high = -Infinity;
      for (let i = a * count; i < (a + 1) * count; i++) { low = Math.min(low, index[i]); high = Math.max(high, index[i]); }
      this.low[a] = low - 1;
      this.dim[a] = high - low + 3;
    }
    this.stride = [this.dim[1] * this.dim[2], this.dim[2], 1];
    this.cell = new Int32Array(this.dim[0] * this.dim[1] * this.dim[2]);
    this.at = new Uint32Array(count);
    for (let i = 0; i < count; i++) {
      const [x, y, z] = this.voxel(i);
      this.at[i] = (x - this.low[0]) * this.stride[0] + (y - this.low[1]) * this.stride[1] + (z - this.low[2]);
    }
  }

  voxel(i) { return [this.index[i], this.index[this.count + i], this.index[2 * this.count + i]]; }

  // keep(i): is voxel i shown? Fills `cells` (x, y, z, occlusion per face), `owner` (voxel per face), `start` (first face per direction).
  build(keep) {
    const { cell, at, count, index } = this;
    cell.fill(0);
    this.shown = 0;
    for (let i = 0; i < count; i++) if (keep(i)) { cell[at[i]] = i + 1; this.shown++; }
    const steps = FACES.map((f) => f.n[0] * this.stride[0] + f.n[1] * this.stride[1] + f.n[2]);
    this.start = [0];
    for (let f = 0, total = 0; f < 6; f++) {
      for (let i = 0; i < count; i++) if (cell[at[i]] === i + 1 && !cell[at[i] + steps[f]]) total++;
      this.start.push(total);
    }
    this.cells = new Uint16Array(4 * this.start[6]);
    this.owner = new Uint32Array(this.start[6]);
    for (let f = 0, k = 0; f < 6; f++) {
      const along = (e) => e[0] * this.stride[0] + e[1] * this.stride[1] + e[2], u = along(FACES[f].u), v = along(FACES[f].v);
      for (let i = 0; i < count; i++) {
        const front = at[i] + steps[f];
        if (cell[at[i]] !== i + 1 || cell[front]) continue;
        this.cells[4 * k] = index[i];
        this.cells[4 * k + 1] = index[count + i];
        this.cells[4 * k + 2] = index[2 * count + i];
        this.cells[4 * k + 3] = this.occlusion(front, u, v);
        this.owner[k++] = i;
      }
    }
  }

  // How many of the three neighbours shade each corner of a face, 2 bits per corner, in the order (0,0) (1,0) (0,1) (1,1).
  occlusion(front, u, v) {
    const { cell } = this, corner = (a, b, c) => (a && b ? 3 : a + b + c);
    const l = cell[front - u] ? 1 : 0, r = cell[front + u] ? 1 : 0, d = cell[front - v] ? 1 : 0, t = cell[front + v] ? 1 : 0;
    return corner(l, d, cell[front - u - v] ? 1 : 0) | (corner(r, d, cell[front + u - v] ? 1 : 0) << 2)
      | (corner(l, t, cell[front - u + v] ? 1 : 0) << 4) | (corner(r, t, cell[front + u + v] ? 1 : 0) << 6);
  }

  // First shown voxel on a ray in voxel coordinates (Amanatides & Woo, 1987), or -1.
  pick(origin, direction) {
    const p = origin.map((o, a) => o - this.low[a]), d = direction.map((v) => (Math.abs(v) < 1e-9 ? 1e-9 : v));
    let near = 0, far = Infinity;
    for (let a = 0; a < 3; a++) {
      const t0 = (0 - p[a]) / d[a], t1 = (this.dim[a] - p[a]) / d[a];
      near = Math.max(near, Math.min(t0, t1));
      far = Math.min(far, Math.max(t0, t1));
    }
    if (near >= far) return -1;
    const at = p.map((o, a) => Math.min(this.dim[a] - 1, Math.max(0, Math.floor(o + d[a] * (near + 1e-6)))));
    const step = d.map(Math.sign), next = p.map((o, a) => (at[a] + (d[a] > 0 ? 1 : 0) - o) / d[a]);
    while (at.every((v, a) => v >= 0 && v < this.dim[a])) {
      const owner = this.cell[at[0] * this.stride[0] + at[1] * this.stride[1] + at[2]];
      if (owner) return owner - 1;
      const a = next[0] < next[1] ? (next[0] < next[2] ? 0 : 2) : next[1] < next[2] ? 1 : 2;
      at[a] += step[a];
      next[a] += Math.abs(1 / d[a]);
    }
    return -1;
  }
}
