// The stage: canvas, gestures, the car and the ground. Draws only when something changed, so a laptop stays cool.

class MapView {
  constructor(canvas, onHover, onChoose) {
    Object.assign(this, { canvas, onHover, onChoose, camera: new Camera(), hover: -1, chosen: -1, waiting: false, fingers: new Map() });
    try {
      this.renderer = new GlRenderer(canvas);
    } catch {
      // A canvas that once refused WebGL2 may refuse 2D too: paint on a fresh one.
      const fresh = canvas.cloneNode();
      canvas.replaceWith(fresh);
      this.canvas = fresh;
      this.renderer = new PaintRenderer(fresh);
    }
    this.listen();
    new ResizeObserver(() => this.resize()).observe(this.canvas);
    this.resize();
  }

  resize() {
    const { canvas, camera } = this, ratio = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
    canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    camera.aspect = canvas.width / canvas.height;
    if (this.view) camera.look(this.view, this.grid);
    this.redraw();
  }

  // The named viewpoint stays in force, also when the window changes, until somebody turns the map.
  look(view) {
    this.view = view;
    if (this.grid) this.camera.look(view, this.grid);
    this.redraw();
  }

  fly(target, distance) {
    const { camera } = this, from = { target: camera.target, distance: camera.distance }, began = performance.now();
    const lasts = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 450;
    this.view = null;
    const flight = (this.flight = {});
    const step = (now) => {
      if (this.flight !== flight) return;
      const t = Math.min(1, Math.max(0, (now - began) / lasts)), s = t * t * (3 - 2 * t);
      camera.target = from.target.map((v, a) => v + s * (target[a] - v));
      camera.distance = from.distance + s * (distance - from.distance);
      this.redraw();
      if (t < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.drawNow(); });
  }

  drawNow() {
    if (!this.grid) return;
    const [hover, chosen] = [this.hover, this.chosen];
    this.renderer.draw(this.camera, { background: BACKGROUND[theme()], hover, chosen });
    this.drawAxes();
  }

  drawAxes() {
    const { right, up } = this.camera.basis, axes = [["x", "#e5484d"], ["y", "#2f9e5b"], ["z", "#3b82f6"]];
    const node = $("gizmo");
    node.replaceChildren(...axes.flatMap(([name, color], a) => {
      const x = 24 * right[a], y = -24 * up[a];
      return [svg("line", { x1: 0, y1: 0, x2: x, y2: y, stroke: color, "stroke-width": 2.4, "stroke-linecap": "round" }),
        svg("text", { x: x * 1.34, y: y * 1.34 + 3, fill: color, "text-anchor": "middle" }, name)];
    }));
  }

  setScene(grid) {
    if (!this.grid) this.view = "chase";
    this.grid = this.renderer.grid = grid;
    if (this.view) this.look(this.view);
    this.renderer.setPart("ground", "lines", groundLines(grid));
    this.renderer.setPart("car", "triangles", carTriangles(grid));
  }

  // ------------------------------------------------------------------------------------------------ gestures

  listen() {
    const { canvas } = this, on = (name, act) => canvas.addEventListener(name, act, { passive: false });
    on("pointerdown", (e) => this.down(e));
    on("pointermove", (e) => this.move(e));
    on("pointerup", (e) => this.lift(e));
    on("pointercancel", (e) => this.lift(e));
    on("pointerleave", () => { if (!this.fingers.size) this.setHover(-1); });
    on("contextmenu", (e) => e.preventDefault());
    on("wheel", (e) => { e.preventDefault(); this.free(); this.camera.zoom(Math.exp(Math.max(-60, Math.min(60, e.deltaY)) * 0.004)); this.redraw(); });
    on("dblclick", (e) => { const i = this.pick(e); if (i >= 0) this.fly(this.center(i), Math.min(this.camera.distance, 22)); });
    on("keydown", (e) => this.key(e));
    on("webglcontextlost", (e) => { e.preventDefault(); this.onLost?.(); });
    on("webglcontextrestored", () => location.reload());
  }

  free() { this.view = null; this.flight = null; $("hint").classList.add("done"); }

  down(e) {
    this.canvas.setPointerCapture(e.pointerId);
    this.fingers.set(e.pointerId, [e.clientX, e.clientY]);
    this.travel = this.fingers.size > 1 ? 99 : 0;
    this.canvas.classList.add("turning");
  }

  move(e) {
    const before = this.fingers.get(e.pointerId);
    if (!before) { if (e.pointerType === "mouse") this.setHover(this.pick(e), e); return; }
    const [dx, dy] = [e.clientX - before[0], e.clientY - before[1]];
    this.travel += Math.abs(dx) + Math.abs(dy);
    if (this.travel <= 3) return;
    this.free();
    this.setHover(-1);
    const other = [...this.fingers].find(([id]) => id !== e.pointerId)?.[1];
    if (other) {
      const span = (p) => Math.hypot(p[0] - other[0], p[1] - other[1]);
      this.camera.zoom(span(before) / Math.max(20, span([e.clientX, e.clientY])));
      this.camera.pan(dx / 2, dy / 2, this.canvas.clientHeight);
    } else if (e.shiftKey || e.ctrlKey || e.buttons === 2 || e.buttons === 4) this.camera.pan(dx, dy, this.canvas.clientHeight);
    else this.camera.turn(dx, dy);
    this.fingers.set(e.pointerId, [e.clientX, e.clientY]);
    this.redraw();
  }

  lift(e) {
    if (this.fingers.delete(e.pointerId) && e.type === "pointerup" && this.travel <= 3) this.choose(this.pick(e));
    if (!this.fingers.size) this.canvas.classList.remove("turning");
  }

  key(e) {
    const turns = { ArrowLeft: [24, 0], ArrowRight: [-24, 0], ArrowUp: [0, 16], ArrowDown: [0, -16] };
    const views = { 1: "chase", 2: "top", 3: "driver", Home: "chase" };
    if (e.ctrlKey || e.metaKey || e.altKey) return;
    if (turns[e.key]) { this.free(); this.camera.turn(...turns[e.key]); }
    else if (e.key === "+" || e.key === "=") { this.free(); this.camera.zoom(0.85); }
    else if (e.key === "-") { this.free(); this.camera.zoom(1 / 0.85); }
    else if (views[e.key]) this.look(views[e.key]);
    else if (e.key === "Escape") this.choose(-1);
    else return;
    e.preventDefault();
    this.redraw();
  }

  // ------------------------------------------------------------------------------------------------- picking

  pick(e) {
    if (!this.mesh) return -1;
    const box = this.canvas.getBoundingClientRect(), { lower, size } = this.grid;
    const ray = this.camera.ray((2 * (e.clientX - box.left)) / box.width - 1, 1 - (2 * (e.clientY - box.top)) / box.height);
    return this.mesh.pick(ray.origin.map((o, a) => (o - lower[a]) / size[a]), ray.direction.map((d, a) => d / size[a]));
  }

  center(i) { return this.mesh.voxel(i).map((v, a) => this.grid.lower[a] + (v + 0.5) * this.grid.size[a]); }

  setHover(i, e) {
    if (i !== this.hover) { this.hover = i; this.redraw(); }
    this.onHover(i, e);
  }

  choose(i) { this.chosen = i; this.redraw(); this.onChoose(i); }
}
