// The test's hand in a page: starts Python (?where=page), or has a Web Worker start it
// (?where=worker), or one that all pages share (?where=shared), or nobody (?where=nowhere); begins
// calls, and gives their results when asked.
import { boot, watch } from "./boot.mjs";

const complaints = [], calls = new Map();
const complain = (text) => complaints.push(text);
watch(window, complain);

async function startWorker(shared) {
  const started = shared
    ? new SharedWorker("/site/shared.mjs", { type: "module" })
    : new Worker("/site/worker.mjs", { type: "module" });
  const worker = shared ? started.port : started;
  const waiting = new Map();
  const times = await new Promise((resolve, reject) => {
    started.onerror = (event) => {
      complain("worker: " + (event.message ?? event.type));
      reject(new Error(event.message ?? "the worker did not start"));
    };
    worker.onmessage = ({ data }) => {
      if (data.complaint !== undefined) complain(data.complaint);
      else if (data.times !== undefined) resolve(data.times);
      else if (data.failed !== undefined) reject(new Error(data.failed));
      else {
        const [done, failed] = waiting.get(data.id);
        waiting.delete(data.id);
        if (data.error === undefined) done(data.result);
        else failed(new Error(data.error));
      }
    };
  });
  let last = 0;
  return {
    times,
    call: (module, name, argument) =>
      new Promise((done, failed) => {
        waiting.set(++last, [done, failed]);
        worker.postMessage({ id: last, module, name, argument });
      }),
  };
}

const where = new URLSearchParams(location.search).get("where") ?? "page";
const starts = {
  page: () => boot(complain), worker: () => startWorker(false), shared: () => startWorker(true),
  nowhere: () => ({ times: {} }),
};
const ready = Promise.resolve().then(starts[where]);
ready.catch(() => {});

window.harness = {
  complaints,
  ready: async () => (await ready).times,
  python: async () => (await ready).python,
  start(id, module, name, argument) {
    const call = ready.then(({ call }) => call(module, name, argument));
    call.catch(() => {});
    calls.set(id, call);
  },
  // → {result} or {error}; {late: true} when it is not there in time.
  async wait(id, limit_ms) {
    let timer;
    const late = new Promise((resolve) => { timer = setTimeout(() => resolve({ late: true }), limit_ms); });
    const settled = calls.get(id).then(
      (result) => ({ result }),
      (error) => ({ error: String(error?.message ?? error) }),
    );
    const found = await Promise.race([settled, late]);
    clearTimeout(timer);
    return found;
  },
};
