// Without WebGL2: the same faces painted far to near on a 2D canvas. Slower, but it turns, and it shows the truth.

const PAINT_LIMIT = 60000;

class PaintRenderer {
  constructor(canvas) {
    this.context = canvas.getContext("2d");
    this.parts = {};
    this.name = "2D canvas";
  }

  setMesh(mesh, grid) { Object.assign(this, { mesh, grid }); }
  setValues(values) { this.values = values; }
  setPalette(rgba) { this.rgba = rgba; }

  setPart(name, kind, data) {
    if (data) this.parts[name] = { kind, data };
    else delete this.parts[name];
  }

  draw(camera, { background, hover, chosen }) {
    const { context: c } = this, { width, height } = c.canvas;
    c.fillStyle = `rgb(${background})`;
    c.fillRect(0, 0, width, height);
    const place = (p) => { const [x, y, depth] = camera.project(p); return [(x + 1) * width / 2, (1 - y) * height / 2, depth]; };
    if (this.parts.ground) this.paintLines(this.parts.ground.data, place);
    if (this.mesh) this.paintFaces(camera, place, hover, chosen);
    if (this.parts.points) this.paintPoints(this.parts.points.data, place);
    if (this.parts.car) this.paintTriangles(this.parts.car.data, place);
  }

  paintFaces(camera, place, hover, chosen) {
    const { mesh, grid, context: c } = this, eye = camera.eye, quads = [];
    const stride = Math.max(1, Math.ceil(mesh.owner.length / PAINT_LIMIT));
    FACES.forEach((face, f) => {
      for (let k = mesh.start[f]; k < mesh.start[f + 1]; k += stride) {
        const base = [0, 1, 2].map((a) => mesh.cells[4 * k + a] + face.o[a]);
        const at = (s, t) => [0, 1, 2].map((a) => grid.lower[a] + grid.size[a] * (base[a] + s * face.u[a] + t * face.v[a]));
        const toward = sub(eye, at(0.5, 0.5));
        if (dot(toward, face.n) <= 0) continue;
        quads.push({ far: dot(toward, toward), k, at, shade: face.shade });
      }
    });
    quads.sort((a, b) => b.far - a.far);
    for (const { k, at, shade } of quads) {
      const corners = [at(0, 0), at(1, 0), at(1, 1), at(0, 1)].map(place);
      if (corners.some((p) => p[2] < 0.1)) continue;
      const i = mesh.owner[k], v = 4 * this.values[i], lift = i === hover || i === chosen ? 60 : 0;
      c.fillStyle = `rgb(${[0, 1, 2].map((a) => Math.min(255, this.rgba[v + a] * shade + lift))})`;
      this.polygon(corners);
    }
  }

  paintPoints(data, place) {
    for (let i = 0; i < data.length; i += 7 * Math.max(1, Math.ceil(data.length / 7 / PAINT_LIMIT))) {
      const [x, y, depth] = place([data[i], data[i + 1], data[i + 2]]);
      if (depth < 0.1) continue;
      this.context.fillStyle = `rgb(${[3, 4, 5].map((k) => Math.round(data[i + k] * 255))})`;
      this.context.fillRect(x - 1, y - 1, 2, 2);
    }
  }

  paintTriangles(data, place) {
    for (let i = 0; i < data.length; i += 21) {
      this.context.fillStyle = `rgb(${[3, 4, 5].map((a) => Math.round(data[i + a] * 255))})`;
      this.polygon([0, 7, 14].map((o) => place([data[i + o], data[i + o + 1], data[i + o + 2]])));
    }
  }

  paintLines(data, place) {
    for (let i = 0; i < data.length; i += 14) {
      const [a, b] = [i, i + 7].map((o) => place([data[o], data[o + 1], data[o + 2]]));
      if (a[2] < 0.1 || b[2] < 0.1) continue;
      this.context.strokeStyle = `rgba(${[3, 4, 5].map((k) => Math.round(data[i + k] * 255))},${data[i + 6]})`;
      this.context.beginPath();
      this.context.moveTo(a[0], a[1]);
      this.context.lineTo(b[0], b[1]);
      this.context.stroke();
    }
  }

  polygon(corners) {
    const { context: c } = this;
    c.beginPath();
    corners.forEach(([x, y], n) => (n ? c.lineTo(x, y) : c.moveTo(x, y)));
    c.fill();
  }
}
