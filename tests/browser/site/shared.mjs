// Python in a SharedWorker: answers each page that connects as worker.mjs does.
import { boot, watch } from "./boot.mjs";

const ports = new Set();
const complain = (text) => { for (const port of ports) port.postMessage({ complaint: text }); };
watch(self, complain);
const ready = boot(complain);

self.onconnect = ({ ports: [port] }) => {
  ports.add(port);
  ready.then(
    ({ times }) => port.postMessage({ times }),
    (error) => port.postMessage({ failed: String(error?.stack ?? error) }),
  );
  port.onmessage = async ({ data: { id, module, name, argument } }) => {
    try {
      const { call } = await ready;
      port.postMessage({ id, result: await call(module, name, argument) });
    } catch (error) {
      port.postMessage({ id, error: String(error?.message ?? error) });
    }
  };
};
