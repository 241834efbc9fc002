/** Answers by the HTTP API of `megavit serve`. */
import { Refusal } from "./refusal.js";

const ROOT = new URL("../", import.meta.url);
const BUSY_FOR = 2; // seconds, where a busy server does not say

const TRY_ANOTHER = "Try another picture, or save this one again as JPEG or PNG.";
const REMEDIES = {
  413: "Make the picture smaller, then try again.",
  422: "Try another picture, or other settings.",
  500: TRY_ANOTHER,
  504: "Try again, or make the picture smaller.",
};

// In memory only: it is gone when the page is.
let bearer = null;

/**
 * The models that there are.
 *
 * @param {{key?: string | null}} options key: for a server that asks for one.
 * @returns {Promise<{models: {name: string, target: string, labels: string[], coverages: number[],
 *   explanation: boolean}[]}>}
 * @throws {Refusal}
 */
export async function open({ key = null } = {}) {
  bearer = key ?? bearer;
  const { models } = await request(new URL("models", ROOT), {});
  return { models };
}

/**
 * A model's answer about one picture, as the API gives it.
 *
 * @param {string} model
 * @param {Blob} blob An image file.
 * @param {{top?: number, coverage?: number | null, explanation?: boolean, signal?: AbortSignal}} options
 * @throws {Refusal}
 */
export async function answer(model, blob, { top = 5, coverage = null, explanation = false, signal } = {}) {
  const url = new URL(`models/${encodeURIComponent(model)}/predict`, ROOT);
  url.searchParams.set("top", top);
  if (coverage !== null) url.searchParams.set("coverage", coverage);
  if (explanation) url.searchParams.set("explanation", "true");
  const headers = { "Content-Type": "application/octet-stream" };
  const { predictions } = await request(url, { method: "POST", body: await bytesOf(blob), headers, signal });
  if (predictions[0].error) throw new Refusal(predictions[0].error);
  return predictions[0];
}

/** Read first, as a file that is gone would look like a server that is. */
async function bytesOf(blob) {
  try {
    return await blob.arrayBuffer();
  } catch {
    throw new Refusal("This file cannot be read: it is a folder, or was moved. Choose it again.");
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
    throw new Refusal("The server does not answer. See whether it still runs, then try again.");
  }
  throw await refusalOf(response);
}

async function refusalOf(response) {
  const message = await response
    .json()
    .then((body) => body.error.message)
    .catch(() => `The server answered with status ${response.status}, and no reason`); // such as a proxy between
  if (response.status === 401) return new Refusal(message, { needsKey: true });
  if (response.status === 429 || response.status === 503) {
    const after = Number.parseInt(response.headers.get("Retry-After"), 10);
    return new Refusal(message, { after: after > 0 ? after : BUSY_FOR });
  }
  return new Refusal(withRemedy(message, REMEDIES[response.status]));
}

function withRemedy(message, remedy) {
  return remedy ? `${message.replace(/\.?\s*$/, ".")} ${remedy}` : message;
}
