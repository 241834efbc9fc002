/** Requests to the server; every address is relative, and so has the token of the page's own. */

/** An answer that is an error: its status, and a sentence for a person. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const getSession = () => request("api/session");
export const getChanges = ({ generation, since }) => request(`api/changes?generation=${encodeURIComponent(generation)}&since=${since}`);
export const getQueue = (count) => request(`api/queue?count=${count}`);
export const getSuggestions = (images) => request(`api/suggestions?images=${images.join(",")}`);
export const getSimilar = (image, count) => request(`api/similar/${image}?count=${count}`);
export const getCheck = () => request("api/check");
export const postCheck = () => request("api/check", {});
export const getTraining = () => request("api/training");
export const postTraining = (minutes) => request("api/training", { minutes });
export const postStroke = (body) => request("api/strokes", body);
export const postUndo = (body) => request("api/undo", body);

/** A new identifier, by which the server recognizes a stroke that is sent again. */
export function newStroke() {
  return [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function request(path, body = null) {
  const options = body === null ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new ApiError(0, "The server does not answer: is megavit label still running?");
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new ApiError(response.status, answer.error?.message ?? `The server answered ${response.status}.`);
  return answer;
}
