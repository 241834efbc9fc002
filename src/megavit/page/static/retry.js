/** A queue with limited concurrency, and retries where the backend is busy. */

const MAX_TRIES = 5;

/**
 * Runs tasks in the order they came, at most `concurrency` at once.
 *
 * @param {number} concurrency
 * @returns {<T>(task: () => Promise<T>) => Promise<T>}
 */
export function createQueue(concurrency) {
  const waiting = [];
  let running = 0;
  const next = () => {
    while (running < concurrency && waiting.length) {
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
 * The result of `task`, retried where its error says `retryAfter` how many seconds.
 *
 * @param {() => Promise<T>} task
 * @param {{onWait?: (error: Error) => void, signal?: AbortSignal}} options onWait: called before each wait; signal:
 *   aborts it.
 * @returns {Promise<T>}
 * @template T
 */
export async function retryWhenBusy(task, { onWait = () => {}, signal } = {}) {
  for (let turn = 1; ; turn += 1) {
    signal?.throwIfAborted();
    try {
      const result = await task();
      signal?.throwIfAborted();
      return result;
    } catch (error) {
      if (!error.retryAfter || turn === MAX_TRIES) throw error;
      onWait(error);
      await pause(error.retryAfter, signal);
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
