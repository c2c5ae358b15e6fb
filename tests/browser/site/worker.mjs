// Python in a Web Worker: answers {id, module, name, argument} with {id, result} or {id, error}.
import { boot, watch } from "./boot.mjs";

const complain = (text) => self.postMessage({ complaint: text });
watch(self, complain);
const ready = boot(complain);
ready.then(
  ({ times }) => self.postMessage({ times }),
  (error) => self.postMessage({ failed: String(error?.stack ?? error) }),
);

self.onmessage = async ({ data: { id, module, name, argument } }) => {
  try {
    const { call } = await ready;
    self.postMessage({ id, result: await call(module, name, argument) });
  } catch (error) {
    self.postMessage({ id, error: String(error?.message ?? error) });
  }
};
