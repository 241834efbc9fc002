/** Predictions by the HTTP API of `megavit serve`. */
import { BackendError } from "./errors.js";

const ROOT = new URL("../", import.meta.url);
const DEFAULT_RETRY_SECONDS = 2;

const TRY_ANOTHER = "Try another image, or save this one again as JPEG or PNG.";
const REMEDIES = {
  413: "Make the image smaller, then try again.",
  422: "Try another image, or other settings.",
  500: TRY_ANOTHER,
  504: "Try again, or make the image smaller.",
};

// In memory only.
let bearer = null;

/**
 * The models that are served.
 *
 * @param {{key?: string | null}} options key: for a server that requires one.
 * @returns {Promise<{models: {name: string, target: string, labels: string[], coverages: number[],
 *   explanation: boolean}[]}>}
 * @throws {BackendError}
 */
export async function open({ key = null } = {}) {
  bearer = key ?? bearer;
  const { models } = await request(new URL("models", ROOT), {});
  return { models };
}

/**
 * A model's prediction for one image, as the API returns it.
 *
 * @param {string} model
 * @param {Blob} blob An image file.
 * @param {{top?: number, coverage?: number | null, explanation?: boolean, signal?: AbortSignal}} options
 * @throws {BackendError}
 */
export async function predict(model, blob, { top = 5, coverage = null, explanation = false, signal } = {}) {
  const url = new URL(`models/${encodeURIComponent(model)}/predict`, ROOT);
  url.searchParams.set("top", top);
  if (coverage !== null) url.searchParams.set("coverage", coverage);
  if (explanation) url.searchParams.set("explanation", "true");
  const headers = { "Content-Type": "application/octet-stream" };
  const { predictions } = await request(url, { method: "POST", body: await readBytes(blob), headers, signal });
  if (predictions[0].error) throw new BackendError(predictions[0].error);
  return predictions[0];
}

/** Read before the request: a file that is gone would look like a server that is. */
async function readBytes(blob) {
  try {
    return await blob.arrayBuffer();
  } catch {
    throw new BackendError("This file cannot be read: it is a folder, or was moved. Choose it again.");
  }
}

async function request(url, { headers = {}, ...options }) {
  let response;
  try {
    response = await fetch(url, {
      ...options,
      headers: bearer === null ? headers : { ...headers, Authorization: `Bearer ${bearer}` },
      cache: "no-store",
      credentials: "same-origin",
    });
    if (response.ok) return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new BackendError("The server does not answer. See whether it still runs, then try again.");
  }
  throw await errorFrom(response);
}

async function errorFrom(response) {
  const message = await response
    .json()
    .then((body) => body.error.message)
    .catch(() => `The server returned status ${response.status} without a reason`); // such as a proxy's
  if (response.status === 401) return new BackendError(message, { needsKey: true });
  if (response.status === 429 || response.status === 503) {
    const seconds = Number.parseInt(response.headers.get("Retry-After"), 10);
    return new BackendError(message, { retryAfter: seconds > 0 ? seconds : DEFAULT_RETRY_SECONDS });
  }
  return new BackendError(withRemedy(message, REMEDIES[response.status]));
}

function withRemedy(message, remedy) {
  return remedy ? `${message.replace(/\.?\s*$/, ".")} ${remedy}` : message;
}
