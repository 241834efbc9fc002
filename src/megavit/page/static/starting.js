/** Until the answerer is open: what is waited for, why it failed, and the key where it wants one. */
import { patiently } from "./asking.js";
import { sentence } from "./words.js";

const part = (id) => document.getElementById(id);

export class Starting {
  /**
   * @param {{open: (options: object) => Promise<object>, opened: (found: object) => void}} calls
   *   open: of the answerer; opened: is given what it found.
   */
  constructor({ open, opened }) {
    this.open = open;
    this.opened = opened;
    part("stuck").remove();
    part("retry").addEventListener("click", () => this.begin());
    part("key-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.begin(part("key").value);
    });
  }

  /** @param {string | null} key That a person gave. */
  async begin(key = null) {
    part("retry").hidden = true;
    part("progress").hidden = true;
    if (key === null) this.#tell("Loading …");
    const loading = (share) => {
      part("progress").hidden = false;
      part("progress").value = share;
      this.#tell("Loading the model …");
    };
    try {
      const told = (refusal) => this.#tell(`${sentence(refusal.message)} Trying again …`);
      const found = await patiently(() => this.open({ key, loading }), { told });
      part("starting").hidden = true;
      part("key-form").hidden = true;
      part("key").value = "";
      this.opened(found);
    } catch (error) {
      if (error.needsKey) this.askForKey(key === null ? error.message : "This key is not the server’s. Try another.");
      else this.fail(error.message);
    }
  }

  /** @param {string} reason Why there is no model. */
  fail(reason) {
    part("starting").hidden = false;
    part("progress").hidden = true;
    part("retry").hidden = false;
    this.#tell(sentence(reason));
  }

  /** @param {string} reason Why a key is wanted. */
  askForKey(reason) {
    part("starting").hidden = true;
    part("key-form").hidden = false;
    part("key-reason").textContent = sentence(reason);
    part("key").focus();
    part("key").select();
  }

  #tell(text) {
    part("starting-text").textContent = text;
  }
}
