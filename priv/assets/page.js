// The page, put together.

const verdict = data.result.verdict;
const run = data.info;
const summary = data.summary;

function copyButton(text) {
  const button = el("button", { class: "copy", onclick: async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Pages opened from disk may not use the clipboard interface; the old way still works there.
      const area = el("textarea", { class: "offscreen" }, text);
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "copied";
    setTimeout(() => (button.textContent = "copy"), 1500);
  } }, "copy");
  return button;
}

function command(text) {
  return el("div", { class: "command" }, el("code", {}, text), copyButton(text));
}

function banner() {
  const seen = faults.filter((f) => f.status === "observed").length;
  const facts = [
    ["operations", count(summary.outcomes.ok + summary.outcomes.fail + summary.outcomes.info + summary.outcomes.open)],
    ["ok / fail / info", [summary.outcomes.ok, summary.outcomes.fail, summary.outcomes.info + summary.outcomes.open].map(count).join(" / ")],
    ["faults with effect", faults.length ? `${seen} of ${faults.length}` : "none asked"],
    ["nodes", run.nodes.join(" ") || "–"],
    ["length", time(Math.max(ns(run.duration_ns), endOfRun), 1)],
    ["seed", data.seed],
  ];
  return el("header", { class: `banner ${verdict}` },
    el("div", { class: "banner-head" },
      el("span", { class: "verdict" }, verdict),
      el("div", {},
        el("h1", {}, run.name || "test"),
        el("div", { class: "muted" }, [run.workload && `workload ${run.workload}`, run.placement && `operations in ${run.placement === "node" ? "the nodes" : "client VMs"}`, data.started, run.run_id].filter(Boolean).join(" · ")))),
    el("p", { class: "reason" }, data.result.reason),
    run.interrupted ? el("p", { class: "alert" }, `Interrupted: ${run.interrupted}`) : null,
    run.torn ? el("p", { class: "alert" }, `The history is torn: ${run.torn}`) : null,
    el("dl", { class: "facts" }, facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    run.replay_command ? command(run.replay_command) : null);
}

// How exact the faults of each plane were --------------------------------------------------------------

function exactness(planes) {
  const figures = [["applied", "applied_late_ms"], ["effect seen", "observed_after_ms"], ["healed", "healed_late_ms"],
    ["heal seen", "heal_observed_after_ms"]];
  const cell = (late) => el("td", { class: "number", title: late ? `longest ${latency(late.max)}, of ${plural(late.count, "fault")}` : "" },
    late ? `${latency(late.p50)} / ${latency(late.p99)}` : "–");
  return [el("h3", {}, "How long after their time"),
    el("table", { class: "narrow" },
      el("thead", {}, el("tr", {}, ["plane, p50 / p99", ...figures.map(([head]) => head)].map((h) => el("th", {}, h)))),
      el("tbody", {}, planes.map((plane) => el("tr", {}, el("td", {}, plane.plane), figures.map(([, key]) => cell(plane[key]))))))];
}

// What the verdict means here -----------------------------------------------------------------------

function meaning() {
  const due = faults.filter((f) => f.status !== "not-reached");
  const without = due.filter((f) => f.status === "no-effect" || f.status === "failed");
  const later = faults.length - due.length;
  const claims = {
    valid: "Every checker below accepts this history. That is a statement about these operations under these faults, not a proof about the system.",
    invalid: "At least one checker found operations that contradict the property it stands for. The counter-example shows them, with the faults and the node events around them.",
    unknown: "This run is no pass. Something could not be decided, or there was too little to decide from; the checkers below say what.",
  };
  const kinds = new Map();
  for (const fault of faults) {
    const row = kinds.get(fault.kind) || { asked: 0, seen: 0, without: 0, seconds: 0 };
    row.asked += 1;
    if (fault.status === "observed") row.seen += 1;
    if (fault.status === "no-effect" || fault.status === "failed") row.without += 1;
    if (fault.applied !== null) row.seconds += fault.healed - fault.applied;
    kinds.set(fault.kind, row);
  }
  return el("section", { class: "card" },
    el("h2", {}, verdict === "valid" ? "What this pass means" : "What this verdict means"),
    el("p", {}, claims[verdict]),
    el("div", { class: "columns" }, el("div", {},
    faults.length
      ? el("table", { class: "narrow" },
        el("thead", {}, el("tr", {}, ["fault", "asked", "effect seen", "without effect", "active"].map((h) => el("th", {}, h)))),
        el("tbody", {}, [...kinds].map(([kind, row]) => el("tr", {},
          el("td", {}, el("span", { class: "swatch", style: `background:var(--fault-${/^[a-z-]+$/.test(kind) ? kind : "other"}, var(--fault-other))` }), kind),
          el("td", { class: "number" }, row.asked), el("td", { class: "number" }, row.seen),
          el("td", { class: `number${row.without ? " warn" : ""}` }, row.without),
          el("td", { class: "number" }, time(row.seconds, 1))))))
      : el("p", { class: "warn" }, "No faults were part of this run."),
    summary.planes.length ? exactness(summary.planes) : null,
    without.length ? [el("h3", {}, "Faults without effect"), el("ul", {}, without.slice(0, 12).map((f) =>
      el("li", {}, el("b", {}, f.title), ` – ${statusWords[f.status]}${f.reason ? `: ${f.reason}` : ""}`)))] : null,
    later ? el("p", { class: "muted" }, `${plural(later, "fault")} of the schedule not reached before the end.`) : null),
    el("div", {}, el("h3", {}, "Circumstances"),
    el("ul", { class: "plain" },
      el("li", {}, el("code", {}, "prevent_overlapping_partitions"), run.prevent_overlapping_partitions
        ? " is on: global may disconnect more nodes than a partition asks for; the table of faults tells where it did."
        : " is off: only the links of a fault are cut."),
      run.boundaries.map((b) => el("li", {}, el("b", {}, b.name),
        `: certainly below ${latency(b.certainly_below_ms)}, certainly above ${latency(b.certainly_above_ms)} (${b.source})`)),
      run.notes.map((note) => el("li", {}, note)),
      run.capabilities.map((note) => el("li", {}, note))))));
}

// Checkers -------------------------------------------------------------------------------------------

function badge(word) {
  return el("span", { class: `badge ${word}` }, word);
}

function checkerBody(part) {
  const counts = Object.entries(part.counts || {});
  return [
    counts.length ? el("div", { class: "counts" }, counts.map(([name, n]) => el("span", {}, el("b", {}, count(n)), ` ${name}`))) : null,
    (part.anomalies || []).map((a) => el("div", { class: "anomaly" },
      el("b", {}, a.name), known(a.key) ? ` · ${a.key}` : "", el("pre", { class: "words" }, a.text))),
    known(part.details) ? el("pre", { class: "words" }, typeof part.details === "string" ? part.details : JSON.stringify(part.details, null, 2)) : null,
    (part.parts || []).map((inner) => checker(inner, false)),
  ].flat().filter(known);
}

function checker(part, open) {
  const body = checkerBody(part);
  const head = [badge(part.verdict), el("b", {}, part.checker), el("span", { class: "why" }, part.reason),
    el("span", { class: "muted number" }, part.elapsed_ms ? latency(part.elapsed_ms) : "")];
  return body.length
    ? el("details", { class: "checker", open }, el("summary", {}, head), body)
    : el("div", { class: "checker line" }, head);
}

function checkers() {
  const parts = (data.result.parts || []).length ? data.result.parts : [data.result];
  return el("section", { class: "card" }, el("h2", {}, "Checkers"),
    parts.map((part) => checker(part, part.verdict !== "valid" && !data.counter_examples.length)));
}

// Charts ---------------------------------------------------------------------------------------------

function toolbar() {
  const span = el("span", { class: "muted span" });
  const chips = summary.series.map((one) => {
    const f = known(one.f) ? one.f : null;
    return el("button", { class: "chip", "aria-pressed": f === view.f, onclick: () => { view.f = f; view.changed(); } }, f === null ? "all" : f);
  });
  view.onchange.push(() => {
    span.textContent = view.to - view.from >= endOfRun * 0.999 ? `${time(endOfRun, 1)}` : `${time(view.from)} – ${time(view.to)}`;
    chips.forEach((chip, i) => chip.setAttribute("aria-pressed",
      (known(summary.series[i].f) ? summary.series[i].f : null) === view.f));
  });
  const middle = () => (view.from + view.to) / 2;
  return el("div", { class: "tools sticky" },
    el("span", { class: "chips" }, chips.length > 2 ? chips : null),
    keySelect("key"),
    el("span", { class: "grow" }),
    span,
    el("button", { title: "closer", "aria-label": "closer", onclick: () => view.zoomAround(middle(), 0.5) }, "+"),
    el("button", { title: "further", "aria-label": "further", onclick: () => view.zoomAround(middle(), 2) }, "−"),
    el("button", { onclick: () => view.reset() }, "whole run"));
}

const typeLegend = [["ok", "ok"], ["info", "info"], ["fail", "fail"]];

function chart(title, about, entries, plot) {
  return el("figure", {}, el("figcaption", {}, title ? el("b", {}, title) : null, el("span", { class: "muted" }, about), legend(entries)), plot.root || plot);
}

function charts() {
  const timeline = new Timeline(460);
  return el("section", { class: "card", id: "charts" },
    el("h2", {}, "Over time"),
    el("p", { class: "muted" }, "Bands are faults, from application to heal; ▼ marks a nodedown or the end of a node. " +
      "Drag to zoom all charts, double click for the whole run, Ctrl + wheel to zoom, Shift + drag to move."),
    toolbar(),
    chart("Latency", `${ops.length === sample.operation_count ? "each operation" : "a sample of operations"}, by invocation`, typeLegend, new Plot(scatter, 250, "latency of operations over time")),
    chart("Quantiles", `ok operations, windows of ${+windowLength.toPrecision(3)} s, all keys`, quantileNames.map((n, k) => [n, `q${k}`]), new Plot(quantiles, 190, "latency quantiles over time")),
    chart("Rate", `operations invoked a second, all keys`, typeLegend, new Plot(rate, 170, "rate of operations over time")),
    clocks ? chart("Clocks", clockWords(), clockNodes.map((node, i) => [node.node, `node${i % 6}`]), new Plot(clockSkew, 220, "how far wall clocks were off over time")) : null,
    el("div", { id: "timeline" }, chart("Timeline", "a lane for each client thread", typeLegend, timeline.root)),
    el("p", { class: "muted" }, sampleWords(), sample.values_cut ? " Some values are left out." : ""));
}

function functionsTable() {
  return el("section", { class: "card" }, el("h2", {}, "Operations"),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["function", "ok", "fail", "info", "open", "mean", "p50", "p95", "p99", "p99.9", "max"].map((h) => el("th", {}, h)))),
      el("tbody", {}, summary.functions.map((f) => el("tr", {},
        el("td", { class: "mono" }, f.f),
        [f.ok, f.fail, f.info, f.open].map((n) => el("td", { class: "number" }, count(n))),
        ["mean", "p50", "p95", "p99", "p999", "max"].map((q) => el("td", { class: "number" }, f.latency ? latency(f.latency[`${q}_ms`]) : "–"))))))),
    summary.errors.length ? el("details", {}, el("summary", {}, `Errors: ${plural(summary.errors.length, "kind")}`),
      el("div", { class: "scroll" }, el("table", {}, el("tbody", {}, summary.errors.map((e) => el("tr", {},
        el("td", { class: "number" }, count(e.count)), el("td", {}, el("span", { class: `swatch ${e.type}` }), e.type),
        el("td", { class: "mono" }, e.f), el("td", { class: "mono" }, e.error))))))) : null);
}

// Faults and nodes -----------------------------------------------------------------------------------

function pairsText(pairs) {
  return pairs.map(([a, b]) => `${a}→${b}`).join(" ");
}

/** What nodes() said, against what the fault asked for. */
function connectivity(fault) {
  return fault.connectivity.filter((c) => c.requested.length || c.effective.length).map((c) => {
    const asked = new Set(c.requested.map(String));
    const lost = new Set(c.effective.map(String));
    const wider = c.effective.filter((pair) => !asked.has(String(pair)));
    const kept = c.requested.filter((pair) => !lost.has(String(pair)));
    const words = !c.requested.length ? `after the heal still not listed: ${pairsText(c.effective)}`
      : !c.effective.length ? "every node still listed every other"
      : [wider.length ? `wider than asked: ${pairsText(wider)}` : null,
        kept.length ? `still listed: ${pairsText(kept)}` : null].filter(known).join("; ") ||
        "exactly the links asked for were down";
    return el("div", { class: wider.length && c.requested.length ? "warn" : "muted", title: `asked: ${pairsText(c.requested)}` },
      `nodes() at ${time(ns(c.time_ns))}: ${words}`);
  });
}

function faultRow(fault) {
  const at = (value) => (known(value) ? time(ns(value)) : "–");
  const took = (from, to) => (known(from) && known(to) ? ` +${latency((to - from) / 1e6)}` : "");
  return el("tr", { class: "clickable", onclick: () => {
    if (fault.applied === null) return;
    const pad = (fault.quiet - fault.applied) * 0.4 + 0.05;
    view.zoom(fault.applied - pad, fault.quiet + pad);
    document.getElementById("charts").scrollIntoView({ behavior: "smooth" });
  } },
  el("td", { class: "number" }, fault.id),
  el("td", {}, el("span", { class: "swatch", style: `background:${faultColour(fault)}` }), el("b", {}, fault.kind), " ", fault.scope,
    el("div", { class: "muted" }, [fault.target, fault.parameters, fault.port && `port ${fault.port}`, fault.boundary].filter(Boolean).join(" · "))),
  el("td", { class: "number" }, at(fault.requested_start_ns), el("div", { class: "muted" }, `for ${latency(fault.requested_duration_ns / 1e6)}`)),
  el("td", { class: "number" }, at(fault.applied_ns), el("div", { class: fault.late_us > 2000 ? "warn" : "muted" }, known(fault.late_us) ? `${latency(fault.late_us / 1000)} late` : "")),
  el("td", {}, el("span", { class: `badge ${fault.status}` }, statusWords[fault.status]), known(fault.observed_ns) ? el("span", { class: "muted" }, took(fault.applied_ns, fault.observed_ns)) : null,
    el("div", {}, fault.effect || fault.reason || ""), connectivity(fault)),
  el("td", { class: "number" }, at(fault.healed_ns), el("div", { class: "muted", title: fault.heal_effect || "" }, known(fault.heal_observed_ns) ? `seen${took(fault.healed_ns, fault.heal_observed_ns)}` : known(fault.healed_ns) ? "heal not seen" : "")));
}

function faultsTable() {
  if (!faults.length) return null;
  return el("section", { class: "card" }, el("h2", {}, "Faults"),
    el("p", { class: "muted" }, "Asked, applied, seen, healed. Click a row to zoom the charts to it."),
    el("div", { class: "scroll" }, el("table", {},
      el("thead", {}, el("tr", {}, ["#", "fault", "asked", "applied", "seen", "healed"].map((h) => el("th", {}, h)))),
      el("tbody", {}, faults.map(faultRow)))),
    data.faults_omitted ? el("p", { class: "muted" }, `${plural(data.faults_omitted, "fault")} more in results.json.`) : null);
}

function nodesTable() {
  const shown = 100;
  const rows = (events) => events.map((event) => el("tr", {},
    el("td", { class: "number" }, time(event.time)),
    el("td", {}, event.node),
    el("td", {}, el("span", { class: `badge ${event.event}` }, event.event), " ", event.peer || ""),
    el("td", { class: "mono" }, event.reason || ""),
    el("td", { class: "number" }, event.event === "nodedown" ? (known(event.until_ns) ? latency((event.until_ns - event.time_ns) / 1e6) : "to the end") : ""),
    el("td", { class: "muted" }, activeFaults.filter((f) => f.applied <= event.time && event.time <= f.quiet).map((f) => `#${f.id} ${f.kind}`).join(", "))));
  const body = el("tbody", {}, rows(nodeEvents.slice(0, shown)));
  const rest = nodeEvents.length - shown;
  return el("section", { class: "card" }, el("h2", {}, "Nodes"),
    el("div", { class: "nodes" }, run.nodes.map((node) => {
      const counts = (summary.observations.find((o) => o.node === node) || { counts: {} }).counts;
      const downs = nodeEvents.filter((e) => e.event === "nodedown" && e.node === node).length;
      return el("div", { class: "node" }, el("b", {}, node),
        el("a", { href: `nodes/${encodeURIComponent(node)}/output.log` }, "output.log"),
        el("span", { class: "muted" }, [`saw ${plural(downs, "nodedown")}`, ...Object.entries(counts).map(([name, n]) => `${name} ${count(n)}`)].join(" · ")));
    })),
    nodeEvents.length ? el("div", { class: "scroll tall" }, el("table", {},
      el("thead", {}, el("tr", {}, ["time", "seen by", "event", "reason", "down for", "during"].map((h) => el("th", {}, h)))), body)) : el("p", { class: "muted" }, "No node events in this history."),
    rest > 0 ? el("button", { onclick: (event) => { body.append(...rows(nodeEvents.slice(shown))); event.target.remove(); } }, `${plural(rest, "more event")}`) : null,
    summary.node_events_omitted ? el("p", { class: "muted" }, `${plural(summary.node_events_omitted, "event")} more in history.edn.`) : null);
}

function phasesBar() {
  if (!summary.phases.length) return null;
  return el("div", { class: "phases" }, summary.phases.map((phase) => {
    const length = ns(phase.end_ns - phase.start_ns);
    return el("div", { style: `flex:${Math.max(length, endOfRun * 0.02)} 1 0`, title: `${phase.name}: ${time(ns(phase.start_ns))} for ${time(length)}` },
      el("b", {}, phase.name), " ", time(length, 1));
  }));
}

function testedWords(tested) {
  const git = tested.git ? [`git ${tested.git.revision}${tested.git.changed_files ? `, ${tested.git.changed_files} changed files` : ", clean"}`] : [];
  const nodes = Object.entries(tested.nodes).map(([node, code]) => `${node}: ${Object.entries(code.applications).map(([name, digest]) => `${name} ${digest.slice(0, 12)}`).join(", ") || "no code of its own"}`);
  return git.concat(nodes).join(" · ");
}

function specification() {
  const link = (name) => el("a", { href: name }, name);
  return el("section", { class: "card" }, el("h2", {}, "Run"),
    phasesBar(),
    el("p", {}, "Files: ", ["results.json", "history.edn", "schedule.json", "spec.toml", "core.log", "timeline.html", "latency-raw.svg", "latency-quantiles.svg", "rate.svg"].concat(clocks ? "clock-skew.svg" : [], "junit.xml").map((name, i) => [i ? " · " : "", link(name)])),
    Object.keys(run.versions).length ? el("p", { class: "muted" }, Object.entries(run.versions).map(([name, v]) => `${name} ${v}`).join(" · ")) : null,
    run.tested ? el("p", { class: "muted" }, "Tested: ", testedWords(run.tested)) : null,
    run.spec_toml ? el("details", {}, el("summary", {}, `spec.toml, seed ${data.seed}`), el("div", { class: "spec" }, copyButton(run.spec_toml), el("pre", { class: "words" }, run.spec_toml))) : null);
}

const page = document.getElementById("page");
if (document.documentElement.dataset.view === "timeline") {
  const timeline = new Timeline(Math.max(260, innerHeight - 170));
  page.classList.add("wide");
  page.append(el("section", { class: "card", id: "timeline" },
    el("h2", {}, badge(verdict), ` ${run.name} · timeline`), toolbar(),
    chart("", "a lane for each client thread", typeLegend, timeline.root),
    el("p", { class: "muted" }, sampleWords(), " ", el("a", { href: "report.html" }, "report"))));
} else {
  const parts = [banner(), counterExamples(), meaning(), checkers(), charts(), functionsTable(), faultsTable(), nodesTable(), specification()];
  page.append(...parts.filter(known));
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  for (const name of Object.keys(colourCache)) delete colourCache[name];
});
view.changed();
