// A closed line drawn by hand, in the pixels of its canvas.

class Lasso {
  constructor(start) { this.line = [start]; }

  add(point) {
    const [x, y] = this.line[this.line.length - 1];
    if (Math.hypot(point[0] - x, point[1] - y) >= 2) this.line.push(point);
  }

  // A click that trembled is no lasso.
  get isClick() {
    const xs = this.line.map((p) => p[0]), ys = this.line.map((p) => p[1]);
    return Math.max(...xs) - Math.min(...xs) < 5 && Math.max(...ys) - Math.min(...ys) < 5;
  }

  holds(x, y) {
    let inside = false;
    for (let i = 0, j = this.line.length - 1; i < this.line.length; j = i++) {
      const [xi, yi] = this.line[i], [xj, yj] = this.line[j];
      if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) inside = !inside;
    }
    return inside;
  }

  draw(context) {
    context.beginPath();
    this.line.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.fillStyle = "#ffffff22";
    context.fill();
    context.strokeStyle = "#ffffff";
    context.lineWidth = 1.5;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
  }
}

const LIT = "#ff7a18", DROPPED = "#38bdf8";

function dot2d(context, x, y, radius, color, ring) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fillStyle = color;
  context.fill();
  if (ring) { context.lineWidth = 1; context.strokeStyle = ring; context.stroke(); }
}

// Makes a canvas as fine as the screen; returns its context in CSS pixels.
function fineContext(canvas) {
  const ratio = Math.min(2, window.devicePixelRatio || 1), width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}
