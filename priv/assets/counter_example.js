// A counter-example, drawn: a row for each process, a bar for each operation, faults as bands, what
// nodes saw as marks. By default the time axis counts moments instead of seconds (every start, end,
// fault and event is one step), since an anomaly is about order, and operations of a millisecond
// that lie seconds apart cannot be seen to scale.

const rowHeight = 34;
const eventHeight = 17;

function moments(shown, faultsHere, eventsHere) {
  const all = new Set();
  for (const op of shown) {
    all.add(op.start_ns);
    if (known(op.end_ns) && op.type !== "info") all.add(op.end_ns);
  }
  for (const fault of faultsHere) {
    all.add(fault.applied_ns);
    if (known(fault.healed_ns)) all.add(fault.healed_ns);
  }
  for (const event of eventsHere) all.add(event.time_ns);
  return [...all].sort((a, b) => a - b);
}

/** Maps nanoseconds to steps, straight lines between moments. */
function rank(times, at) {
  let low = 0;
  let high = times.length - 1;
  if (at <= times[0]) return 0;
  if (at >= times[high]) return high;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] <= at) low = middle;
    else high = middle;
  }
  return low + (at - times[low]) / (times[high] - times[low]);
}

function outcomeOf(op) {
  return op.type === null || op.type === undefined ? "n" : op.type[0];
}

function wordsOf(op) {
  const argument = op.argument === "nil" ? "" : ` ${op.argument}`;
  if (op.type === "ok") {
    const reads = ["read", "get", "peek", "dequeue", "contains"].includes(op.f);
    const same = op.result === null || (op.result === op.argument && !reads);
    return `${op.f}${argument}${same ? "" : ` → ${op.result}`}`;
  }
  return `${op.f}${argument} → ${op.type || "no answer"}${op.error ? ` ${op.error}` : ""}`;
}

const measure = el("canvas").getContext("2d");
measure.font = "600 12px system-ui, sans-serif";
const textWidth = (text) => measure.measureText(text).width;
const shorten = (text, most = 34) => (text.length > most ? text.slice(0, most - 1) + "…" : text);

function drawExample(example, options, width) {
  const shown = options.context
    ? [...example.ops, ...example.context].sort((a, b) => a.start_ns - b.start_ns)
    : example.ops;
  const own = new Set(example.ops.map((op) => op.position));
  const faultsHere = activeFaults.filter((f) => example.faults.includes(f.id));
  const eventsHere = example.node_events.map((i) => nodeEvents[i])
    .filter((e) => e && e.event !== "nodeup").slice(0, 8);
  const times = moments(shown, faultsHere, eventsHere);
  const rows = [...new Map(shown.map((op) => [`${op.node || ""} ${op.process}`, op])).values()]
    .sort((a, b) => (a.node || "").localeCompare(b.node || "", "en", { numeric: true }) ||
      a.process.localeCompare(b.process, "en", { numeric: true }));
  const rowOf = new Map(rows.map((op, row) => [`${op.node || ""} ${op.process}`, row]));
  const labelWidth = 24 + Math.max(...rows.map((op) => textWidth(labelOf(op))), 70);
  const scale = scaleFor(shown, own, times, options, width - labelWidth - 24);
  const x = (at) => labelWidth + 8 + scale.x(at);
  const total = Math.max(width, x(times[times.length - 1]) + 40);
  const head = 24 + 18 * faultsHere.length + eventHeight * eventsHere.length + 6;
  const height = head + rows.length * rowHeight + 30;
  const art = svg("svg", { width: total, height, viewBox: `0 0 ${total} ${height}`, role: "img",
    "aria-label": `${example.name}: ${shown.length} operations on ${rows.length} processes` });
  faultsHere.forEach((fault, i) => art.append(...faultBand(fault, i, x, times, labelWidth, total, height)));
  rows.forEach((op, row) => art.append(
    svg("line", { class: "row", x1: 0, x2: total, y1: head + (row + 1) * rowHeight, y2: head + (row + 1) * rowHeight }),
    svg("text", { class: "row-label", x: 8, y: head + (row + 0.5) * rowHeight + 4 }, labelOf(op))));
  eventsHere.forEach((event, i) => art.append(
    ...eventMark(event, x(event.time_ns), 24 + 18 * faultsHere.length + eventHeight * i, head, rows.length, total)));
  for (const op of shown) {
    art.append(bar(op, own.has(op.position), x, times, head + rowOf.get(`${op.node || ""} ${op.process}`) * rowHeight, total));
  }
  art.append(...axis(example, times, x, options, height, labelWidth));
  return art;
}

function labelOf(op) {
  return `${op.node ? shorten(op.node, 24) + " · " : ""}process ${op.process}`;
}

function scaleFor(shown, own, times, options, room) {
  const first = times[0];
  const last = Math.max(times[times.length - 1], first + 1);
  if (options.scale === "time") return { x: (at) => ((at - first) / (last - first)) * (room - 20) };
  let step = Math.max(18, room / Math.max(1, times.length + 0.5));
  for (const op of shown) {
    if (!own.has(op.position)) continue;
    const end = known(op.end_ns) && op.type !== "info" ? rank(times, op.end_ns) : times.length - 0.4;
    const steps = Math.max(0.5, end - rank(times, op.start_ns));
    step = Math.max(step, Math.min(260, (textWidth(shorten(wordsOf(op))) + 18) / steps));
  }
  return { x: (at) => rank(times, at) * step };
}

function faultBand(fault, i, x, times, left, total, height) {
  const from = Math.max(left, x(fault.applied_ns));
  const to = known(fault.healed_ns) ? x(fault.healed_ns) : total;
  const c = faultColour(fault);
  const label = shorten(`${fault.title}${fault.boundary ? ` · ${fault.boundary}` : ""}`, 90);
  const hover = { onpointermove: (e) => showTip(e, describeFault(fault)), onpointerleave: hideTip };
  return [
    svg("rect", { x: from, y: 4 + 18 * i, width: Math.max(2, to - from), height: height - 30 - 18 * i, fill: c, "fill-opacity": 0.09 }),
    svg("rect", { x: from, y: 4 + 18 * i, width: Math.max(2, to - from), height: 16, rx: 3, fill: c, ...hover }),
    svg("text", { class: "band-label", x: from + 6, y: 16 + 18 * i, ...hover }, label),
  ];
}

function eventMark(event, x, y, head, rows, total) {
  const words = `▼ ${shorten(eventWords(event), 50)}${event.reason ? ` · ${shorten(event.reason, 50)}` : ""} · ${time(event.time)}`;
  const flip = x + textWidth(words) + 8 > total && x > total / 2;
  return [
    svg("line", { class: "down", x1: x, x2: x, y1: y + 12, y2: head + rows * rowHeight }),
    svg("text", { class: "down-label", x: flip ? x + 4 : x - 4, y: y + 9, "text-anchor": flip ? "end" : "start" }, words),
  ];
}

function bar(op, own, x, times, y, total) {
  const open = !known(op.end_ns) || op.type === "info";
  const from = x(op.start_ns);
  const to = open ? total - 4 : Math.max(from + 3, x(op.end_ns));
  const kind = outcomeColours[outcomeOf(op)];
  const words = wordsOf(op);
  const room = to - from - 10;
  const label = textWidth(words) <= room ? words
    : textWidth(shorten(words)) <= room ? shorten(words) : room > 26 ? shorten(words, Math.floor(room / 7.5)) : "";
  const tip = [
    el("div", { class: "tip-title" }, el("span", { class: `swatch ${kind}` }), words),
    el("div", {}, labelOf(op)),
    el("div", {}, `${time(ns(op.start_ns), 6)} – ${known(op.end_ns) ? time(ns(op.end_ns), 6) : "never answered"}`),
    open ? el("div", { class: "warn" }, "may take effect at any time after its start, or never") : null,
    el("div", { class: "muted" }, `record ${op.position}`),
  ];
  return svg("g", { class: own ? "op own" : "op", onpointermove: (e) => showTip(e, tip), onpointerleave: hideTip },
    svg("rect", { class: `${kind}${open ? " open" : ""}`, x: from, y: y + 5, width: Math.max(3, to - from), height: rowHeight - 10, rx: 4 }),
    label ? svg("text", { class: kind, x: from + 7, y: y + rowHeight / 2 + 4 }, label) : null);
}

function axis(example, times, x, options, height, left) {
  const marks = [];
  let last = -Infinity;
  const wanted = options.scale === "time" ? times : times.filter((at) => known(at));
  for (const at of wanted) {
    if (x(at) - last < 78) continue;
    last = x(at);
    marks.push(svg("line", { class: "tick", x1: last, x2: last, y1: height - 26, y2: height - 20 }),
      svg("text", { class: "tick-label", x: Math.max(left, last), y: height - 8 }, time(ns(at), 4)));
  }
  return marks;
}

// As an image: whatever stands in it stays a picture.
function drawingOf(drawing) {
  if (!known(drawing)) return null;
  const src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing)}`;
  return el("div", { class: "scroll" }, el("img", { class: "drawing", src, alt: "the counter-example as a drawing" }));
}

function exampleTable(example) {
  const cell = (text, cls) => el("td", { class: cls }, text);
  return el("div", { class: "scroll" }, el("table", {},
    el("thead", {}, el("tr", {}, ["record", "from", "to", "process", "node", "operation"].map((h) => el("th", {}, h)))),
    el("tbody", {}, example.ops.map((op) => el("tr", {},
      cell(String(op.position), "number"), cell(time(ns(op.start_ns), 6), "number"),
      cell(known(op.end_ns) ? time(ns(op.end_ns), 6) : "never", "number"),
      cell(op.process, "number"), cell(op.node || "–"),
      el("td", { class: "mono" }, el("span", { class: `swatch ${outcomeColours[outcomeOf(op)]}` }), wordsOf(op)))))));
}

function counterExamples() {
  const examples = data.counter_examples;
  if (!examples.length) return null;
  const options = { scale: "order", context: false };
  let example = examples[0];
  const board = el("div", { class: "board" });
  const words = el("div");
  const toggles = el("span", { class: "field-group" });

  const redraw = () => {
    board.replaceChildren();
    if (example.ops.length) board.append(drawExample(example, options, Math.max(320, words.clientWidth - 2)));
    // An anomaly shows at its end.
    if (options.context) board.scrollLeft = board.scrollWidth;
  };
  const pick = (index) => {
    example = examples[index];
    options.context = false;
    toggles.replaceChildren(...controls());
    words.replaceChildren(...below());
    redraw();
  };
  const controls = () => [
    example.ops.length ? el("label", { class: "field" }, "axis", el("select",
      { onchange: (e) => { options.scale = e.target.value; redraw(); } },
      el("option", { value: "order", selected: options.scale === "order" }, "order of moments"),
      el("option", { value: "time", selected: options.scale === "time" }, "seconds"))) : null,
    example.context.length ? el("label", { class: "field" },
      el("input", { type: "checkbox", onchange: (e) => { options.context = e.target.checked; redraw(); } }),
      `${example.context_omitted ? "the last " : ""}${plural(example.context.length, "other operation")} ` +
        (example.keyed ? "on this key" : "at this time")) : null,
    example.ops.length ? el("button", { onclick: () => {
      const pad = (example.end_ns - example.start_ns) / 1e9 * 0.1 + 0.001;
      view.zoom(ns(example.start_ns) - pad, ns(example.end_ns) + pad);
      document.getElementById("timeline").scrollIntoView({ behavior: "smooth" });
    } }, "show in the timeline") : null,
  ].filter(known);
  const below = () => [
    drawingOf(data.drawings[examples.indexOf(example)]),
    el("pre", { class: "words" }, example.text),
    example.ops_omitted ? el("p", { class: "muted" }, `${plural(example.ops_omitted, "further operation")} of this counter-example not drawn.`) : null,
    example.ops.length ? exampleTable(example) : null,
  ].filter(known);

  const names = examples.map((e, i) => el("option", { value: i },
    `${e.name}${known(e.key) ? ` · ${e.keyed ? "key" : "element"} ${e.key}` : ""} · ` +
    `${plural(e.ops.length + e.ops_omitted, "operation")} · ${e.checker}`));
  const section = el("section", { id: "counter-example", class: "card" },
    el("h2", {}, "Counter-example"),
    el("div", { class: "tools" },
      examples.length > 1
        ? el("label", { class: "field" }, "anomaly", el("select", { onchange: (e) => pick(+e.target.value) }, names))
        : el("strong", {}, names[0].textContent),
      toggles),
    board, words);
  toggles.append(...controls());
  words.append(...below());
  // Measuring needs the section to be in the page. Drawing changes the height, so only a new width counts.
  let drawnWidth = 0;
  new ResizeObserver(() => requestAnimationFrame(() => {
    if (words.clientWidth === drawnWidth) return;
    drawnWidth = words.clientWidth;
    redraw();
  })).observe(section);
  return section;
}
