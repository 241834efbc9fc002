/** Why there is no answer: a sentence for a person, and what the page can do about it. */
export class Refusal extends Error {
  /**
   * @param {string} sentence What is wrong and what to do.
   * @param {{needsKey?: boolean, after?: number | null}} remedy needsKey: an API key is wanted, or another one;
   *   after: it is worth asking again in so many seconds.
   */
  constructor(sentence, { needsKey = false, after = null } = {}) {
    super(sentence);
    this.name = "Refusal";
    this.needsKey = needsKey;
    this.after = after;
  }
}
