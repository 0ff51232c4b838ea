// How far the wall clock of each node was off: a line for each, a strobe as a band, dashed what erlang:system_time
// says, ◆ where the VM changed its time offset. The axis is linear up to a millisecond and logarithmic beyond, both ways.

const clocks = data.summary.clocks || null;
const clockNodes = clocks ? clocks.nodes : [];

/** Where an offset in milliseconds lies on the axis, in decades. */
function bent(ms) {
  const size = Math.abs(ms);
  return Math.sign(ms) * (size <= 1 ? size : 1 + Math.log10(size));
}

function offsetWords(nanoseconds) {
  const ms = nanoseconds / 1e6;
  const sign = ms > 0 ? "+" : "";
  if (Math.abs(ms) < 0.05) return "0 ms";
  return Math.abs(ms) < 1000 ? `${sign}${ms.toFixed(1)} ms` : `${sign}${(ms / 1000).toFixed(3)} s`;
}

/** The window that holds at a time: the last one that begins before. */
function clockWindowAt(windows, seconds) {
  let low = 0;
  let high = windows.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ns(windows[middle].start_ns) <= seconds) low = middle + 1;
    else high = middle;
  }
  return windows[low - 1];
}

const clockSkew = {
  range: (() => {
    let [low, high] = [-1, 1];
    const reach = (nanoseconds) => {
      const ms = nanoseconds / 1e6;
      const decade = 10 ** Math.ceil(Math.log10(Math.max(1, Math.abs(ms) / 1.05)));
      if (ms < -1) low = Math.min(low, -decade);
      if (ms > 1) high = Math.max(high, decade);
    };
    for (const node of clockNodes) {
      reach(node.offset_ns_min);
      reach(node.offset_ns_max);
      for (const window of node.windows) if (known(window.system_time_ns)) reach(window.system_time_ns);
    }
    return [low, high];
  })(),

  draw(plot) {
    const [low, high] = this.range.map(bent);
    const y = (ms) => plot.bottom - 4 - ((bent(ms) - low) / (high - low)) * (plot.bottom - plot.margin.top - 8);
    const ticks = [0];
    for (let ms = 1; ms <= 1e12; ms *= 10) ticks.push(ms, -ms);
    plot.drawValueAxis(ticks.filter((ms) => ms >= this.range[0] && ms <= this.range[1]), y,
      (ms) => (Math.abs(ms) < 1000 ? `${ms} ms` : `${ms / 1000} s`));
    clockNodes.forEach((node, i) => {
      const style = colour(`node${i % 6}`);
      plot.pen.strokeStyle = plot.pen.fillStyle = style;
      this.bands(plot, node, y);
      this.line(plot, node.windows, (window) => window.last_ns, y, []);
      this.line(plot, node.windows, (window) => window.system_time_ns, y, [5, 4]);
      this.marks(plot, node);
    });
  },

  bands(plot, { windows }, y) {
    plot.pen.globalAlpha = 0.3;
    windows.forEach((window, i) => {
      if (window.low_ns === window.high_ns) return;
      const next = i + 1 < windows.length ? windows[i + 1].start_ns : data.summary.end_ns;
      const left = plot.x(ns(window.start_ns));
      const right = plot.x(ns(Math.min(next, window.start_ns + clocks.window_ns)));
      const top = y(window.high_ns / 1e6);
      plot.pen.fillRect(left, top, Math.max(0.5, right - left), Math.max(0.5, y(window.low_ns / 1e6) - top));
    });
    plot.pen.globalAlpha = 1;
  },

  line(plot, windows, value, y, dash) {
    const { pen } = plot;
    pen.lineWidth = dash.length ? 1.2 : 1.8;
    pen.setLineDash(dash);
    pen.beginPath();
    let down = false;
    windows.forEach((window, i) => {
      if (!known(value(window))) {
        down = false;
        return;
      }
      const [from, level] = [plot.x(ns(window.start_ns)), y(value(window) / 1e6)];
      if (down) pen.lineTo(from, level);
      else pen.moveTo(from, level);
      pen.lineTo(plot.x(i + 1 < windows.length ? ns(windows[i + 1].start_ns) : endOfRun), level);
      down = true;
    });
    pen.stroke();
    pen.setLineDash([]);
  },

  marks(plot, { time_offset_changes: changes }) {
    for (const change of changes) {
      const [x, y] = [plot.x(ns(change.time_ns)), plot.bottom - 8];
      plot.pen.beginPath();
      for (const [dx, dy] of [[0, -5], [5, 0], [0, 5], [-5, 0]]) plot.pen.lineTo(x + dx, y + dy);
      plot.pen.fill();
    }
  },

  hover(plot, x) {
    const at = plot.at(x);
    const rows = clockNodes.map((node, i) => {
      const window = clockWindowAt(node.windows, at);
      if (!window) return null;
      const wide = window.high_ns - window.low_ns > 2e5 && at < ns(window.start_ns + clocks.window_ns);
      const wall = wide ? `${offsetWords(window.low_ns)} … ${offsetWords(window.high_ns)}` : offsetWords(window.last_ns);
      const system = known(window.system_time_ns) ? ` · system_time ${offsetWords(window.system_time_ns)}` : "";
      return el("div", { class: "tip-row" },
        el("span", {}, el("span", { class: "swatch", style: `background:${colour(`node${i % 6}`)}` }), node.node),
        el("b", {}, wall + system));
    });
    const reach = plot.at(x + 6) - at;
    const changes = clockNodes.flatMap((node) => node.time_offset_changes
      .filter((change) => Math.abs(ns(change.time_ns) - at) < reach)
      .map((change) => el("div", {}, `◆ ${node.node}: time offset changed by ${offsetWords(change.change_ns)}`)));
    return [el("div", { class: "tip-title" }, time(at)), ...rows.filter(known), ...changes];
  },
};

function clockWords() {
  const modes = [...new Set(clockNodes.map((node) => node.time_warp_mode).filter(known))];
  const most = clockNodes.map((node) => `${node.node} ${offsetWords(node.skew_ns_max).replace("+", "±")}`);
  return `how far wall clocks were off: at most ${most.join(", ")}; two of them apart by ${offsetWords(clocks.apart_ns_max).replace("+", "")}` +
    (modes.length ? `; ${modes.join(", ")}` : "");
}
