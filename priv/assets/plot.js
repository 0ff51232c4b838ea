// A chart over time: shared zoom and cursor, fault bands, axes. What is inside draws itself.
//
// Drag selects a span in every chart at once, double click or Escape shows all again, Ctrl + wheel
// zooms around the pointer, Shift + drag moves.

const view = {
  from: 0,
  to: endOfRun,
  f: null,
  key: -1,
  plots: [],
  pending: false,
  onchange: [],
  changed() {
    if (this.pending) return;
    this.pending = true;
    requestAnimationFrame(() => {
      this.pending = false;
      this.plots.forEach((plot) => plot.redraw());
      this.onchange.forEach((f) => f());
    });
  },
  zoom(from, to) {
    const least = Math.max(endOfRun * 1e-7, 2e-6);
    const length = Math.min(Math.max(to - from, least), endOfRun);
    this.from = Math.min(Math.max(0, from), endOfRun - length);
    this.to = this.from + length;
    this.changed();
  },
  zoomAround(at, factor) {
    this.zoom(at - (at - this.from) * factor, at + (this.to - at) * factor);
  },
  reset() {
    this.zoom(0, endOfRun);
  },
  cursor(seconds) {
    this.plots.forEach((plot) => plot.moveCursor(seconds));
  },
};

addEventListener("keydown", (event) => {
  if (event.target.closest && event.target.closest("input,select,textarea")) return;
  if (event.key === "Escape") view.reset();
});

function niceStep(span, most) {
  const raw = span / most;
  const decade = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((m) => m * decade).find((step) => step >= raw * 0.999999);
}

function tickText(value, step) {
  return value.toFixed(Math.max(0, Math.min(9, -Math.floor(Math.log10(step) + 1e-9))));
}

class Plot {
  /** `content` has `draw(plot)`, and optionally `range()`, `hover(plot, x, y)` and `unit`. */
  constructor(content, height, label) {
    this.content = content;
    this.height = height;
    this.canvas = el("canvas", { role: "img", "aria-label": label });
    this.line = el("div", { class: "cursor", hidden: true });
    this.brush = el("div", { class: "brush", hidden: true });
    this.root = el("div", { class: "plot", style: `height:${height}px` },
      this.canvas, this.line, this.brush);
    this.margin = { left: innerWidth < 600 ? 52 : 76, right: 12, bottom: 22 };
    this.margin.top = 8 + 15 * Math.max(1, 1 + Math.max(-1, ...activeFaults.map((f) => f.lane)));
    this.listen();
    view.plots.push(this);
    new ResizeObserver(() => requestAnimationFrame(() => this.redraw())).observe(this.root);
  }

  x(seconds) {
    return this.margin.left + ((seconds - view.from) / (view.to - view.from)) * this.inner;
  }

  at(x) {
    return view.from + ((x - this.margin.left) / this.inner) * (view.to - view.from);
  }

  redraw() {
    const width = this.root.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.width = width;
    this.inner = Math.max(10, width - this.margin.left - this.margin.right);
    this.bottom = this.height - this.margin.bottom;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(this.height * ratio);
    const pen = (this.pen = this.canvas.getContext("2d"));
    pen.scale(ratio, ratio);
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    this.drawBands();
    this.drawTimeAxis();
    pen.save();
    pen.beginPath();
    pen.rect(this.margin.left, 0, this.inner, this.bottom);
    pen.clip();
    this.content.draw(this);
    pen.restore();
    this.drawDowns();
    if (this.content.overlay) this.content.overlay(this);
  }

  drawBands() {
    const { pen, margin } = this;
    const right = this.width - margin.right;
    const span = (a, b) => [Math.max(margin.left, this.x(a)), Math.min(right, this.x(b))];
    for (const fault of activeFaults) {
      if (fault.quiet < view.from || fault.applied > view.to) continue;
      const [a, b] = span(fault.applied, fault.healed);
      const top = 4 + fault.lane * 15;
      pen.fillStyle = faultColour(fault);
      pen.globalAlpha = 0.1;
      pen.fillRect(a, margin.top, Math.max(1, b - a), this.bottom - margin.top);
      if (fault.quiet > fault.healed) {
        const [c, d] = span(fault.healed, fault.quiet);
        pen.globalAlpha = 0.05;
        pen.fillRect(c, margin.top, d - c, this.bottom - margin.top);
      }
      pen.globalAlpha = fault.status === "observed" ? 0.85 : 0.35;
      pen.fillRect(a, top, Math.max(2, b - a), 13);
      pen.globalAlpha = 1;
      const label = [`#${fault.id} ${fault.kind} ${fault.scope}`, `#${fault.id} ${fault.kind}`, `#${fault.id}`]
        .find((text) => pen.measureText(text).width < b - a - 6);
      if (label) {
        pen.fillStyle = fault.status === "observed" ? "#fff" : colour("text");
        pen.textAlign = "left";
        pen.fillText(label, a + 4, top + 7);
      }
    }
  }

  drawTimeAxis() {
    const { pen, margin } = this;
    const step = niceStep(view.to - view.from, Math.max(2, this.inner / 90));
    pen.textAlign = "center";
    for (let i = Math.ceil(view.from / step); i * step <= view.to; i++) {
      const x = this.x(i * step);
      pen.fillStyle = colour("grid");
      pen.fillRect(Math.round(x), margin.top, 1, this.bottom - margin.top);
      pen.fillStyle = colour("muted");
      pen.fillText(tickText(i * step, step) + (i === Math.ceil(view.from / step) ? " s" : ""),
        Math.max(x, margin.left + 6), this.bottom + 12);
    }
    pen.fillStyle = colour("line");
    pen.fillRect(margin.left, this.bottom, this.inner, 1);
  }

  drawDowns() {
    const { pen } = this;
    pen.fillStyle = colour("invalid");
    for (const event of nodedowns) {
      const x = this.x(event.time);
      if (x < this.margin.left || x > this.width - this.margin.right) continue;
      pen.beginPath();
      pen.moveTo(x, this.bottom - 1);
      pen.lineTo(x - 4, this.bottom - 8);
      pen.lineTo(x + 4, this.bottom - 8);
      pen.fill();
    }
  }

  /** Horizontal grid with labels at the given values. */
  drawValueAxis(values, y, label) {
    const { pen, margin } = this;
    pen.restore();
    pen.save();
    pen.textAlign = "right";
    for (const value of values) {
      pen.fillStyle = colour("grid");
      pen.fillRect(margin.left, Math.round(y(value)), this.inner, 1);
      pen.fillStyle = colour("muted");
      pen.fillText(label(value), margin.left - 7, y(value));
    }
    pen.beginPath();
    pen.rect(margin.left, 0, this.inner, this.bottom);
    pen.clip();
  }

  moveCursor(seconds) {
    const inside = known(seconds) && seconds >= view.from && seconds <= view.to;
    this.line.hidden = !inside;
    if (inside) this.line.style.transform = `translateX(${this.x(seconds)}px)`;
  }

  listen() {
    const place = (event) => {
      const box = this.root.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    let drag = null;
    this.root.addEventListener("pointerdown", (event) => {
      const [x] = place(event);
      if (event.button !== 0 || event.pointerType === "touch" || x < this.margin.left) return;
      drag = { x, from: view.from, to: view.to, move: event.shiftKey };
      this.root.setPointerCapture(event.pointerId);
    });
    this.root.addEventListener("pointermove", (event) => {
      const [x, y] = place(event);
      if (drag && drag.move) {
        const moved = ((drag.x - x) / this.inner) * (drag.to - drag.from);
        view.zoom(drag.from + moved, drag.to + moved);
      } else if (drag) {
        const [a, b] = [Math.min(drag.x, x), Math.max(drag.x, x)];
        this.brush.hidden = b - a < 4;
        this.brush.style.left = `${Math.max(a, this.margin.left)}px`;
        this.brush.style.width = `${b - Math.max(a, this.margin.left)}px`;
      }
      view.cursor(this.at(x));
      this.hover(event, x, y);
    });
    this.root.addEventListener("pointerup", (event) => {
      const [x] = place(event);
      if (drag && !drag.move && Math.abs(x - drag.x) > 4) {
        view.zoom(this.at(Math.min(x, drag.x)), this.at(Math.max(x, drag.x)));
      }
      drag = null;
      this.brush.hidden = true;
    });
    this.root.addEventListener("pointerleave", () => {
      view.cursor(null);
      hideTip();
    });
    this.root.addEventListener("dblclick", () => view.reset());
    this.root.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      view.zoomAround(this.at(place(event)[0]), Math.exp(event.deltaY * 0.002));
    }, { passive: false });
  }

  hover(event, x, y) {
    if (x < this.margin.left || x > this.width - this.margin.right) return hideTip();
    const seconds = this.at(x);
    const around = activeFaults.filter((f) => f.applied <= seconds && seconds <= f.quiet);
    const near = nodedowns.filter((e) => Math.abs(this.x(e.time) - x) < 5).slice(0, 6);
    const own = this.content.hover ? this.content.hover(this, x, y) : null;
    if (!own && !around.length && !near.length) return hideTip();
    showTip(event, own || [el("div", { class: "tip-title" }, time(seconds))],
      near.map((e) => el("div", { class: "tip-down" },
        `▼ ${eventWords(e)} at ${time(e.time)}${e.reason ? ` (${e.reason})` : ""}`)),
      around.map((fault) => el("div", { class: "tip-fault" }, describeFault(fault))));
  }
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.changed());
