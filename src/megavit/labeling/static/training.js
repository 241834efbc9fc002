/** Trains the real model on the labels, and shows where its report is. */
import { getTraining, postTraining } from "./api.js";
import { sentence } from "./format.js";

const POLL_MILLISECONDS = 2000;

export class Training {
  /** @param {{form: HTMLFormElement, minutes: HTMLInputElement, button: HTMLButtonElement, text: HTMLElement, report: HTMLElement}} elements */
  constructor(elements) {
    Object.assign(this, elements);
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#start();
    });
    this.#follow().catch(() => {});
  }

  async #start() {
    try {
      this.#show(await postTraining(Number(this.minutes.value)));
      await this.#follow();
    } catch (error) {
      this.text.textContent = sentence(error.message);
    }
  }

  async #follow() {
    let training = await getTraining();
    this.#show(training);
    while (training.state === "running") {
      await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
      training = await getTraining().catch(() => training);
      this.#show(training);
    }
  }

  #show({ state, out, line }) {
    const texts = { none: "", running: `Training … ${line}`, done: `The model is in ${out}.`, failed: line };
    this.button.disabled = state === "running";
    this.text.textContent = texts[state];
    this.report.hidden = state !== "done";
  }
}
