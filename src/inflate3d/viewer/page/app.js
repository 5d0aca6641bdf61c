// The page: opens cases, and saves what is drawn.

import * as api from "./api.js";
import { listCases, stateMark } from "./cases.js";
import { display } from "./display.js";
import { agreement, closedRegion, History, interpolated } from "./drawing.js";
import { byId, element, show } from "./elements.js";
import { axisOf, Pane, PLANES } from "./pane.js";
import { modelsDialog } from "./models.js";
import { keyboard, listKeys, namePlane, toolbar } from "./tools.js";
import { trainingDialog } from "./training.js";

let room = null;
let cases = [];
let open = null; // the case that is open: its setup, the versions shown and the history
const panes = [];
let tools = null;

const shown = display(() => panes);

function say(text, wrong = false) {
  const message = byId("message");
  const close = element("button", { textContent: "×", ariaLabel: "dismiss", onclick: () => show(message, false) });
  message.replaceChildren(element("span", { textContent: text }), close);
  message.classList.toggle("wrong", wrong);
  message.setAttribute("role", wrong ? "alert" : "status");
  show(message, Boolean(text));
}

/** Runs something that waits for the server, with the buttons off, and says what went wrong. */
async function working(what, run) {
  if (document.body.classList.contains("working")) return undefined;
  document.body.classList.add("working");
  if (what) say(`${what} …`);
  try {
    const result = await run();
    if (what) say("");
    return result;
  } catch (error) {
    say(error.message, true);
    return undefined;
  } finally {
    document.body.classList.remove("working");
  }
}

const unsaved = () => Boolean(open?.history && open.changed);
const maySkip = () => !unsaved() || window.confirm("Your changes are not saved. Leave anyway?");

async function refreshList() {
  const answer = await api.cases();
  cases = answer.cases;
  room.predict = answer.predict;
  listStrategies(answer.strategies);
  byId("model").textContent = answer.model ?? "";
  byId("predict").disabled = !room.predict;
  if (room.list) listCases(cases, open?.id, openCase);
  show(byId("cases"), room.list);
  show(byId("menu"), room.list);
}

/** The ways to choose the next case; the one that was used last stays chosen. */
function listStrategies(strategies) {
  const before = localStorage.getItem("strategy");
  byId("strategy").replaceChildren(...strategies.map(({ name, about }) =>
    element("option", { value: name, textContent: name, title: about })));
  if (strategies.some(({ name }) => name === before)) byId("strategy").value = before;
  byId("strategy").title = strategies.find(({ name }) => name === byId("strategy").value)?.about ?? "";
  show(byId("nextcase"), strategies.length > 0);
}

function versionText(version) {
  const day = version.when ? new Date(version.when).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "";
  return [version.name, version.who, day].filter(Boolean).join(" · ");
}

function listVersions() {
  const options = (none) => [element("option", { value: "", textContent: none }),
    ...open.setup.versions.map((each) => element("option", { value: each.id, textContent: versionText(each) }))];
  byId("version").replaceChildren(...options(open.setup.versions.length ? "empty" : "none yet"));
  byId("version").value = open.version ?? "";
  byId("other").replaceChildren(...options("nothing"));
  byId("other").value = open.other ?? "";
}

function showState() {
  byId("name").textContent = open.setup.name;
  byId("state").replaceChildren(stateMark(open.setup.state));
  show(byId("state"), Boolean(open.setup.state));
  byId("save").classList.toggle("main", unsaved());
  document.title = `${unsaved() ? "● " : ""}${open.setup.name} – ${room.title}`;
}

const titleOf = (version) => {
  const found = open.setup.versions.find((each) => each.id === version);
  return found ? versionText(found) : "no label";
};

const emptyBitmap = () => new Uint8Array(open.setup.shape.reduce((product, length) => product * length));

async function showIn(pane, version) {
  pane.setBitmap(version ? await api.labels(open.id, version) : emptyBitmap());
  pane.caption.textContent = titleOf(version);
  pane.canvas.ariaLabel = `${open.setup.name}, ${titleOf(version)}`;
  shown.dress(pane);
}

/** The first pane, where one draws, and a second one to compare; with the open case's scan in both. */
async function fitPanes(count) {
  if (!panes.length) byId("panes").replaceChildren();
  while (panes.length > count) panes.pop().close();
  while (panes.length < count) panes.push(await Pane.open(byId("panes")));
  const scan = `${open.id}/${open.modality}`;
  for (const pane of panes.filter((each) => each.scan !== scan)) {
    open.bytes ??= await api.scan(open.id, open.modality);
    await pane.load(open.bytes, open.setup, shown);
    pane.scan = scan;
  }
  const viewers = panes.map((pane) => pane.viewer);
  viewers.forEach((viewer) => viewer.broadcastTo(viewers.filter((each) => each !== viewer), { "2d": true, "3d": true }));
  panes[0].onStroke = recorded;
  panes[0].canvas.onmouseup = panes[0].canvas.ontouchend = clicked; // after NiiVue's own, which move the crosshair
}

/** Shows one version of the open case, or two side by side. */
async function showVersions(version, other) {
  await fitPanes(other ? 2 : 1);
  await showIn(panes[0], version);
  if (other) {
    await showIn(panes[1], other);
    panes[1].follow(panes[0]);
  }
  Object.assign(open, { version, other, changed: false, history: new History(panes[0].bitmap) });
  listVersions();
  showState();
  showLabels();
  toolChanged();
  namePlane(panes[0].plane);
}

/** The classes with their volumes, and the Dice of two versions. */
function showLabels() {
  shown.refreshClasses();
  const table = byId("agreement");
  show(table, panes.length > 1);
  if (table.hidden) return;
  const scores = agreement(panes[0].bitmap, panes[1].bitmap);
  table.replaceChildren(element("caption", { textContent: "Dice of both label maps" }), ...room.classes.map(({ name }, place) =>
    element("tr", {}, [element("td", { textContent: name }), element("td", { textContent: scores[place + 1]?.toFixed(3) ?? "–" })])));
}

async function openCase(id) {
  if (!maySkip()) return;
  let note = "";
  await working("Opening the case", async () => {
    const setup = { ...(await api.oneCase(id)), classes: room.classes };
    open = { id, setup, modality: setup.modality ?? 0, version: null, other: null };
    document.body.classList.remove("listing");
    window.location.hash = encodeURIComponent(id);
    note = shown.reset(setup);
    show(byId("side"), true);
    show(byId("tools"), room.draw);
    show(byId("saving"), room.draw);
    const [first, second] = setup.opened ?? [setup.versions[0]?.id];
    await showVersions(first ?? null, second ?? null);
    await refreshList();
    byId("panes").dataset.state = "ready";
  });
  if (note) say(note);
}

function recorded() {
  if (!open.history.record(panes[0].bitmap)) return;
  open.changed = true;
  showState();
  showLabels();
}

function toolChanged() {
  if (!panes.length || !tools) return;
  const [pane] = panes;
  const { tool, size } = tools.state;
  const pens = {
    brush: [shown.chosen, { size }], outline: [shown.chosen, { filled: true }], erase: [0, { size }], cut: [0, { filled: true }],
  };
  if (pens[tool] && room.draw) pane.setPen(...pens[tool]);
  else pane.setIdle();
}

/** After a click: names the plane that it chose, and fills if that is the tool. */
function clicked() {
  const [pane] = panes;
  namePlane(pane.plane);
  if (tools?.state.tool !== "fill" || !pane.inSlice) return;
  const region = closedRegion(pane.bitmap, open.setup.shape, axisOf(pane.plane), pane.voxel);
  if (!region) return say(`Nothing was filled: this region isn't closed in the ${PLANES[pane.plane]} slice.`, true);
  pane.paint(region, shown.chosen);
  recorded();
}

function interpolate() {
  if (!room.draw || !panes.length) return;
  const [pane] = panes;
  const { shape, spacing, classes } = open.setup;
  const found = interpolated(pane.bitmap, shape, spacing, axisOf(pane.plane), shown.chosen);
  const { name } = classes[shown.chosen - 1];
  if (!found.length) return say(`Nothing to interpolate: ${name} has no gap between its ${PLANES[pane.plane]} slices.`);
  pane.paint(found, shown.chosen);
  recorded();
  say(`${found.length} voxels of ${name} were added between ${PLANES[pane.plane]} slices.`);
}

function travel(way) {
  const [pane] = panes;
  if (!pane || pane.busy || !open.history[way](pane.bitmap)) return;
  pane.refresh();
  open.changed = true;
  showState();
  showLabels();
}

/** Learns of label maps that others saved. */
async function refreshVersions() {
  const { state, newest, versions } = await api.oneCase(open.id);
  Object.assign(open.setup, { state, newest, versions });
  listVersions();
}

async function save(tag) {
  if (!room.draw || !panes.length) return;
  const who = byId("who").value.trim();
  localStorage.setItem("who", who);
  await working("Saving", async () => {
    const saved = await api.save(open.id, panes[0].bitmap, { base: open.version, newest: open.setup.newest, tag, by: who })
      .catch(async (error) => {
        if (error.status === 409) await refreshVersions();
        throw error;
      });
    Object.assign(open.setup, saved.case);
    Object.assign(open, { version: saved.version, changed: false });
    listVersions();
    showState();
    panes[0].caption.textContent = titleOf(open.version);
    await refreshList();
  });
}

async function predict() {
  if (!room.predict || !open || !maySkip()) return;
  const warnings = await working("Predicting", async () => {
    const predicted = await api.predict(open.id);
    Object.assign(open.setup, predicted.case);
    await showVersions(predicted.version, open.other);
    await refreshList();
    return predicted.warnings;
  });
  if (warnings?.length) say(`Look at this prediction closely: ${warnings.join("; ")}.`, true);
}

async function nextCase() {
  const strategy = byId("strategy").value;
  if (!strategy) return;
  const answer = await working("", () => api.next(strategy, byId("who").value.trim()));
  if (answer?.id != null) await openCase(answer.id);
  else if (answer) say("Every case has a label map marked as final.");
}

function connect(actions) {
  const on = (id, run) => { byId(id).onclick = run; };
  on("save", () => save("draft"));
  on("final", () => save("final"));
  on("predict", predict);
  on("next", nextCase);
  on("help", actions.help);
  byId("strategy").onchange = () => {
    localStorage.setItem("strategy", byId("strategy").value);
    byId("strategy").title = byId("strategy").selectedOptions[0].title;
  };
  on("menu", () => byId("menu").setAttribute("aria-expanded", String(document.body.classList.toggle("listing"))));
  byId("version").onchange = () => (maySkip()
    ? working("", () => showVersions(byId("version").value || null, open.other)) : listVersions());
  byId("other").onchange = () => (maySkip()
    ? working("", () => showVersions(open.version, byId("other").value || null)) : listVersions());
  byId("modality").onchange = () => {
    const modality = Number(byId("modality").value);
    Object.assign(open, { modality, bytes: null });
    shown.showWindow(...open.setup.ranges[modality]);
    working("Loading", async () => {
      const drawn = panes.map((pane) => pane.bitmap.slice());
      await fitPanes(panes.length);
      panes.forEach((pane, number) => {
        pane.setBitmap(drawn[number]);
        shown.dress(pane);
      });
      toolChanged();
    });
  };
  window.addEventListener("beforeunload", (event) => { if (unsaved()) event.preventDefault(); });
}

function trained(text, wrong) {
  say(text, wrong);
  refreshList().catch((error) => say(error.message, true));
}

/** Asks for the server's token until it is right. */
async function askToken() {
  const dialog = byId("token");
  dialog.showModal();
  await new Promise((resolve) => {
    byId("tokenform").onsubmit = (event) => {
      event.preventDefault();
      api.authorize(byId("secret").value).then(resolve, (error) => { byId("refusal").textContent = error.message; });
    };
  });
  dialog.close();
}

async function start() {
  try {
    room = await api.room();
  } catch (error) {
    if (error.status !== 401) throw error;
    await askToken();
    room = await api.room();
  }
  byId("title").textContent = room.title;
  show(byId("train"), Boolean(room.train));
  show(byId("versions"), Boolean(room.train));
  byId("who").value = localStorage.getItem("who") ?? "";
  const actions = {
    toolChanged, interpolate, next: nextCase, predict, save: () => save("draft"), undo: () => travel("undo"),
    redo: () => travel("redo"), chooseClass: shown.choose, step: (slices) => panes[0]?.step(slices),
    hideLabels: shown.hideLabels, help: () => byId("keys").showModal(),
  };
  if (room.draw) tools = toolbar(actions);
  shown.connect({ onChoose: toolChanged, bitmapOf: () => panes[0]?.bitmap ?? null });
  listKeys(room.draw);
  keyboard(tools, actions);
  connect(actions);
  if (room.train) {
    trainingDialog(room.train, say, trained);
    modelsDialog(room.train, say, refreshList);
  }
  await refreshList();
  byId("panes").replaceChildren(element("p", { className: "empty", textContent: cases.length
    ? "Choose a case on the left." : "This folder contains no scans." }));
  const wanted = decodeURIComponent(window.location.hash.slice(1)) || (room.list ? null : cases[0]?.id);
  if (cases.some((each) => each.id === wanted)) await openCase(wanted);
}

start().catch((error) => {
  byId("panes").replaceChildren(element("p", { className: "empty", role: "alert", textContent: `The page can't be shown: ${error.message}` }));
  byId("panes").dataset.state = "failed";
});
