/** Why there is no prediction: a sentence for a person, and what the page can do about it. */
export class BackendError extends Error {
  /**
   * @param {string} message What is wrong and what to do, a sentence.
   * @param {{needsKey?: boolean, retryAfter?: number | null}} remedy needsKey: an API key is needed, or another one;
   *   retryAfter: seconds after which a retry may succeed.
   */
  constructor(message, { needsKey = false, retryAfter = null } = {}) {
    super(message);
    this.name = "BackendError";
    this.needsKey = needsKey;
    this.retryAfter = retryAfter;
  }
}
