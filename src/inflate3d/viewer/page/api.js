// What the page asks its server for. All addresses are relative: the page may lie anywhere.

export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, cache: "no-store" });
  } catch {
    throw new Refused("The server doesn't answer. Is it still running?", 0);
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  let message = text || answer.statusText;
  try {
    const { what, expected, got, hint } = JSON.parse(text).error;
    message = [what, expected && `expected: ${expected}`, got && `got: ${got}`, hint && `hint: ${hint}`].filter(Boolean).join("; ");
  } catch { /* not one of the server's own answers: the text itself */ }
  throw new Refused(message, answer.status);
}

const json = async (path, options) => (await ask(path, options)).json();
const bytes = async (path) => (await ask(path)).arrayBuffer();
const inCase = (id, rest = "") => `page/cases/${encodeURIComponent(id)}${rest}`;

async function gzip(data) {
  const packed = new Blob([data]).stream().pipeThrough(new CompressionStream("gzip"));
  return new Response(packed).arrayBuffer();
}

async function gunzip(data) {
  const unpacked = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

export const room = () => json("page/room");
export const cases = () => json("page/cases");
export const oneCase = (id) => json(inCase(id));
export const scan = (id, modality) => bytes(inCase(id, `/scan/${modality}`));
export const labels = async (id, version) => gunzip(await bytes(inCase(id, `/labels/${encodeURIComponent(version)}`)));
export const thumbnail = (id, version) => inCase(id, `/thumbnail?version=${version}`); // another picture for each version
export const predict = (id) => json(inCase(id, "/predict"), { method: "POST" });
const send = (path, value) => json(path, {
  method: "POST", body: JSON.stringify(value), headers: { "Content-Type": "application/json" } });

/** The case to label next; without an id if all are labeled. */
export const next = (strategy, client) => send(`activelearning/${encodeURIComponent(strategy)}`, { client_id: client });

const TRAINING = { RUNNING: "running", DONE: "finished", ERROR: "failed", STOPPED: "stopped" };

/** State and curve of the last training. */
export async function training() {
  const { step = 0, steps = 0, curve } = await json("train/progress");
  if (!curve) return { state: "idle", step, steps, curve: [] };
  const task = await json("train/");
  return { state: TRAINING[task.status], detail: task.details.at(-1), step, steps, curve };
}

export const models = () => json("page/models");
export const serveModel = (model, version) => json(
  `model/${encodeURIComponent(model)}/in-service?version=${version}`, { method: "PUT" });
export const startTraining = (model, options) => send(`train/${encodeURIComponent(model)}`, options);
export const stopTraining = () => json("train/", { method: "DELETE" });

/** Asks the browser to keep the server's token. */
export const authorize = (token) => ask("auth/token", {
  method: "POST", body: new URLSearchParams({ username: "page", password: token }) });

export async function save(id, bitmap, { base, newest, tag, by }) {
  const query = new URLSearchParams({ ...(base == null ? {} : { base }), newest, tag, by });
  const headers = { "Content-Type": "application/gzip" };
  return json(inCase(id, `/labels?${query}`), { method: "POST", body: await gzip(bitmap), headers });
}
