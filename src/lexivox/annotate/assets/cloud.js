// The 3D view: the viewer's stage with points in their colours; the lit ones lie over everything, so none hides.

const NIGHT = [18, 20, 26];
const CLOUD_GRID = { frame: "ego", lower: [-60, -60, -3], size: [0.4, 0.4, 0.4], shape: [300, 300, 20] };

class CloudView extends MapView {
  constructor(canvas, overlay, app) {
    super(canvas, (row) => { if (row !== this.near) { this.near = row; this.redraw(); } }, (row) => app.click(row));
    Object.assign(this, { overlay, app, near: -1, lasso: null, xyz: new Float32Array(0), flat: null });
  }

  show({ xyz, rgb, ground }) {
    const count = xyz.length / 3, out = new Float32Array(7 * count);
    for (let i = 0; i < count; i++) {
      for (let a = 0; a < 3; a++) { out[7 * i + a] = xyz[3 * i + a]; out[7 * i + 3 + a] = 0.18 + (0.82 * rgb[3 * i + a]) / 255; }
      out[7 * i + 6] = 1;
    }
    Object.assign(this, { xyz, near: -1 });
    this.setScene({ ...CLOUD_GRID, ground });
    this.renderer.setPart("points", "points", out);
    this.redraw();
  }

  lookAt(rows) {
    if (!rows.length) return;
    const low = [Infinity, Infinity, Infinity], high = low.map((v) => -v);
    for (const row of rows) for (let a = 0; a < 3; a++) {
      low[a] = Math.min(low[a], this.xyz[3 * row + a]);
      high[a] = Math.max(high[a], this.xyz[3 * row + a]);
    }
    this.fly(low.map((v, a) => (v + high[a]) / 2), Math.max(9, 2.6 * Math.hypot(...high.map((v, a) => v - low[a]))));
  }

  // x, y on the canvas in CSS pixels and depth of every point; made again when the view has changed.
  get screen() {
    if (this.flat) return this.flat;
    const { xyz, camera } = this, { f, right, up } = camera.basis, eye = camera.eye, t = Math.tan(FIELD_OF_VIEW / 2);
    const w = this.canvas.clientWidth / 2, h = this.canvas.clientHeight / 2, out = new Float32Array(xyz.length);
    for (let i = 0; i < xyz.length; i += 3) {
      const x = xyz[i] - eye[0], y = xyz[i + 1] - eye[1], z = xyz[i + 2] - eye[2], depth = x * f[0] + y * f[1] + z * f[2];
      out[i] = w + (w * (x * right[0] + y * right[1])) / (depth * t * camera.aspect);
      out[i + 1] = h - (h * (x * up[0] + y * up[1] + z * up[2])) / (depth * t);
      out[i + 2] = depth;
    }
    return (this.flat = out);
  }

  pick(e) {
    const box = this.canvas.getBoundingClientRect(), x = e.clientX - box.left, y = e.clientY - box.top, at = this.screen;
    let best = -1, least = 9 * 9;
    for (let i = 0; i < at.length; i += 3) {
      const far = at[i + 2] > 0.2 ? (at[i] - x) ** 2 + (at[i + 1] - y) ** 2 : least;
      if (far < least) { least = far; best = i / 3; }
    }
    return best;
  }

  center(row) { return Array.from(this.xyz.slice(3 * row, 3 * row + 3)); }

  down(e) {
    if (this.app.tool === "box" || e.button !== 0 || e.shiftKey || e.ctrlKey) { super.down(e); return; }
    this.canvas.setPointerCapture(e.pointerId);
    this.lasso = new Lasso(this.at(e));
  }

  move(e) {
    if (!this.lasso) { super.move(e); return; }
    this.lasso.add(this.at(e));
    this.redraw();
  }

  lift(e) {
    const { lasso } = this;
    if (!lasso) { super.lift(e); return; }
    this.lasso = null;
    this.redraw();
    if (e.type !== "pointerup") return;
    if (lasso.isClick) { this.app.click(this.pick(e)); return; }
    const at = this.screen, rows = [];
    for (let i = 0; i < at.length; i += 3) if (at[i + 2] > 0.2 && lasso.holds(at[i], at[i + 1])) rows.push(i / 3);
    this.app.lassoed(rows);
  }

  at(e) { const box = this.canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; }

  redraw() { this.flat = null; super.redraw(); }

  drawNow() {
    if (!this.grid) return;
    this.renderer.draw(this.camera, { background: NIGHT, hover: -1, chosen: -1 });
    this.drawAxes();
    const c = fineContext(this.overlay), { selection, note } = this.app, at = this.screen;
    const draw = (row, radius, color, ring) => { if (at[3 * row + 2] > 0.2) dot2d(c, at[3 * row], at[3 * row + 1], radius, color, ring); };
    if (note) for (const row of note.dropped) if (!selection.on[row]) draw(row, 1.6, DROPPED);
    for (const row of selection.rows) draw(row, 2.2, LIT);
    if (this.near >= 0 && this.app.hoverMatters(this.near)) draw(this.near, 5, "#ffffff30", "#ffffff");
    this.lasso?.draw(c);
  }
}
