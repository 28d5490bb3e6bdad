// What is worked on now, and what each control changes.

const TOOLS = [["box", "Box", "B", "Drag a box around the object; Shift adds to what is lit"], ["add", "Add", "A", "Click a point, or draw around points, to light them"], ["remove", "Remove", "R", "Click a point, or draw around points, to darken them"]];
const SPLITS = ["train", "val", "test"];
const HINTS = {
  box: "drag a box around an object · click a point to light or darken it · scroll zooms, right button moves",
  add: "click points, or draw around them, to light them: here and in the 3D view",
  remove: "click points, or draw around them, to darken them: here and in the 3D view",
};

class Annotator {
  constructor(data) {
    Object.assign(this, { data, frame: -1, tool: "box", split: "val", editing: null, showsAll: false, drafts: new Map(), selection: new Selection(0), loading: null });
    this.photo = new Photo($("photo"), this);
    this.cloud = new CloudView($("cloud"), $("cloud-over"), this);
    $("title").textContent = data.title;
    $("segmenter").textContent = `box → mask: ${data.segmenter}`;
    $("frame").replaceChildren(...data.frames.map((f, i) => el("option", { value: String(i) }, `${i + 1} / ${data.frames.length} · ${f.drive}${f.token.startsWith(f.drive) ? ` · ${f.token.slice(f.drive.length + 1)}` : ""}`)));
    this.buttons();
    this.listen();
  }

  get note() { return this.selection.note; }
  get camera() { return this.keyframe?.cameras.find((c) => c.name === this.cameraName); }
  get isDirty() { return this.selection.past.length > 0; }

  // ------------------------------------------------------------------------------------------------ controls

  buttons() {
    const key = (name, text, keyName, title, act, pressed = null) => el("button", { type: "button", id: name, title: `${title} (${keyName})`, onclick: act, ...(pressed === null ? {} : { "aria-pressed": String(pressed) }) }, text, el("kbd", {}, keyName));
    $("tools").replaceChildren(...TOOLS.map(([tool, text, name, title]) => key(`tool-${tool}`, text, name, title, () => this.setTool(tool), tool === this.tool)));
    $("steps").replaceChildren(
      key("undo", "Undo", "Z", "One step back", () => this.step("undo")),
      key("redo", "Redo", "Y", "One step forth", () => this.step("redo")),
      key("clear", "Clear", "X", "No point lit", () => this.clear()));
    $("looks").replaceChildren(
      key("other", "Next cluster", "C", "The mask holds several things: take another", () => this.otherCluster()),
      key("all", "All points", "T", "Show every point on the image", () => this.toggleAll(), false),
      key("swap", "Swap", "V", "Image and 3D view change places", () => this.swap()));
    $("splits").replaceChildren(...SPLITS.map((split) => el("button", { type: "button", onclick: () => this.setSplit(split), dataset: { split } }, split)));
    this.setSplit(this.split);
    $("photo-hint").textContent = HINTS[this.tool];
  }

  listen() {
    $("previous").onclick = () => this.go(this.frame - 1);
    $("next").onclick = () => this.go(this.frame + 1);
    $("frame").onchange = () => this.go(+$("frame").value);
    $("form").onsubmit = (e) => { e.preventDefault(); this.save(); };
    $("query").oninput = () => this.refresh();
    for (const id of ["clean", "size", "reach"]) $(id).onchange = () => this.proposeAgain(0);
    $("load").onclick = () => $("file").click();
    $("file").onchange = () => this.loadMask($("file").files[0]);
    $("help").onclick = () => this.showKeys();
    for (const node of document.querySelectorAll("[data-view]")) node.onclick = () => this.cloud.look(node.dataset.view);
    document.addEventListener("keydown", (e) => this.key(e));
    window.addEventListener("beforeunload", (e) => { if (this.isDirty || [...this.drafts.values()].some((d) => d.selection.past.length)) e.preventDefault(); });
  }

  key(e) {
    if (e.target.closest("input, select, dialog")) { if (e.key === "Escape") e.target.blur(); return; }
    if (e.altKey || e.defaultPrevented) return;
    const name = e.key.toLowerCase(), back = (e.ctrlKey || e.metaKey) && name === "z";
    if ((e.ctrlKey || e.metaKey) && !back) return;
    const acts = {
      b: () => this.setTool("box"), a: () => this.setTool("add"), r: () => this.setTool("remove"), z: () => this.step(e.shiftKey ? "redo" : "undo"), y: () => this.step("redo"),
      x: () => this.clear(), c: () => this.otherCluster(), t: () => this.toggleAll(), v: () => this.swap(), f: () => this.photo.fit(), s: () => this.save(),
      q: () => $("query").focus(), "/": () => $("query").focus(), arrowright: () => this.go(this.frame + 1), arrowleft: () => this.go(this.frame - 1), "?": () => this.showKeys(),
    };
    if (/^[1-9]$/.test(name) && this.keyframe?.cameras[name - 1]) this.showCamera(this.keyframe.cameras[name - 1].name);
    else if (acts[name]) acts[name]();
    else return;
    e.preventDefault();
  }

  showKeys() {
    const rows = [...TOOLS.map(([, text, key]) => [key, text]), ["Z · Y", "undo · redo"], ["X", "clear"], ["C", "next cluster of the mask"], ["T", "all points on the image"], ["V", "swap image and 3D view"], ["F", "whole image"], ["1 … 9", "camera"], ["← →", "previous, next keyframe"], ["Q", "write what it is"], ["S", "save (Enter in the field)"], ["Shift + box", "add to what is lit, e.g. in the next camera"]];
    $("key-list").replaceChildren(...rows.flatMap(([key, text]) => [el("dt", {}, key), el("dd", {}, text)]));
    $("keys").showModal();
  }

  setTool(tool) {
    this.tool = tool;
    for (const [name] of TOOLS) $(`tool-${name}`).setAttribute("aria-pressed", String(name === tool));
    $("desk").classList.toggle("lassoing", tool !== "box");
    $("photo-hint").textContent = HINTS[tool];
  }

  setSplit(split) {
    this.split = split;
    for (const node of $("splits").children) node.setAttribute("aria-pressed", String(node.dataset.split === split));
  }

  toggleAll() { this.showsAll = !this.showsAll; $("all").setAttribute("aria-pressed", String(this.showsAll)); this.photo.redraw(); }
  swap() { $("desk").classList.toggle("swapped"); }

  // ----------------------------------------------------------------------------------------------- keyframes

  async go(frame) {
    if (frame < 0 || frame >= this.data.frames.length || frame === this.frame) return;
    this.keepDraft();
    const turn = (this.turn = {});
    Object.assign(this, { frame, keyframe: null, loading: "reading the keyframe …" });
    $("frame").value = String(frame);
    history.replaceState(null, "", `#${frame + 1}`);
    this.refresh();
    try {
      const packed = await fetchJson(`/keyframe?frame=${frame}`);
      const [xyz, rgb] = await Promise.all([unpack(packed.xyz, Float32Array), unpack(packed.rgb, Uint8Array)]);
      const cameras = await Promise.all(packed.cameras.map(async (c) => ({ ...c, index: await unpack(c.index, Uint32Array), uv: await unpack(c.uv, Float32Array) })));
      if (this.turn !== turn) return;  // somebody chose another keyframe meanwhile
      this.keyframe = { ...packed, xyz, rgb, cameras };
      this.loading = null;
      this.takeDraft();
      this.showStrip();
      this.cloud.show(this.keyframe);
      notice(null);
    } catch (error) { if (this.turn === turn) { this.loading = null; notice(error.message); } }
    this.refresh();
  }

  // What was not saved waits until one comes back to the keyframe.
  keepDraft() {
    if (this.isDirty && this.keyframe) this.drafts.set(this.frame, { selection: this.selection, query: $("query").value, split: this.split, editing: this.editing });
  }

  takeDraft() {
    const draft = this.drafts.get(this.frame), before = this.data.annotations.find((a) => a.frame === this.frame);
    this.drafts.delete(this.frame);
    this.selection = draft?.selection ?? new Selection(this.keyframe.count);
    this.editing = draft?.editing ?? null;
    $("query").value = draft?.query ?? "";
    if (draft || before) this.setSplit(draft?.split ?? before.split);  // a keyframe belongs to one split
    this.say("");
  }

  showStrip() {
    const { cameras } = this.keyframe;
    this.images = new Map(cameras.map((c) => [c.name, el("img", { src: `/image?frame=${this.frame}&camera=${encodeURIComponent(c.name)}`, alt: "", draggable: false })]));
    $("strip").replaceChildren(...cameras.map((c) => el("button", { type: "button", title: c.name, dataset: { camera: c.name }, onclick: () => this.showCamera(c.name) }, this.images.get(c.name), el("span", {}, c.name), el("b", { hidden: true }))));
    const wanted = this.camera ?? cameras.find((c) => /front(_camera)?$/i.test(c.name)) ?? cameras[0];
    if (wanted) this.showCamera(wanted.name);
  }

  showCamera(name) {
    this.cameraName = name;
    for (const node of $("strip").children) node.setAttribute("aria-pressed", String(node.dataset.camera === name));
    this.photo.show(this.camera, this.images.get(name));
  }

  // -------------------------------------------------------------------------------------------------- points

  box(box, adds) { this.propose({ camera: this.cameraName, box }, adds); }

  async loadMask(file) {
    if (!file) return;
    const bytes = new Uint8Array(await file.arrayBuffer());
    $("file").value = "";
    let text = "";
    for (let i = 0; i < bytes.length; i += 32768) text += String.fromCharCode(...bytes.subarray(i, i + 32768));
    this.propose({ camera: this.cameraName, png: btoa(text) }, false);
  }

  get clean() { return { enabled: $("clean").checked, min_cluster_size: +$("size").value, reach_m: +$("reach").value }; }

  async propose(wish, adds, rank = 0, base = null) {
    const turn = this.turn, call = (this.call = {}), before = base ?? (adds ? this.selection.rows : []);
    this.loading = "looking for points …";
    this.refresh();
    try {
      const found = await fetchJson("/propose", { frame: this.frame, ...wish, clean: { ...this.clean, rank } });
      if (this.turn !== turn || this.call !== call) return;
      const kept = new Set(found.kept), shown = !(wish.box && this.data.boxIsMask), picture = shown && found.mask && (await maskPicture(found.mask));
      const note = { ...found, wish, camera: wish.camera, box: wish.box, picture, rank, before, dropped: new Set(found.inside.filter((row) => !kept.has(row))) };
      this.selection.replace(before.concat(found.kept), note);
      this.cloud.lookAt(found.kept);
      this.say("");
    } catch (error) { if (this.call === call) this.say(error.message, true); }
    this.loading = null;
    this.refresh();
  }

  proposeAgain(rank) { if (this.note) this.propose(this.note.wish, false, rank, this.note.before); }
  otherCluster() { if (this.note?.clusters > 1) this.proposeAgain((this.note.rank + 1) % this.note.clusters); }

  click(row) {
    if (row < 0 || !this.keyframe) return;
    this.change([row], this.tool === "box" ? !this.selection.on[row] : this.tool === "add");
  }

  lassoed(rows) { if (this.keyframe) this.change(rows, this.tool === "add"); }
  change(rows, lit) { this.selection.set(rows, lit); this.refresh(); }
  hoverMatters(row) { return this.tool === "add" ? !this.selection.on[row] : this.tool === "remove" ? !!this.selection.on[row] : this.showsAll || !!this.selection.on[row] || !!this.note?.dropped.has(row); }
  step(which) { this.selection[which](); this.refresh(); }
  clear() { if (this.selection.size || this.note) this.selection.replace([], null); this.editing = null; this.refresh(); }

  // -------------------------------------------------------------------------------------------------- saving

  async save() {
    const query = $("query").value.trim();
    if (!query) { this.say("Write what it is first."); $("query").focus(); return; }
    if (!this.selection.size || !this.keyframe) { this.say("Light some points first: drag a box around the object.", true); return; }
    const { frame } = this;
    try {
      const answer = await fetchJson("/save", { frame, query, split: this.split, points: this.selection.rows, replaces: this.editing });
      Object.assign(this.data, { annotations: answer.annotations, others: answer.others });
      if (this.frame !== frame) { this.drafts.delete(frame); this.refresh(); return; }
      const count = this.selection.size;
      this.selection = new Selection(this.keyframe.count);
      this.editing = null;
      $("query").value = "";
      $("query").blur();
      this.say(`Saved “${answer.query}”, ${number(count)} points. Draw the next box.`);
    } catch (error) { this.say(error.message, true); }
    this.refresh();
  }

  async open(annotation) {
    await this.go(annotation.frame);
    if (!this.keyframe || this.frame !== annotation.frame) return;
    try {
      const { points, split } = await fetchJson(`/points?frame=${annotation.frame}&query=${encodeURIComponent(annotation.query)}`);
      this.selection = new Selection(this.keyframe.count, points);
      this.editing = $("query").value = annotation.query;
      this.setSplit(split);
      this.showWhereSeen(points);
      this.cloud.lookAt(points);
      this.say("Change points or words, then save again.");
    } catch (error) { this.say(error.message, true); }
    this.refresh();
  }

  // The camera that sees most of the points.
  showWhereSeen(points) {
    const wanted = new Set(points), seen = this.keyframe.cameras.map((c) => c.index.reduce((sum, row) => sum + wanted.has(row), 0));
    if (seen.length) this.showCamera(this.keyframe.cameras[seen.indexOf(Math.max(...seen))].name);
  }

  async remove(annotation) {
    try {
      Object.assign(this.data, await fetchJson("/remove", { frame: annotation.frame, query: annotation.query }));
      if (this.editing === annotation.query && this.frame === annotation.frame) this.editing = null;
      this.say(`Removed “${annotation.query}”.`);
    } catch (error) { this.say(error.message, true); }
    this.refresh();
  }

  // ------------------------------------------------------------------------------------------------- showing

  say(text, bad = false) { $("answer").textContent = text; $("answer").classList.toggle("bad", bad); }

  refresh() {
    const { selection, note } = this;
    $("count").textContent = number(selection.size);
    $("about-mask").textContent = this.loading ?? this.aboutMask(note);
    $("undo").disabled = !selection.past.length;
    $("redo").disabled = !selection.future.length;
    $("clear").disabled = !selection.size && !note;
    $("other").disabled = !(note?.clusters > 1);
    $("previous").disabled = this.frame <= 0;
    $("next").disabled = this.frame >= this.data.frames.length - 1;
    $("save").disabled = !selection.size || !$("query").value.trim();
    $("save").textContent = this.editing === null ? "Save" : "Save again";
    this.showMade();
    this.showCounts();
    this.photo.redraw();
    this.cloud.redraw();
  }

  aboutMask(note) {
    if (!note) return this.selection.size ? "Click points, or draw around them, to change them." : "Drag a box around an object on the image.";
    const by = note.box ? this.data.segmenter : "a file";
    const found = note.clusters === 1 ? "1 cluster" : note.clusters ? `cluster ${note.rank + 1} of ${note.clusters}` : "no cluster found, all kept";
    const kept = this.clean.enabled ? found : "no clean-up";
    return `${number(note.kept.length)} of ${number(note.inside.length)} points in the mask · ${kept} · mask: ${by}`;
  }

  showCounts() {
    if (!this.keyframe) return;
    this.keyframe.cameras.forEach((c, i) => {
      const badge = $("strip").children[i]?.querySelector("b"), lit = this.selection.size ? c.index.reduce((sum, row) => sum + this.selection.on[row], 0) : 0;
      if (badge) { badge.hidden = !lit; badge.textContent = number(lit); }
    });
  }

  showMade() {
    const { annotations, others } = this.data, here = annotations.filter((a) => a.frame === this.frame), elsewhere = annotations.filter((a) => a.frame !== this.frame).reverse();
    $("made-title").textContent = `${number(annotations.length)} annotation${annotations.length === 1 ? "" : "s"}${others ? ` · ${number(others)} of other recordings` : ""}`;
    $("made").replaceChildren(...here.concat(elsewhere).map((a) => {
      const gone = el("button", { type: "button", title: "Remove", "aria-label": `Remove ${a.query}` }, "×");
      gone.onclick = () => { if (gone.classList.contains("sure")) this.remove(a); else { gone.classList.add("sure"); gone.textContent = "sure?"; } };
      const where = a.frame === this.frame ? "here" : `#${a.frame + 1}`;
      return el("li", { className: this.editing === a.query && a.frame === this.frame ? "on" : "" }, el("button", { type: "button", title: "Show and change", onclick: () => this.open(a) }, el("span", {}, a.query), el("em", {}, `${number(a.count)} · ${a.split} · ${where}`)), gone);
    }));
    $("known").replaceChildren(...[...new Set(annotations.map((a) => a.query))].map((text) => el("option", { value: text })));
    const done = new Set(annotations.map((a) => a.frame));
    for (const option of $("frame").options) option.text = option.text.replace(/ ✓$/, "") + (done.has(+option.value) ? " ✓" : "");
  }
}

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}

// The mask as a tint that can be drawn over the image.
async function maskPicture({ width, height, value }) {
  const on = await unpack(value, Uint8Array), canvas = el("canvas", { width, height }), context = canvas.getContext("2d"), pixels = context.createImageData(width, height);
  for (let i = 0; i < on.length; i++) if (on[i]) pixels.data.set([255, 122, 24, 56], 4 * i);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

const data = JSON.parse($("lexivox-data").textContent);
if (typeof DecompressionStream === "undefined") notice("This browser is too old for this page (it lacks DecompressionStream); any browser from 2023 or later can.");
else if (!data.frames.length) notice("This recording has no keyframes.");
else {
  const app = new Annotator(data), asked = parseInt(location.hash.slice(1), 10), last = data.annotations.at(-1);
  app.go(asked >= 1 && asked <= data.frames.length ? asked - 1 : (last?.frame ?? 0));
}
