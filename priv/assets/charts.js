// Latency of single operations, latency quantiles, and rate.

// The sample: columns of differences become typed arrays of absolute values. ---------------------

const sample = data.sample;
const ops = (() => {
  const length = sample.process.length;
  const start = new Float64Array(length);
  const span = new Float64Array(length);
  const position = new Float64Array(length);
  let at = 0;
  let index = 0;
  let longest = 0;
  for (let i = 0; i < length; i++) {
    at += sample.start_us[i];
    index += sample.position[i];
    start[i] = at / 1e6;
    position[i] = index;
    span[i] = sample.length_us[i] < 0 ? -1 : sample.length_us[i] / 1e6;
    if (span[i] > longest) longest = span[i];
  }
  return { length, start, span, position, longest };
})();

const outcomes = { o: "ok", f: "fail", i: "info", n: "no answer" };
const outcomeColours = { o: "ok", f: "fail", i: "info", n: "info" };

/** First operation that was invoked at or after a time. */
function firstFrom(seconds) {
  let low = 0;
  let high = ops.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ops.start[middle] < seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

function selected(i) {
  return (view.f === null || sample.functions[sample.function[i]] === view.f) &&
    (view.key < 0 || sample.key[i] === view.key);
}

function callWords(i) {
  const name = sample.functions[sample.function[i]];
  return sample.argument[i] < 0 ? name : `${name} ${sample.values[sample.argument[i]]}`;
}

function operationWords(i) {
  const value = (index) => (index < 0 ? null : sample.values[index]);
  const argument = value(sample.argument[i]);
  const result = value(sample.result[i]);
  const outcome = sample.outcome[i];
  const words = [sample.functions[sample.function[i]]];
  if (argument !== null) words.push(argument);
  if (outcome === "o") {
    if (result !== argument) words.push("→", result === null ? "nil" : result);
  } else words.push("→", outcomes[outcome], result === null ? "" : result);
  return words.join(" ");
}

function describeOperation(i) {
  const node = sample.node[i] < 0 ? "" : ` on ${sample.nodes[sample.node[i]]}`;
  const key = sample.key[i] < 0 ? "" : ` · key ${sample.keys[sample.key[i]]}`;
  return [
    el("div", { class: "tip-title" },
      el("span", { class: `swatch ${outcomeColours[sample.outcome[i]]}` }), operationWords(i)),
    el("div", {}, `process ${sample.process[i]}${node}${key}`),
    el("div", {}, ops.span[i] < 0 ? `from ${time(ops.start[i], 6)}, never answered`
      : `from ${time(ops.start[i], 6)}, took ${latency(ops.span[i] * 1000)}`),
    el("div", { class: "muted" }, `record ${ops.position[i]}`),
  ];
}

function logScale(low, high, top, bottom) {
  const from = Math.log10(low);
  const to = Math.log10(high);
  return (ms) => bottom - ((Math.log10(Math.max(ms, low)) - from) / (to - from)) * (bottom - top);
}

function decades(low, high) {
  const values = [];
  for (let e = Math.round(Math.log10(low)); e <= Math.round(Math.log10(high)); e++) {
    values.push(10 ** e);
  }
  return values;
}

function decadeLabel(ms) {
  if (ms < 1) return `${+(ms * 1000).toPrecision(3)} µs`;
  return ms < 1000 ? `${ms} ms` : `${ms / 1000} s`;
}

function decadeRange(low, high) {
  if (!(high > 0)) return [0.1, 10];
  const from = 10 ** Math.floor(Math.log10(Math.max(low, 0.001)) - 0.02);
  const to = 10 ** Math.ceil(Math.log10(high) - 1e-9);
  return [from, to > from ? to : from * 10];
}

// Latency of single operations --------------------------------------------------------------------

const scatter = {
  range: (() => {
    let low = Infinity;
    let high = 0;
    for (let i = 0; i < ops.length; i++) {
      if (ops.span[i] <= 0) continue;
      if (ops.span[i] < low) low = ops.span[i];
      if (ops.span[i] > high) high = ops.span[i];
    }
    return decadeRange(low * 1000, high * 1000);
  })(),

  draw(plot) {
    const y = (this.y = logScale(...this.range, plot.margin.top + 4, plot.bottom - 4));
    plot.drawValueAxis(decades(...this.range), y, decadeLabel);
    const first = firstFrom(view.from);
    const last = firstFrom(view.to);
    const size = last - first > 20000 ? 2 : last - first > 3000 ? 2.5 : 3.5;
    for (const [kinds, name, alpha] of [["o", "ok", 0.7], ["in", "info", 0.95], ["f", "fail", 0.95]]) {
      plot.pen.fillStyle = colour(name);
      plot.pen.globalAlpha = alpha;
      for (let i = first; i < last; i++) {
        if (!kinds.includes(sample.outcome[i]) || !selected(i)) continue;
        const ms = ops.span[i] < 0 ? this.range[1] : ops.span[i] * 1000;
        plot.pen.fillRect(plot.x(ops.start[i]) - size / 2, y(ms) - size / 2, size, size);
      }
    }
    plot.pen.globalAlpha = 1;
  },

  hover(plot, x, y) {
    const reach = plot.at(x + 7) - plot.at(x);
    let best = -1;
    let least = 64;
    for (let i = firstFrom(plot.at(x) - reach); i < ops.length; i++) {
      if (ops.start[i] > plot.at(x) + reach) break;
      if (!selected(i)) continue;
      const ms = ops.span[i] < 0 ? this.range[1] : ops.span[i] * 1000;
      const distance = (plot.x(ops.start[i]) - x) ** 2 + (this.y(ms) - y) ** 2;
      if (distance < least) [best, least] = [i, distance];
    }
    return best < 0 ? null : describeOperation(best);
  },
};

// Quantiles and rate: complete, counted over every operation --------------------------------------

const windowLength = ns(data.summary.window_ns);

function series() {
  const all = data.summary.series;
  return (all.find((one) => (one.f === undefined ? null : one.f) === view.f) || all[0]).windows;
}

function windowAt(plot, x) {
  const index = Math.floor(plot.at(x) / windowLength);
  return [index, series()[index]];
}

function windowTitle(index) {
  const to = Math.min(endOfRun, (index + 1) * windowLength);
  return el("div", { class: "tip-title" }, `${time(index * windowLength, 1)} – ${time(to, 1)}`);
}

const quantileNames = ["p50", "p95", "p99", "max"];

const quantiles = {
  draw(plot) {
    const windows = series();
    let low = Infinity;
    let high = 0;
    for (const { latency_ms: q } of windows) {
      if (!q) continue;
      low = Math.min(low, q[0]);
      high = Math.max(high, q[3]);
    }
    const range = decadeRange(low, high);
    const y = logScale(...range, plot.margin.top + 4, plot.bottom - 4);
    plot.drawValueAxis(decades(...range), y, decadeLabel);
    quantileNames.forEach((name, k) => {
      const pen = plot.pen;
      pen.strokeStyle = colour(`q${k}`);
      pen.lineWidth = k === 3 ? 1 : 1.8;
      pen.lineJoin = "round";
      pen.beginPath();
      let down = false;
      windows.forEach((window, i) => {
        if (!window.latency_ms) {
          down = false;
          return;
        }
        const x = plot.x((i + 0.5) * windowLength);
        const value = y(window.latency_ms[k]);
        if (down) pen.lineTo(x, value);
        else {
          pen.moveTo(x - 1, value);
          pen.lineTo(x, value);
        }
        down = true;
      });
      pen.stroke();
    });
  },

  hover(plot, x) {
    const [index, window] = windowAt(plot, x);
    if (!window || !window.latency_ms) return null;
    return [windowTitle(index), ...quantileNames.map((name, k) =>
      el("div", { class: "tip-row" },
        el("span", {}, el("span", { class: "swatch", style: `background:${colour(`q${k}`)}` }), name),
        el("b", {}, latency(window.latency_ms[k]))))];
  },
};

const rateParts = [["ok", (w) => w.ok], ["info", (w) => w.info + w.open], ["fail", (w) => w.fail]];

/** The last window is shorter than the others; its rate is that of its own length. */
function lengthOf(index) {
  return Math.max(1e-9, Math.min(windowLength, endOfRun - index * windowLength)) || windowLength;
}

const rate = {
  draw(plot) {
    const windows = series();
    const total = (w, i) => (i === windows.length - 1 && lengthOf(i) < windowLength / 4 ? 0
      : rateParts.reduce((sum, [, pick]) => sum + pick(w), 0) / lengthOf(i));
    const most = Math.max(1, ...windows.map(total));
    const step = niceStep(most, 4);
    const top = step * Math.ceil(most / step);
    const y = (v) => plot.bottom - (v / top) * (plot.bottom - plot.margin.top - 6);
    const ticks = [];
    for (let v = step; v <= top * 1.0001; v += step) ticks.push(v);
    plot.drawValueAxis(ticks, y, (v) => `${v >= 1000 ? +(v / 1000).toPrecision(3) + "k" : +v.toPrecision(3)}/s`);
    windows.forEach((window, i) => {
      const left = plot.x(i * windowLength);
      const right = plot.x(Math.min(endOfRun, (i + 1) * windowLength));
      const gap = right - left > 4 ? 1 : 0;
      let base = 0;
      for (const [name, pick] of rateParts) {
        const height = pick(window) / lengthOf(i);
        if (!height) continue;
        plot.pen.fillStyle = colour(name);
        plot.pen.fillRect(left, y(base + height), Math.max(0.5, right - left - gap), y(base) - y(base + height));
        base += height;
      }
    });
  },

  hover(plot, x) {
    const [index, window] = windowAt(plot, x);
    if (!window) return null;
    return [windowTitle(index), ...rateParts.map(([name, pick]) =>
      el("div", { class: "tip-row" },
        el("span", {}, el("span", { class: `swatch ${name}` }), name),
        el("b", {}, `${count(pick(window) / lengthOf(index))}/s (${count(pick(window))})`)))];
  },
};

function legend(entries) {
  return el("div", { class: "legend" }, entries.map(([name, style]) =>
    el("span", {}, el("span", { class: "swatch", style: `background:var(--${style})` }), name)));
}

function sampleWords() {
  const { whole, kept } = sample;
  if (ops.length === sample.operation_count) return `All ${plural(ops.length, "operation")}.`;
  const part = (a, b, name) => (b ? `${a === b ? "all" : `${count(a)} of`} ${count(b)} ${name}` : null);
  const parts = [
    part(kept.info + kept.open, whole.info + whole.open, "of unknown outcome"),
    part(kept.fail, whole.fail, "fail"),
    part(kept.ok, whole.ok, "ok"),
  ].filter(known);
  return `A sample of ${count(ops.length)} of ${count(sample.operation_count)} operations: ${parts.join(", ")}. ` +
    "Always drawn: counter-examples and the 500 slowest; the others of an outcome have the same chance. " +
    "Rate and quantiles count every operation.";
}
