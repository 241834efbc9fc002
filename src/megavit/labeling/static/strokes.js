/** Sends strokes one after the other, each until the server has it, and remembers them for undo. */
import { getChanges, newStroke, postStroke, postUndo } from "./api.js";

const RETRY_MILLISECONDS = [300, 1000, 3000];

export class Strokes {
  /**
   * @param {Labels} labels
   * @param {{onChange: (images: number[]) => void, onRefused: (message: string) => void, onTrouble: (message: string) => void, onLearning: (learning: object) => void}} calls
   *   onTrouble: strokes are not saved, for this reason; "" when they are again.
   * @param {{stroke: string, images: number[]}[]} done Earlier strokes that can be undone.
   */
  constructor(labels, calls, done) {
    this.labels = labels;
    this.calls = calls;
    this.waiting = [];
    this.done = done;
    this.isSending = false;
  }

  /** Decides on images at once. */
  decide(images, status, names = []) {
    const stroke = newStroke();
    const marks = images.map((image) => ({ image, seen: this.labels.seen(image), ...this.#suggested(image) }));
    this.labels.expect(images, status, names, stroke);
    this.waiting.push({ stroke, images, send: (at) => postStroke({ ...at, stroke, status, labels: names, marks }) });
    this.done.push({ stroke, images });
    this.calls.onChange(images);
    this.send();
  }

  /** Undoes the last stroke, and returns its images; none if there is no stroke. */
  undo() {
    const last = this.done.pop();
    if (!last) return [];
    const stroke = newStroke();
    // As the server will name it, so that a stroke that follows at once is made upon it.
    this.labels.expectUndo(last.images, `${stroke}~${last.stroke}`);
    this.waiting.push({ stroke, images: last.images, send: (at) => postUndo({ ...at, stroke, undone: last.stroke }) });
    this.send();
    return last.images;
  }

  get isSaved() {
    return !this.waiting.length;
  }

  /** Sends what waits; what fails stays, for the next call. */
  async send() {
    if (this.isSending) return;
    this.isSending = true;
    while (this.waiting.length && (await this.#sendFirst()));
    this.isSending = false;
  }

  /** Takes what others have decided. */
  async refresh() {
    if (!this.isSaved) return;
    const { generation, since } = this.labels;
    this.#take(await getChanges({ generation, since }));
  }

  async #sendFirst() {
    const first = this.waiting[0];
    for (const delay of [...RETRY_MILLISECONDS, null]) {
      const { generation, since } = this.labels;
      try {
        const answer = await first.send({ generation, since });
        this.waiting.shift();
        this.calls.onTrouble("");
        this.#take(answer);
        return true;
      } catch (error) {
        if (error.status && error.status < 500) {
          await this.#drop(error);
          return true;
        }
        if (delay === null) {
          this.calls.onTrouble(`${this.waiting.length === 1 ? "A stroke is" : `${this.waiting.length} strokes are`} not saved. ${error.message}`);
          return false;
        }
        await new Promise((resolve) => setTimeout(resolve, delay));
      }
    }
    return false;
  }

  /** Shows what the server has in place of a stroke that it refused, and of those made upon it. */
  async #drop(error) {
    const dropped = this.waiting.splice(0);
    const strokes = new Set(dropped.map(({ stroke }) => stroke));
    this.done = this.done.filter(({ stroke }) => !strokes.has(stroke));
    this.#take(await getChanges({ generation: "", since: 0 }).catch(() => null));
    this.calls.onRefused(error.message);
  }

  #take(answer) {
    if (!answer) return;
    const pending = new Set(this.waiting.flatMap(({ images }) => images));
    this.calls.onChange(this.labels.apply(answer, pending));
    this.calls.onLearning(answer.learning);
  }

  #suggested(image) {
    const suggestion = this.labels.suggestion(image);
    return suggestion ? { suggested: suggestion.label, probability: suggestion.probability?.toFixed(4) ?? "" } : {};
  }
}
