// The list of cases with their state, a number and a thumbnail.

import * as api from "./api.js";
import { byId, element } from "./elements.js";

export const STATES = {
  unlabeled: "no label yet", predicted: "labeled by the model", corrected: "saved by a person", final: "marked as final",
};

export function stateMark(state) {
  return element("span", { className: `state ${state}`, title: STATES[state] ?? "", textContent: state });
}

function figure(entry) {
  if (entry.dice != null) return ["Dice " + entry.dice.toFixed(2), "agreement of the prediction with the saved label"];
  if (entry.confidence != null) return [`${Math.round(100 * entry.confidence)} % sure`, "mean confidence of the model"];
  return ["", ""];
}

function row(entry, chosen, open) {
  const [text, title] = figure(entry);
  const picture = element("img", { src: api.thumbnail(entry.id, entry.version), alt: "", loading: "lazy", width: 48, height: 48 });
  picture.onerror = () => { picture.style.visibility = "hidden"; };
  const button = element("button", { onclick: () => open(entry.id) }, [picture, element("span", { className: "name",
    textContent: entry.name, title: entry.name }), stateMark(entry.state),
    element("span", { className: "figure", textContent: text, title })]);
  button.dataset.case = entry.id;
  if (entry.id === chosen) button.setAttribute("aria-current", "true");
  return element("li", {}, [button]);
}

export function listCases(cases, chosen, open) {
  const filter = byId("filter");
  const before = filter.value || "all";
  const names = ["all", ...Object.keys(STATES)];
  const count = (state) => cases.filter((each) => state === "all" || each.state === state).length;
  filter.replaceChildren(...names.map((value) => element("option", { value, textContent: `${value} (${count(value)})` })));
  filter.value = before;
  filter.onchange = () => listCases(cases, chosen, open);
  const shown = cases.filter((each) => before === "all" || each.state === before);
  const empty = element("li", { className: "empty", textContent: cases.length ? "none in this state" : "This folder contains no scans." });
  byId("list").replaceChildren(...(shown.length ? shown.map((each) => row(each, chosen, open)) : [empty]));
}
