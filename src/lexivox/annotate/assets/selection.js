// Which points are lit, with every step back and forth. `note` says what the mask was at that step.

class Selection {
  constructor(count, rows = []) {
    Object.assign(this, { on: new Uint8Array(count), size: 0, note: null, past: [], future: [] });
    this.fill(rows);
  }

  fill(rows) {
    this.on.fill(0);
    for (const row of rows) this.on[row] = 1;
    this.rows = Array.from(rows).sort((a, b) => a - b);
    this.size = this.rows.length;
  }

  // One step that can be undone.
  replace(rows, note = this.note) {
    this.past.push({ rows: this.rows, note: this.note });
    this.future = [];
    this.note = note;
    this.fill(new Set(rows));
  }

  // Lights or darkens some points; nothing happens where that changes none.
  set(rows, lit, note = this.note) {
    const changed = rows.filter((row) => !!this.on[row] !== lit);
    if (!changed.length && note === this.note) return;
    const gone = new Set(changed);
    this.replace(lit ? this.rows.concat(changed) : this.rows.filter((row) => !gone.has(row)), note);
  }

  undo() { this.step(this.past, this.future); }
  redo() { this.step(this.future, this.past); }

  step(from, to) {
    const state = from.pop();
    if (!state) return;
    to.push({ rows: this.rows, note: this.note });
    this.note = state.note;
    this.fill(state.rows);
  }
}
