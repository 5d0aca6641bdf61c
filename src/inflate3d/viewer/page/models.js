// The dialog of the model's versions: their Dice, and which of them predicts.

import * as api from "./api.js";
import { byId, element } from "./elements.js";

const COLUMNS = ["model", "trained", "learned from", "held-out Dice", ""];

function row(version, serving, use) {
  const day = version.trained ? new Date(version.trained).toLocaleString([], { dateStyle: "medium", timeStyle: "short" }) : "given at the start";
  const dice = version.dice == null ? "–" : `${version.dice.toFixed(3)} (${version.held_out} case${version.held_out === 1 ? "" : "s"})`;
  const cases = version.training_cases == null ? "–" : `${version.training_cases} case${version.training_cases === 1 ? "" : "s"}`;
  const last = serving ? element("span", { className: "serving", textContent: "in use" })
    : element("button", { textContent: "Use this version", onclick: () => use(version.number) });
  const absent = version.absent.length ? [element("p", { className: "absent", textContent: `never saw: ${version.absent.join(", ")}` })] : [];
  const cells = [[String(version.number)], [day, ...absent], [cases], [dice], [last]];
  return element("tr", {}, cells.map((inside) => element("td", {}, inside)));
}

/** Connects the dialog; `onChange` is called when another version predicts. */
export function modelsDialog(model, say, onChange) {
  async function list() {
    const { in_service: serving, versions } = await api.models();
    byId("modelnote").textContent = versions.length
      ? "Each version is scored on the cases held out at the time, so only versions with the same cases are directly comparable."
      : "No model has been trained yet.";
    const head = element("tr", {}, COLUMNS.map((textContent) => element("th", { textContent })));
    byId("modellist").replaceChildren(...(versions.length ? [head] : []),
      ...versions.map((version) => row(version, version.number === serving, use)));
  }

  async function use(number) {
    try {
      await api.serveModel(model, number);
      await Promise.all([list(), onChange()]);
    } catch (error) {
      byId("modelnote").textContent = error.message;
    }
  }

  byId("versions").onclick = () => list().then(() => byId("models").showModal(), (error) => say(error.message, true));
}
