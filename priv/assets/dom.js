// Elements, numbers and the tooltip. Text reaches the page through text nodes only: values of a
// history are whatever the system under test returned, and must never become markup.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      node.setAttribute(name, value === true ? "" : value);
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

const el = (name, attributes, ...children) =>
  fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

const ns = (nanoseconds) => nanoseconds / 1e9;
const known = (value) => value !== null && value !== undefined;
const count = (n) => Math.round(n).toLocaleString("en-US");
const plural = (n, one, many) => `${count(n)} ${n === 1 ? one : many || one + "s"}`;

function time(seconds, digits = 3) {
  return seconds.toFixed(digits) + " s";
}

function latency(ms) {
  if (ms < 0.1) return `${(ms * 1000).toFixed(0)} µs`;
  if (ms < 10) return `${ms.toFixed(2)} ms`;
  if (ms < 1000) return `${ms.toFixed(0)} ms`;
  return `${(ms / 1000).toFixed(2)} s`;
}

/** The computed value of a custom property; charts are drawn with the colours of the style sheet. */
function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const tip = el("div", { class: "tip", role: "status", hidden: true });
document.body.append(tip);

function showTip(event, ...children) {
  tip.replaceChildren(...children.flat(Infinity).filter(known));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const right = event.clientX + 16 + box.width > innerWidth;
  tip.style.left = `${Math.max(4, right ? event.clientX - box.width - 14 : event.clientX + 16)}px`;
  const below = event.clientY + 16 + box.height > innerHeight;
  tip.style.top = `${Math.max(4, below ? event.clientY - box.height - 12 : event.clientY + 16)}px`;
}

function hideTip() {
  tip.hidden = true;
}

// Faults and node events, ready to draw. --------------------------------------------------------

const endOfRun = Math.max(ns(data.summary.end_ns), 0.001);

const faults = data.summary.faults.map((fault) => {
  const applied = known(fault.applied_ns) ? ns(fault.applied_ns) : null;
  const healed = known(fault.healed_ns) ? ns(fault.healed_ns) : applied === null ? null : endOfRun;
  const quiet = known(fault.heal_observed_ns) ? ns(fault.heal_observed_ns) : healed;
  const title = [`#${fault.id} ${fault.kind}`, fault.scope, fault.parameters]
    .concat(fault.port ? `port ${fault.port}` : [])
    .filter(Boolean)
    .join(" ");
  return { ...fault, applied, healed, quiet, title, colour: `fault-${fault.kind}` };
});
const activeFaults = faults.filter((fault) => fault.applied !== null);

// Faults that overlap are drawn in lanes of their own.
{
  const laneEnds = [];
  for (const fault of [...activeFaults].sort((a, b) => a.applied - b.applied)) {
    let lane = laneEnds.findIndex((end) => end <= fault.applied);
    if (lane < 0) lane = laneEnds.length;
    laneEnds[lane] = fault.quiet;
    fault.lane = lane;
  }
}

const nodeEvents = data.summary.node_events.map((event) => ({ ...event, time: ns(event.time_ns) }));
// Nodes that end because the run is over are no event worth a mark.
const teardown = data.summary.phases.find((phase) => phase.name === "teardown");
const nodedowns = nodeEvents.filter((e) => (e.event === "nodedown" || e.event === "node-exited") &&
  !(teardown && e.time_ns >= teardown.start_ns));

const statusWords = {
  observed: "effect seen",
  "no-effect": "no effect",
  failed: "failed",
  applied: "applied, effect not looked for",
  started: "began, outcome not recorded",
  "not-reached": "not reached",
};

function faultColour(fault) {
  return colour(fault.colour) || colour("fault-other");
}

function describeFault(fault) {
  const span = fault.applied === null ? "never applied"
    : `${time(fault.applied)} – ${time(fault.healed)}`;
  return [
    el("div", { class: "tip-title" },
      el("span", { class: "swatch", style: `background:${faultColour(fault)}` }), fault.title),
    el("div", {}, span, fault.boundary ? ` · ${fault.boundary}` : null),
    el("div", { class: fault.status === "observed" ? "" : "warn" },
      fault.effect || fault.reason || statusWords[fault.status]),
  ];
}

function eventWords(event) {
  if (!event.peer) return `${event.node} ${event.event.replace("node-", "")}`;
  return `${event.node} ${event.event === "nodedown" ? "lost" : "found"} ${event.peer}`;
}
