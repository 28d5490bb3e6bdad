// Small helpers: elements, numbers, packed arrays; and the colours, in the same numbers as colors.py.

const $ = (id) => document.getElementById(id);

function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (key === "style" || key === "dataset") Object.assign(node[key], value);
    else if (key.startsWith("aria-")) node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children);  // strings become text nodes: no text of a recording is ever parsed as HTML
  return node;
}

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
  return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : digits);
}

const score = (value) => (value === null ? "–" : value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential(1) : value.toFixed(3));

async function unpack(text, Type) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Type(await new Response(stream).arrayBuffer());
}

async function fetchJson(url, body) {
  const how = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let reply;
  try { reply = await fetch(url, how); } catch { throw new Error("The server does not answer. Is lexivox still running?"); }
  const data = await reply.json().catch(() => ({ error: `The server answered with status ${reply.status}.` }));
  if (!reply.ok) throw new Error(data.error);
  return data;
}

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
const theme = () => (darkQuery.matches ? "dark" : "light");

const PLAIN = [150, 158, 176];
const BACKGROUND = { light: [244, 245, 248], dark: [18, 20, 26] };
const HEAT_STOPS = {
  light: [[206, 210, 220], [200, 200, 212], [226, 180, 156], [226, 84, 50], [128, 8, 52]],
  dark: [[58, 63, 80], [72, 72, 100], [136, 78, 112], [242, 116, 66], [255, 238, 150]],
};

// 256 RGBA colours; scores below `floor` (0..255) keep the lowest colour.
function heatPalette(floor = 0) {
  const stops = HEAT_STOPS[theme()], out = new Uint8Array(1024);
  for (let i = 0; i < 256; i++) {
    const at = i < floor ? 0 : (i / 255) * (stops.length - 1), k = Math.min(Math.floor(at), stops.length - 2);
    for (let c = 0; c < 3; c++) out[4 * i + c] = Math.round(stops[k][c] + (at - k) * (stops[k + 1][c] - stops[k][c]));
    out[4 * i + 3] = 255;
  }
  return out;
}

function classPalette(colors) {
  const out = new Uint8Array(1024).fill(255);
  colors.forEach((hex, i) => { for (let c = 0; c < 3; c++) out[4 * i + c] = parseInt(hex.slice(1 + 2 * c, 3 + 2 * c), 16); });
  return out;
}

function plainPalette() {
  const out = new Uint8Array(1024);
  for (let i = 0; i < 256; i++) out.set([...PLAIN, 255], 4 * i);
  return out;
}
