// One camera image: zoom and move, boxes and lassos, and the points that lie on it.

class Photo {
  constructor(canvas, app) {
    Object.assign(this, { canvas, app, camera: null, image: null, place: null, drag: null, hover: -1, waiting: false });
    const on = (name, act) => canvas.addEventListener(name, act, { passive: false });
    on("pointerdown", (e) => this.down(e));
    on("pointermove", (e) => this.move(e));
    on("pointerup", (e) => this.lift(e));
    on("pointercancel", () => { this.drag = null; this.redraw(); });
    on("pointerleave", () => { this.hover = -1; this.redraw(); });
    on("contextmenu", (e) => e.preventDefault());
    on("wheel", (e) => { e.preventDefault(); this.zoom(Math.exp(-Math.max(-60, Math.min(60, e.deltaY)) * 0.004), this.at(e)); });
    new ResizeObserver(() => { this.fit(); }).observe(canvas);
  }

  // camera: name, width, height, index, uv. The image may still be on its way.
  show(camera, image) {
    const isNew = this.camera?.name !== camera.name || this.camera.width !== camera.width;
    Object.assign(this, { camera, image, hover: -1 });
    if (isNew || !this.place) this.fit();
    image.addEventListener("load", () => this.redraw());
    this.redraw();
  }

  fit() {
    if (!this.camera) return;
    const { width, height } = this.camera, { clientWidth: w, clientHeight: h } = this.canvas, scale = Math.min(w / width, h / height);
    this.place = { scale, x: (w - width * scale) / 2, y: (h - height * scale) / 2, fitted: scale };
    this.redraw();
  }

  zoom(factor, [x, y]) {
    const { place } = this, scale = Math.min(place.fitted * 24, Math.max(place.fitted * 0.8, place.scale * factor)), by = scale / place.scale;
    Object.assign(place, { scale, x: x - (x - place.x) * by, y: y - (y - place.y) * by });
    this.redraw();
  }

  at(e) { const box = this.canvas.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; }
  pixel([x, y]) { const p = this.place; return [(x - p.x) / p.scale, (y - p.y) / p.scale]; }
  spot(k) { const p = this.place, { uv } = this.camera; return [uv[2 * k] * p.scale + p.x, uv[2 * k + 1] * p.scale + p.y]; }

  // ------------------------------------------------------------------------------------------------ gestures

  down(e) {
    if (!this.camera) return;
    this.canvas.setPointerCapture(e.pointerId);
    this.hover = -1;
    const at = this.at(e), moves = e.button !== 0 || e.ctrlKey || e.metaKey;
    if (moves) this.drag = { kind: "move", last: at };
    else if (this.app.tool === "box") this.drag = { kind: "box", from: at, to: at, adds: e.shiftKey };
    else this.drag = { kind: "lasso", lasso: new Lasso(at) };
  }

  move(e) {
    const at = this.at(e), { drag } = this;
    if (!drag) { const hover = this.nearest(at); if (hover !== this.hover) { this.hover = hover; this.redraw(); } return; }
    if (drag.kind === "move") { this.place.x += at[0] - drag.last[0]; this.place.y += at[1] - drag.last[1]; drag.last = at; }
    else if (drag.kind === "box") drag.to = at;
    else drag.lasso.add(at);
    this.redraw();
  }

  lift(e) {
    const { drag } = this;
    this.drag = null;
    this.redraw();
    if (!drag || drag.kind === "move") return;
    const near = this.nearest(this.at(e)), row = near < 0 ? -1 : this.camera.index[near];
    if (drag.kind === "lasso") {
      if (drag.lasso.isClick) this.app.click(row);
      else this.app.lassoed(Array.from(this.camera.index).filter((_, k) => drag.lasso.holds(...this.spot(k))));
    } else if (Math.hypot(drag.to[0] - drag.from[0], drag.to[1] - drag.from[1]) < 6) this.app.click(row);
    else this.app.box(this.boxOf(drag), drag.adds);
  }

  boxOf({ from, to }) {
    const [a, b] = [this.pixel(from), this.pixel(to)];
    return [0, 1].map((i) => Math.min(a[i], b[i])).concat([0, 1].map((i) => Math.max(a[i], b[i])));
  }

  nearest([x, y]) {
    if (!this.camera) return -1;
    let best = -1, least = 10 * 10;
    for (let k = 0; k < this.camera.index.length; k++) {
      const [px, py] = this.spot(k), far = (px - x) ** 2 + (py - y) ** 2;
      if (far < least) { least = far; best = k; }
    }
    return best;
  }

  // ------------------------------------------------------------------------------------------------- drawing

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const c = fineContext(this.canvas), { place, camera, image } = this;
    if (!camera || !place) return;
    c.imageSmoothingEnabled = place.scale < 3;
    if (image.complete && image.naturalWidth) c.drawImage(image, place.x, place.y, camera.width * place.scale, camera.height * place.scale);
    const note = this.app.note?.camera === camera.name ? this.app.note : null;
    if (note?.picture) c.drawImage(note.picture, note.mask.left * place.scale + place.x, note.mask.top * place.scale + place.y, note.mask.width * place.scale, note.mask.height * place.scale);
    if (note?.box) this.outline(c, note.box.map((v, i) => v * place.scale + (i % 2 ? place.y : place.x)));
    this.drawPoints(c, note ? note.dropped : null);
    const { drag } = this;
    if (drag?.kind === "box") this.outline(c, [...drag.from, ...drag.to], true);
    if (drag?.kind === "lasso") drag.lasso.draw(c);
  }

  outline(c, [x0, y0, x1, y1], isNew = false) {
    for (const [width, color] of [[3, "#00000088"], [1.5, isNew ? "#ffffff" : LIT]]) {
      c.lineWidth = width;
      c.strokeStyle = color;
      c.strokeRect(x0, y0, x1 - x0, y1 - y0);
    }
  }

  drawPoints(c, dropped) {
    const { camera, place } = this, { selection, showsAll } = this.app, many = camera.index.reduce((sum, row) => sum + (selection.on[row] || dropped?.has(row) ? 1 : 0), 0);
    const grown = Math.sqrt(place.scale / place.fitted) * Math.max(0.55, Math.min(1, Math.sqrt(400 / (many + 1))));
    for (let k = 0; k < camera.index.length; k++) {
      const row = camera.index[k], lit = selection.on[row], out = dropped && dropped.has(row);
      if (!lit && !out && !showsAll) continue;
      const [x, y] = this.spot(k);
      if (lit) dot2d(c, x, y, Math.min(5, 2.6 * grown), LIT, "#2b1200");
      else if (out) dot2d(c, x, y, Math.min(4, 2 * grown), DROPPED, "#06283a");
      else { c.fillStyle = "#ffffffb0"; c.fillRect(x - 0.8, y - 0.8, 1.6 * grown, 1.6 * grown); }
    }
    if (this.hover >= 0 && this.hover < camera.index.length && this.app.hoverMatters(camera.index[this.hover])) {
      const [x, y] = this.spot(this.hover);
      dot2d(c, x, y, 6, "#ffffff30", "#ffffff");
    }
  }
}
