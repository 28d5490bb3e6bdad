// What is shown now, and what each control changes.

class App {
  constructor(data) {
    this.data = data;
    this.cache = new Map();
    Object.assign(this, { frame: -1, set: 0, layerName: null, hidden: new Set(), cut: null, top: 100, asked: null });
    this.view = new MapView($("canvas"), (i, e) => this.tip(i, e), (i) => this.pin(i));
    this.view.onLost = () => notice("The graphics driver gave up on this map. It returns by itself, or reload the page.");
    if (this.view.renderer.name !== "WebGL2") notice("This browser has no WebGL2, so the map is painted without the graphics card and turns more slowly.");
    $("title").textContent = data.title;
    $("hint").textContent = matchMedia("(pointer: coarse)").matches ? "one finger turns, two move and zoom" : "drag to turn · shift-drag to move · scroll to zoom";
    this.listen();
    showTables(data.tables ?? []);
    showPictures(data.pictures ?? []);
    showCharts(data.charts ?? []);
    showCurves(data.curves ?? []);
    showAbout({ seconds: [], facts: [], notes: [], ...data });
  }

  listen() {
    for (const node of document.querySelectorAll("[data-view]")) node.onclick = () => this.view.look(node.dataset.view);
    $("cut").oninput = () => { this.cut = +$("cut").value === +$("cut").max ? null : +$("cut").value; this.remesh(); };
    $("top").oninput = () => { this.top = +$("top").value; this.recolor(); };
    $("points").onchange = () => this.showPoints();
    $("boxes").onchange = () => this.showBoxes();
    $("all").onclick = () => { this.hidden.clear(); this.refresh(); };
    $("zoom").onclick = () => $("zoom").close();
    $("ask").onsubmit = (e) => { e.preventDefault(); this.ask($("text").value); };
    $("ask").hidden = !this.data.live;
    darkQuery.addEventListener("change", () => { this.view.setScene(this.grid); this.refresh(); });
  }

  // ------------------------------------------------------------------------------------------------- scenes

  titles() { return this.data.live ? this.data.frames : this.data.scenes.map((s, i) => s.title || `Keyframe ${i + 1}`); }

  open(frame) { return this.go(frame).then(() => this.view.renderer.name === "WebGL2" && notice(null), (error) => notice(error.message)); }

  async go(frame) {
    const turn = (this.turn = {});
    this.frame = frame;
    showFrames(this.titles(), frame, (i) => this.open(i));
    const scene = await this.load(frame);
    if (this.turn !== turn) return;  // somebody chose another keyframe meanwhile
    this.scene = scene;
    this.grid = scene.grid;
    this.view.setScene(scene.grid);
    showImages(scene.images);
    $("points-row").hidden = !scene.points;
    this.choose(Math.min(this.set, scene.sets.length - 1), this.layerName);
    await this.showPoints();
    if (this.asked && !this.voxels.layers.some((l) => l.name === this.asked)) await this.ask(this.asked);
  }

  async load(frame) {
    if (!this.cache.has(frame)) {
      const packed = this.data.live ? await fetchJson(`/scene?frame=${frame}`) : this.data.scenes[frame];
      for (const set of packed.sets) {
        set.mesh = new Mesh(await unpack(set.index, Uint16Array), set.count);
        for (const layer of set.layers) layer.value = await unpack(layer.value, Uint8Array);
      }
      if (this.cache.size >= 8) this.cache.delete(this.cache.keys().next().value);
      this.cache.set(frame, packed);
    }
    return this.cache.get(frame);
  }

  get voxels() { return this.scene.sets[this.set]; }
  get layer() { return this.voxels.layers.find((l) => l.name === this.layerName) ?? this.voxels.layers[0] ?? null; }
  get classLayer() { return this.layer?.kind === "class" ? this.layer : this.voxels.layers.find((l) => l.kind === "class") ?? null; }

  choose(set, layerName) {
    this.set = set;
    this.layerName = layerName;
    this.view.choose(-1);
    this.refresh();
  }

  refresh() {
    const { layer } = this;
    $("sets").replaceChildren(...(this.scene.sets.length < 2 ? [] : this.scene.sets.map((s, i) => button(capital(s.name), i === this.set, () => this.choose(i, this.layerName)))));
    $("layers").replaceChildren(...this.voxels.layers.map((l) => button(l.name, l === layer, () => this.choose(this.set, l.name))));
    $("layers").parentElement.hidden = !this.voxels.layers.length;
    $("heat").hidden = layer?.kind !== "heat";
    $("classes").hidden = layer?.kind !== "class";
    if (layer?.kind === "heat") {
      $("lo").textContent = score(layer.lo);
      $("hi").textContent = score(layer.hi);
      showRamp();
      showVerdict(layer);
      showHits(layer, (hit) => { this.view.choose(hit.row); this.view.fly(hit.xyz, Math.min(this.view.camera.distance, 24)); });
    }
    if (layer?.kind === "class") this.showClasses(layer);
    showQueries(this.data.queries ?? [], layer?.name, (name) => {
      const set = this.scene.sets.findIndex((s) => s.layers.some((l) => l.name === name));
      if (set >= 0) { this.choose(set, name); $("stage").scrollIntoView({ block: "nearest" }); }
    });
    this.showBoxes();
    this.remesh();
  }

  showBoxes() {
    const boxes = this.layer?.kind === "heat" ? this.layer.regions.map((region) => region.corners) : [];
    $("boxes-row").hidden = !boxes.length;
    this.view.renderer.setPart("boxes", "lines", boxes.length && $("boxes").checked ? boxLines(boxes) : null);
    this.view.redraw();
  }

  showClasses(layer) {
    const counts = new Array(layer.classes.length).fill(0);
    for (const v of layer.value) counts[v]++;
    $("all").hidden = !layer.classes.some((name, i) => counts[i] && this.hidden.has(name));
    showLegend(layer, counts, this.hidden, (name) => {
      if (!this.hidden.delete(name)) this.hidden.add(name);
      this.refresh();
    });
  }

  // ---------------------------------------------------------------------------- from the state to the picture

  remesh() {
    const { mesh } = this.voxels, { grid } = this, labels = this.classLayer, slider = $("cut");
    slider.max = grid.shape[2];
    slider.value = this.cut ?? grid.shape[2];
    const height = grid.lower[2] + (this.cut ?? grid.shape[2]) * grid.size[2] - grid.ground;
    $("cut-text").textContent = this.cut === null ? "off" : `${height.toFixed(1)} m`;
    const limit = this.cut ?? Infinity, shows = labels?.classes.map((name) => !this.hidden.has(name)), z = 2 * mesh.count;
    mesh.build((i) => mesh.index[z + i] < limit && (!labels || shows[labels.value[i]]));
    const [shown, all] = [number(mesh.shown), number(mesh.count)];
    $("count").textContent = shown === all ? `${all} voxels` : `${shown} of ${all} voxels`;
    this.view.mesh = mesh;
    this.view.renderer.setMesh(mesh, grid);
    this.recolor();
  }

  recolor() {
    const { layer } = this, { renderer } = this.view;
    renderer.setValues(layer ? layer.value : new Uint8Array(this.voxels.count));
    if (!layer) renderer.setPalette(plainPalette());
    else if (layer.kind === "class") renderer.setPalette(classPalette(layer.palette));
    else renderer.setPalette(heatPalette(this.floor(layer)));
    $("top-text").textContent = this.top < 100 ? `${share(this.top)} %` : !layer?.verdict ? "all" : layer.verdict.here ? "what was found" : "nothing found";
    this.view.redraw();
  }

  // The step of 0..255 above which the best `top` percent lie.
  floor(layer) {
    if (this.top === 100) return this.found(layer);
    const counts = new Uint32Array(257), wanted = (layer.value.length * share(this.top)) / 100;
    for (const v of layer.value) counts[v]++;
    let step = 255;
    for (let sum = counts[255]; step > 1 && sum + counts[step - 1] <= wanted; ) sum += counts[--step];
    return step;
  }

  // The step of 0..255 from which voxels count as found: none do where it is not here, all where nobody knows.
  found({ verdict, lo, hi }) {
    if (!verdict) return 0;
    return verdict.here ? Math.ceil((255 * (verdict.threshold - lo)) / Math.max(hi - lo, 1e-12)) : 256;
  }

  async showPoints() {
    const { points } = this.scene, on = points && $("points").checked;
    if (!on) { this.view.renderer.setPart("points", "points", null); this.view.redraw(); return; }
    const value = points.data ?? (points.data = await unpack(points.value, Uint16Array));
    const color = points.color && (points.rgb ?? (points.rgb = await unpack(points.color, Uint8Array)));
    const out = new Float32Array(7 * points.count);  // blue on the ground, turquoise 5 m above: no colour of a score
    for (let i = 0; i < points.count; i++) {
      for (let a = 0; a < 3; a++) out[7 * i + a] = points.lower[a] + (value[a * points.count + i] / 65535) * points.extent[a];
      const t = Math.min(1, Math.max(0, (out[7 * i + 2] - this.grid.ground) / 5)), cool = [20 + 20 * t, 90 + 120 * t, 235];
      for (let c = 0; c < 3; c++) out[7 * i + 3 + c] = (color ? color[3 * i + c] : cool[c]) / 255;
      out[7 * i + 6] = 1;
    }
    this.view.renderer.setPart("points", "points", out);
    this.view.redraw();
  }

  // --------------------------------------------------------------------------------------------- what is this

  describe(i) {
    const { layer, classLayer, grid } = this, out = [];
    if (classLayer) {
      const k = classLayer.value[i];
      out.push(el("i", { style: { background: classLayer.palette[k] } }), classLayer.classes[k]);
    } else out.push("occupied");
    if (layer?.kind === "heat") out.push(` · ${score(layer.lo + (layer.value[i] / 255) * (layer.hi - layer.lo))}`);
    const place = this.view.center(i).map((v) => v.toFixed(1)).join(", ");
    out.push(el("span", {}, `${place} m (${grid.frame}) · voxel ${this.voxels.mesh.voxel(i).join(", ")}`));
    return out;
  }

  tip(i, e) {
    const tip = $("tip");
    tip.hidden = i < 0;
    if (i < 0) return;
    tip.replaceChildren(...this.describe(i));
    const box = $("stage").getBoundingClientRect();
    const x = Math.min(e.clientX - box.left + 14, box.width - tip.offsetWidth - 8), y = e.clientY - box.top + 16;
    tip.style.transform = `translate(${Math.max(8, x)}px, ${y + tip.offsetHeight > box.height - 8 ? y - tip.offsetHeight - 28 : y}px)`;
  }

  pin(i) {
    $("pinned").hidden = i < 0;
    if (i >= 0) $("pinned").replaceChildren(...this.describe(i));
  }

  // --------------------------------------------------------------------------------------------- live queries

  async ask(text) {
    const wish = (this.wish = {}), began = performance.now(), answer = $("answer"), frame = this.frame;
    const say = (message, bad) => { answer.textContent = message; answer.classList.toggle("bad", bad); };
    say("Looking …", false);
    try {
      const layer = await fetchJson("/query", { text, frame });
      layer.value = await unpack(layer.value, Uint8Array);
      if (this.wish !== wish || this.frame !== frame) return;
      const set = this.scene.sets[0];
      set.layers = [...set.layers.filter((l) => l.name !== layer.name && !l.asked), ...set.layers.filter((l) => l.asked && l.name !== layer.name).slice(-5), { ...layer, asked: true }];
      this.asked = text;
      this.choose(0, layer.name);
      const best = layer.hits[0];
      const found = layer.verdict === null ? "" : layer.verdict.here ? "here, " : "not here, ";
      say(`${found}${best ? `best ${score(best.score)}, ` : ""}${Math.round(performance.now() - began)} ms`, false);
    } catch (error) {
      if (this.wish === wish) say(error.message, true);
    }
  }
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
// The slider is fine where it matters: 100 -> 100 %, 50 -> 6 %, 0 -> 0.3 %.
const share = (top) => +(100 * 10 ** (-2.5 * (1 - top / 100))).toPrecision(2);

const data = JSON.parse($("lexivox-data").textContent);
if (typeof DecompressionStream === "undefined") notice("This browser is too old to unpack the map (it lacks DecompressionStream); any browser from 2023 or later can.");
else {
  const app = new App(data);
  if (app.titles().length) app.open(0);
  else document.querySelector(".map").hidden = true;
}
