/** How the page asks: a few pictures at once, and again where it was told to come later. */

const MOST_TRIES = 5;

/**
 * Runs tasks in the order they came, so many of them at once.
 *
 * @param {number} atOnce
 * @returns {<T>(task: () => Promise<T>) => Promise<T>}
 */
export function queue(atOnce) {
  const waiting = [];
  let running = 0;
  const next = () => {
    while (running < atOnce && waiting.length) {
      running += 1;
      waiting.shift()().finally(() => {
        running -= 1;
        next();
      });
    }
  };
  return (task) =>
    new Promise((resolve, reject) => {
      waiting.push(() => task().then(resolve, reject));
      next();
    });
}

/**
 * What `task` gives, asked again where it was refused with a time `after` which to come back.
 *
 * @param {() => Promise<T>} task
 * @param {{told?: (refusal: Error) => void, signal?: AbortSignal}} options told: hears of each wait; signal: ends it.
 * @returns {Promise<T>}
 * @template T
 */
export async function patiently(task, { told = () => {}, signal } = {}) {
  for (let turn = 1; ; turn += 1) {
    signal?.throwIfAborted();
    try {
      const found = await task();
      signal?.throwIfAborted();
      return found;
    } catch (refusal) {
      if (!refusal.after || turn === MOST_TRIES) throw refusal;
      told(refusal);
      await pause(refusal.after, signal);
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    });
  });
}
