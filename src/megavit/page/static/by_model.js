/** Answers by the exported model, in this browser: for the folder that needs no server of ours. */
import { answerOf, coveragesOf } from "./answers.js";
import { pixelsOf } from "./pixels.js";
import { Refusal } from "./refusal.js";
import * as ort from "./runtime/ort.wasm.min.mjs";

const FORMAT = 1;
const MOST_THREADS = 4;
const LOG_ERRORS = 3; // and no warnings about how a model was exported

// Threads need memory that they share, which browsers give to isolated pages only.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MOST_THREADS) : 1;
ort.env.wasm.proxy = true; // computes in a worker, so that the page can be used meanwhile
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

let metadata = null;
let session = null;
let last = Promise.resolve();

/**
 * Loads the model.
 *
 * @param {{loading?: (share: number) => void}} options loading: hears what share in [0, 1] of it has come.
 * @returns {Promise<{models: {name: string, target: string, labels: string[], coverages: number[],
 *   explanation: boolean}[]}>}
 * @throws {Refusal}
 */
export async function open({ loading = () => {} } = {}) {
  const described = await (await file("model.json")).json();
  if (described.format !== FORMAT) {
    throw new Refusal("This page and its model are of different versions: export both again.");
  }
  if (![1, 3].includes(described.channels)) {
    throw new Refusal(`This model takes pictures of ${described.channels} channels: a browser gives gray or color.`);
  }
  const model = await download(await file("model.onnx"), loading);
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: LOG_ERRORS });
  } catch (error) {
    throw new Refusal(`The model could not be started in this browser: ${error.message}`);
  }
  metadata = described;
  const { name, target, labels } = metadata;
  return { models: [{ name, target, labels, coverages: coveragesOf(metadata), explanation: false }] };
}

/**
 * The model's answer about one picture, as the HTTP API gives it.
 *
 * @param {string} model There is one.
 * @param {Blob} blob An image file.
 * @param {{top?: number, coverage?: number | null}} options
 * @throws {Refusal}
 */
export async function answer(model, blob, { top = 5, coverage = null } = {}) {
  const outputs = await inTurn(() => run(blob));
  return { name: blob.name ?? null, ...answerOf(outputs, metadata, { top, coverage }) };
}

/** A session runs one picture at a time, and memory holds one large one. */
function inTurn(task) {
  const turn = last.then(task);
  last = turn.catch(() => {});
  return turn;
}

async function run(blob) {
  const { channels } = metadata;
  const { pixels, height, width } = await pixelsOf(blob, channels);
  const input = new ort.Tensor("uint8", pixels, [1, height, width, channels]);
  try {
    const found = await session.run({ pixels: input }, wanted());
    return Object.fromEntries(Object.entries(found).map(([name, tensor]) => [name, tensor.data]));
  } catch (error) {
    throw new Refusal(`The model could not answer: try a smaller picture, as memory may lack. ${error.message}`);
  }
}

function wanted() {
  const main = metadata.target === "regression" ? "score" : "probabilities";
  return metadata.ood_threshold === null ? [main] : [main, "distance"];
}

async function file(name) {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => null);
  if (!response?.ok) {
    throw new Refusal(`${name} could not be loaded. See whether it is in the folder page, then try again.`);
  }
  return response;
}

async function download(response, loading) {
  const size = Number(response.headers.get("Content-Length"));
  const parts = [];
  let received = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    if (size) loading(Math.min(1, received / size)); // above it where the server packs what it sends
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
