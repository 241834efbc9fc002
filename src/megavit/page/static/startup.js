/** Until the backend is open: the progress, why it failed, and a form for the key where one is needed. */
import { retryWhenBusy } from "./retry.js";
import { sentence } from "./format.js";

const byId = (id) => document.getElementById(id);

export class Startup {
  /**
   * @param {{open: (options: object) => Promise<object>, onOpen: (result: object) => void}} calls
   *   open: of the backend; onOpen: called with its result.
   */
  constructor({ open, onOpen }) {
    this.open = open;
    this.onOpen = onOpen;
    byId("stuck").remove();
    byId("retry").addEventListener("click", () => this.start());
    byId("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.start(byId("key").value);
    });
  }

  /** @param {string | null} key That the user entered. */
  async start(key = null) {
    byId("retry").hidden = true;
    byId("progress").hidden = true;
    if (key === null) this.#show("Loading …");
    const onProgress = (share) => {
      byId("progress").hidden = false;
      byId("progress").value = share;
      this.#show("Loading the model …");
    };
    try {
      const onWait = (error) => this.#show(`${sentence(error.message)} Trying again …`);
      const result = await retryWhenBusy(() => this.open({ key, onProgress }), { onWait });
      byId("starting").hidden = true;
      byId("key-form").hidden = true;
      byId("key").value = "";
      this.onOpen(result);
    } catch (error) {
      if (error.needsKey) this.askForKey(key === null ? error.message : "This key is not the server’s. Try another.");
      else this.fail(error.message);
    }
  }

  /** @param {string} reason Why there is no model. */
  fail(reason) {
    byId("starting").hidden = false;
    byId("progress").hidden = true;
    byId("retry").hidden = false;
    this.#show(sentence(reason));
  }

  /** @param {string} reason Why a key is needed. */
  askForKey(reason) {
    byId("starting").hidden = true;
    byId("key-form").hidden = false;
    byId("key-reason").textContent = sentence(reason);
    byId("key").focus();
    byId("key").select();
  }

  #show(text) {
    byId("starting-text").textContent = text;
  }
}
