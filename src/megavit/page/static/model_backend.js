/** Predictions by the exported model in this browser: for a folder on any web server. */
import { getCoverages, makePrediction } from "./predictions.js";
import { readPixels } from "./pixels.js";
import { BackendError } from "./errors.js";
import * as ort from "./runtime/ort.wasm.min.mjs";

const FORMAT = 1;
const MAX_THREADS = 4;
const LOG_ERRORS = 3; // no warnings

// Threads need shared memory, which browsers give to isolated pages only.
ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency, MAX_THREADS) : 1;
ort.env.wasm.proxy = true; // computes in a worker, so that the page stays responsive
ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;

let metadata = null;
let session = null;
let last = Promise.resolve();

/**
 * Loads the model.
 *
 * @param {{onProgress?: (share: number) => void}} options onProgress: called with the share in [0, 1] that has loaded.
 * @returns {Promise<{models: {name: string, target: string, labels: string[], coverages: number[],
 *   explanation: boolean}[]}>}
 * @throws {BackendError}
 */
export async function open({ onProgress = () => {} } = {}) {
  const description = await (await fetchFile("model.json")).json();
  if (description.format !== FORMAT) {
    throw new BackendError("This page and its model are of different versions: export both again.");
  }
  if (![1, 3].includes(description.channels)) {
    throw new BackendError(`This model takes images of ${description.channels} channels: browsers read gray and color ones only.`);
  }
  const model = await download(await fetchFile("model.onnx"), onProgress);
  try {
    session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"], logSeverityLevel: LOG_ERRORS });
  } catch (error) {
    throw new BackendError(`The model could not be started in this browser: ${error.message}`);
  }
  metadata = description;
  const { name, target, labels } = metadata;
  return { models: [{ name, target, labels, coverages: getCoverages(metadata), explanation: false }] };
}

/**
 * The prediction for one image, as the HTTP API returns it.
 *
 * @param {string} model Its name; there is only one.
 * @param {Blob} blob An image file.
 * @param {{top?: number, coverage?: number | null}} options
 * @throws {BackendError}
 */
export async function predict(model, blob, { top = 5, coverage = null } = {}) {
  const outputs = await inTurn(() => run(blob));
  return { name: blob.name ?? null, ...makePrediction(outputs, metadata, { top, coverage }) };
}

/** A session runs one image at a time, which bounds memory. */
function inTurn(task) {
  const turn = last.then(task);
  last = turn.catch(() => {});
  return turn;
}

async function run(blob) {
  const { channels } = metadata;
  const { pixels, height, width } = await readPixels(blob, channels);
  const input = new ort.Tensor("uint8", pixels, [1, height, width, channels]);
  try {
    const outputs = await session.run({ pixels: input }, outputNames());
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, tensor.data]));
  } catch (error) {
    throw new BackendError(`The model could not run: try a smaller image, as memory may be short. ${error.message}`);
  }
}

function outputNames() {
  const main = metadata.target === "regression" ? "score" : "probabilities";
  return metadata.ood_threshold === null ? [main] : [main, "distance"];
}

async function fetchFile(name) {
  const response = await fetch(new URL(name, import.meta.url)).catch(() => null);
  if (!response?.ok) {
    throw new BackendError(`${name} could not be loaded. See whether it is in the folder page, then try again.`);
  }
  return response;
}

async function download(response, onProgress) {
  const size = Number(response.headers.get("Content-Length"));
  const parts = [];
  let received = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    received += value.length;
    if (size) onProgress(Math.min(1, received / size)); // above 1 where the server compresses
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
