// Loss curves as SVG: the raw values faint, their running mean strong, axes with round numbers.

function ticks(low, high, wanted) {
  if (!(high > low)) return [low];
  const raw = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw), out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-6; v += step) out.push(Math.abs(v) < step * 1e-6 ? 0 : v);
  return out;
}

function short(value) {
  if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(0);
  return Math.abs(value) >= 1000 ? `${+(value / 1000).toPrecision(3)}k` : String(+value.toPrecision(3));
}

// Centred, so that the strong line does not lag behind the faint one.
function runningMean(values) {
  const reach = Math.max(2, Math.round(values.length / 40));
  return values.map((v, i) => {
    if (v === null) return null;
    const near = values.slice(Math.max(0, i - reach), i + reach + 1).filter((n) => n !== null);
    return near.reduce((sum, n) => sum + n, 0) / near.length;
  });
}

function chart({ name, steps, values }) {
  const W = 320, H = 170, left = 38, right = 8, top = 8, bottom = 22;
  const finite = values.filter((v) => v !== null), last = finite.at(-1);
  const head = el("h3", {}, name, el("span", {}, last === undefined ? "no values" : number(last)));
  if (!finite.length) return el("div", { className: "curve" }, head);
  let low = Math.min(...finite), high = Math.max(...finite);
  if (low > 0 && low < 0.35 * high) low = 0;
  if (low === high) { low -= 0.5 * Math.abs(low) || 0.5; high += 0.5 * Math.abs(high) || 0.5; }
  const [first, end] = [steps[0], steps.at(-1)];
  const x = (s) => left + ((s - first) / (end - first || 1)) * (W - left - right), y = (v) => H - bottom - ((v - low) / (high - low)) * (H - top - bottom);
  const path = (list) => {
    let pen = "M", out = "";
    list.forEach((v, i) => { if (v === null) pen = "M"; else { out += `${pen}${x(steps[i]).toFixed(1)} ${y(v).toFixed(1)}`; pen = "L"; } });
    return out;
  };
  const picture = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${name}: from ${number(finite[0])} to ${number(last)} over ${number(end)} steps` });
  for (const v of ticks(low, high, 4)) {
    picture.append(svg("line", { x1: left, x2: W - right, y1: y(v), y2: y(v), stroke: "var(--line)" }),
      svg("text", { x: left - 5, y: y(v) + 3, "text-anchor": "end", fill: "var(--muted)" }, short(v)));
  }
  for (const s of ticks(first, end, 4)) {
    picture.append(svg("text", { x: x(s), y: H - 7, "text-anchor": x(s) > W - 24 ? "end" : "middle", fill: "var(--muted)" }, short(s)));
  }
  const line = (list, extra) => picture.append(svg("path", { d: path(list), fill: "none", stroke: "var(--accent)", "stroke-linejoin": "round", ...extra }));
  if (values.length > 24) { line(values, { opacity: 0.3, "stroke-width": 1 }); line(runningMean(values), { "stroke-width": 2 }); }
  else line(values, { "stroke-width": 2 });
  if (finite.length === 1) picture.append(svg("circle", { cx: x(steps[0]), cy: y(last), r: 3, fill: "var(--accent)" }));
  return el("div", { className: "curve" }, head, picture);
}
