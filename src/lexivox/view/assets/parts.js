// The parts of the page around the map. Each function fills one element from plain data.

function button(text, pressed, act, props = {}) {
  const node = el("button", { type: "button", onclick: act, ...props }, text);
  if (pressed !== null) node.setAttribute("aria-pressed", String(pressed));
  return node;
}

function showImages(images) {
  $("cameras").hidden = !images.length;
  $("images").replaceChildren(...images.map((image) =>
    el("button", { type: "button", title: "Enlarge", onclick: () => zoomImage(image) },
      el("img", { src: image.src, alt: `Camera ${image.name}`, decoding: "async" }), el("span", {}, image.name))));
}

function zoomImage(image) {
  $("zoom-image").src = image.src;
  $("zoom-image").alt = `Camera ${image.name}`;
  $("zoom-name").textContent = image.name;
  $("zoom").showModal();
}

function showLegend(layer, counts, hidden, toggle) {
  const order = layer.classes.map((_, i) => i).filter((i) => counts[i]).sort((a, b) => counts[b] - counts[a]);
  $("legend").replaceChildren(...order.map((i) =>
    button(el("i", { style: { background: layer.palette[i] } }), !hidden.has(layer.classes[i]), () => toggle(layer.classes[i]), { title: "Show or hide" })));
  order.forEach((i, row) => $("legend").children[row].append(el("span", {}, layer.classes[i]), el("em", {}, number(counts[i]))));
}

// Is it here? Measured against things that are surely absent; without a calibration nobody knows, and the page says so.
function showVerdict({ verdict, places }) {
  const node = $("verdict"), percent = (p) => (p < 0.001 ? "less than 0.1" : (100 * p).toFixed(p < 0.1 ? 1 : 0));
  node.className = `verdict ${verdict === null ? "open" : verdict.here ? "yes" : "no"}`;
  const title = verdict === null ? "Not calibrated" : verdict.here ? `Here, in ${number(places)} place${places === 1 ? "" : "s"}` : "Not here";
  const why = verdict === null ? "The map shows what fits best, but nobody measured from where on it is really there."
    : `${percent(verdict.p_value)} % of things that are surely absent score as high.${verdict.here ? "" : " Below is the closest there is."}`;
  node.replaceChildren(el("b", {}, title), why);
}

function showHits(layer, choose) {
  const found = layer.regions.length > 0, rows = found ? layer.regions.slice(0, 12) : layer.hits;
  $("hits-title").hidden = !rows.length;
  $("hits-title").textContent = found ? "Found, best first" : layer.verdict && !layer.verdict.here ? "Closest, though not here" : "Best places";
  $("hits").replaceChildren(...rows.map((hit, n) => {
    const place = hit.xyz.map((v) => v.toFixed(1)).join(", ");
    const size = found ? [el("i", {}, `${hit.size.map((v) => v.toFixed(1)).join(" × ")} m, ${number(hit.count)} voxel${hit.count === 1 ? "" : "s"}`)] : [];
    return el("li", {}, el("button", { type: "button", title: "Fly there", onclick: () => choose(hit) },
      el("span", {}, `${n + 1}`), el("span", {}, `${place} m`, ...size), el("b", {}, score(hit.score))));
  }));
}

function showRamp() {
  const context = $("ramp").getContext("2d"), pixels = context.createImageData(256, 1);
  pixels.data.set(heatPalette());
  context.putImageData(pixels, 0, 0);
}

function showQueries(queries, current, choose) {
  $("queries").hidden = !queries.length;
  const table = $("query-table"), most = Math.max(0.01, ...queries.map((q) => Math.max(q.ap ?? 0, q.random ?? 0)));
  const head = el("tr", {}, ...["Query", "Average precision", "Random", "Gain", ""].map((text) => el("th", { scope: "col" }, text)));
  const rows = queries.map((q) => {
    const bar = el("span", { className: "bar", title: "line: random" }, el("i", { style: { width: `${(100 * (q.ap ?? 0)) / most}%` } }));
    if (q.random !== null) bar.append(el("b", { style: { left: `${(100 * q.random) / most}%` } }));
    const gain = q.ap === null || !q.random ? "–" : `${(q.ap / q.random).toFixed(1)}×`;
    return el("tr", { className: `pick${q.layer === current ? " on" : ""}`, onclick: () => choose(q.layer) },
      el("th", { scope: "row" }, el("button", { type: "button", className: "link" }, q.text)),
      ...[score(q.ap), score(q.random), gain].map((text) => el("td", {}, text)), el("td", {}, bar));
  });
  table.replaceChildren(el("thead", {}, head), el("tbody", {}, ...rows));
}

function showTables(tables) {
  $("tables").hidden = !tables.length;
  $("tables").replaceChildren(...tables.map((t) => {
    const head = el("tr", {}, ...["", ...t.columns].map((text) => el("th", { scope: "col" }, text)));
    const rows = t.rows.map((row) => el("tr", {}, el("th", { scope: "row" }, row.name), ...row.cells.map((cell) => el("td", {}, cell))));
    const node = el("div", {}, el("h2", {}, t.title), el("div", { className: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows))));
    if (t.note) node.append(el("p", { className: "small" }, t.note));
    return node;
  }));
}

function showPictures(pictures) {
  $("pictures").hidden = !pictures.length;
  $("pictures").replaceChildren(...pictures.map(({ name, src }) => el("figure", {}, el("h2", {}, name), el("img", { className: "wide", src, alt: name }))));
}

function showCharts(charts) {
  $("charts").hidden = !charts.length;
  $("charts").replaceChildren(...charts.map((src) => el("img", { className: "wide", src, alt: "Bar chart of published numbers and ours; the table above holds the same numbers" })));
}

function showCurves(curves) {
  $("curves").hidden = !curves.length;
  $("curve-list").replaceChildren(...curves.map(chart));
}

function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 90) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 90 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function showAbout({ seconds, facts, notes }) {
  $("about").hidden = !(seconds.length + facts.length + notes.length);
  $("seconds").replaceChildren(...seconds.map(([name, value]) => el("div", {}, el("b", {}, value === null ? "–" : span(value)), name)));
  $("facts").replaceChildren(...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  $("notes").replaceChildren(...notes.map((text) => el("p", {}, text)));
}

function showFrames(titles, current, choose) {
  if (titles.length < 2) { $("frames").replaceChildren(); return; }
  const select = el("select", { "aria-label": "Keyframe", onchange: () => choose(select.selectedIndex) }, ...titles.map((text) => el("option", {}, text)));
  select.selectedIndex = current;
  const turn = (by) => choose((select.selectedIndex + by + titles.length) % titles.length);
  $("frames").replaceChildren(button("‹", null, () => turn(-1), { "aria-label": "Previous keyframe" }), select, button("›", null, () => turn(1), { "aria-label": "Next keyframe" }));
}

function notice(text) {
  $("notice").hidden = !text;
  $("notice").textContent = text ?? "";
}
