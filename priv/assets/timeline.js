// Operations of every process over time. Only what is visible is drawn; lanes scroll, time zooms.
//
// A lane is a thread: when an operation ends unknown, its process ends and the next one of the same
// thread takes over (process mod concurrency), so lanes stay as many as there are clients.

const lanes = (() => {
  const width = data.info.concurrency;
  const laneOf = new Int32Array(ops.length);
  const nodesOf = new Map();
  for (let i = 0; i < ops.length; i++) {
    const lane = width > 0 ? ((sample.process[i] % width) + width) % width : sample.process[i];
    if (!nodesOf.has(lane)) nodesOf.set(lane, sample.node[i]);
    laneOf[i] = lane;
  }
  const order = [...nodesOf.keys()].sort((a, b) => nodesOf.get(a) - nodesOf.get(b) || a - b);
  const rowOf = new Map(order.map((lane, row) => [lane, row]));
  const byRow = order.map(() => []);
  for (let i = 0; i < ops.length; i++) byRow[rowOf.get(laneOf[i])].push(i);
  // A lane shows one operation at a time, so its longest bounds how far back a search must look.
  const longest = byRow.map((row) => row.reduce((most, i) => Math.max(most, ops.span[i]), 0));
  const labels = order.map((lane) => {
    const node = nodesOf.get(lane);
    return (node < 0 ? "" : sample.nodes[node] + " · ") + lane;
  });
  return { byRow, labels, longest, nodes: order.map((lane) => nodesOf.get(lane)), count: order.length };
})();

class Timeline {
  constructor(heightMax) {
    this.rowHeight = lanes.count <= 40 ? 20 : 14;
    this.marginTop = 0;
    const full = lanes.count * this.rowHeight;
    this.content = {
      draw: (plot) => this.draw(plot),
      overlay: (plot) => this.labels(plot),
      hover: (plot, x, y) => this.hover(plot, x, y),
    };
    const probe = 8 + 15 * Math.max(1, 1 + Math.max(-1, ...activeFaults.map((f) => f.lane))) + 24;
    const height = Math.min(full + probe, heightMax);
    this.plot = new Plot(this.content, height, "operations of each process over time");
    this.spacer = el("div", { style: `height:${full + probe - height}px` });
    this.root = el("div", { class: "lanes", style: `height:${height}px` }, this.plot.root, this.spacer);
    this.root.addEventListener("scroll", () => this.plot.redraw());
  }

  row(plot, y) {
    return Math.floor((y - plot.margin.top + this.root.scrollTop) / this.rowHeight);
  }

  draw(plot) {
    const { pen } = plot;
    const first = Math.max(0, this.row(plot, plot.margin.top));
    const last = Math.min(lanes.count - 1, this.row(plot, plot.bottom));
    pen.beginPath();
    pen.rect(plot.margin.left, plot.margin.top, plot.inner, plot.bottom - plot.margin.top);
    pen.clip();
    for (let row = first; row <= last; row++) this.drawRow(plot, row);
  }

  top(plot, row) {
    return plot.margin.top + row * this.rowHeight - this.root.scrollTop;
  }

  drawRow(plot, row) {
    const { pen } = plot;
    const top = this.top(plot, row);
    if (row > 0 && lanes.nodes[row] !== lanes.nodes[row - 1]) {
      pen.fillStyle = colour("line");
      pen.fillRect(plot.margin.left, top, plot.inner, 1);
    }
    const height = this.rowHeight - 4;
    let edge = -1;
    const list = lanes.byRow[row];
    pen.textAlign = "left";
    for (let at = this.firstVisible(list, row); at < list.length; at++) {
      const i = list[at];
      if (ops.start[i] > view.to) break;
      const end = ops.span[i] < 0 ? view.to : ops.start[i] + ops.span[i];
      if (end < view.from) continue;
      const left = Math.max(plot.margin.left - 2, plot.x(ops.start[i]));
      const right = Math.max(left + 1.5, Math.min(plot.width, plot.x(end)));
      // Below a pixel, ok operations cover each other; what is not ok is never covered.
      if (sample.outcome[i] === "o" && right <= edge) continue;
      edge = right;
      pen.globalAlpha = selected(i) ? 1 : 0.15;
      pen.fillStyle = colourOf(sample.outcome[i]);
      pen.fillRect(left, top + 2, Math.max(1, right - left - (right - left > 4 ? 1 : 0)), height);
      if (right - left > 30 && selected(i)) {
        const words = [operationWords(i), callWords(i), sample.functions[sample.function[i]]]
          .find((text) => pen.measureText(text).width < right - left - 8);
        pen.fillStyle = sample.outcome[i] === "f" ? "#fff" : "#14202e";
        if (words) pen.fillText(words, left + 4, top + 2 + height / 2);
      }
    }
    pen.globalAlpha = 1;
  }

  firstVisible(list, row) {
    const from = view.from - lanes.longest[row] - 1e-6;
    let low = 0;
    let high = list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (ops.span[list[middle]] >= 0 && ops.start[list[middle]] < from) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  labels(plot) {
    const { pen } = plot;
    pen.save();
    pen.beginPath();
    pen.rect(0, plot.margin.top, plot.margin.left, plot.bottom - plot.margin.top);
    pen.clip();
    pen.textAlign = "right";
    pen.fillStyle = colour("muted");
    for (let row = 0; row < lanes.count; row++) {
      const y = this.top(plot, row) + this.rowHeight / 2;
      if (y < plot.margin.top - 10 || y > plot.bottom + 10) continue;
      pen.fillText(lanes.labels[row], plot.margin.left - 7, y);
    }
    pen.restore();
  }

  hover(plot, x, y) {
    const row = this.row(plot, y);
    if (y < plot.margin.top || !lanes.byRow[row]) return null;
    const seconds = plot.at(x);
    const slack = plot.at(x + 2) - seconds;
    const list = lanes.byRow[row];
    let best = null;
    for (let at = this.firstVisible(list, row); at < list.length; at++) {
      const i = list[at];
      if (ops.start[i] > seconds + slack) break;
      const end = ops.span[i] < 0 ? endOfRun : ops.start[i] + ops.span[i];
      if (end >= seconds - slack) best = i;
    }
    return best === null ? null : describeOperation(best);
  }
}

const colourCache = {};
/** Reading a style is slow, and a row asks for each operation. */
function colourOf(outcome) {
  const name = outcomeColours[outcome];
  if (!colourCache[name]) colourCache[name] = colour(name);
  return colourCache[name];
}

function keySelect(name) {
  if (!sample.keys.length) return null;
  const order = sample.keys.map((key, i) => [key, i])
    .sort((a, b) => a[0].localeCompare(b[0], "en", { numeric: true }));
  return el("label", { class: "field" }, name,
    el("select", { onchange: (event) => { view.key = +event.target.value; view.changed(); } },
      el("option", { value: -1 }, "all"),
      order.map(([key, i]) => el("option", { value: i }, key))));
}
