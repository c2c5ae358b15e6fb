// Starts Pyodide with the wheels and the test files of this repository → a function that calls
// a Python function: (module, name, JSON argument or "") => JSON result.
import { loadPyodide } from "/pyodide/pyodide.mjs";

export async function boot(complain) {
  const started = performance.now();
  const { archives } = await (await fetch("/archives.json")).json();
  const loaded = Promise.all(archives.map(async (one) => (await fetch(one)).arrayBuffer()));
  const python = await start({
    indexURL: "/pyodide/",
    env: { HOME: "/home", PYTHONDONTWRITEBYTECODE: "1" },
    stderr: (line) => complain("stderr: " + line), // nothing that Python says there is expected
  });
  const booted = performance.now();
  for (const archive of await loaded) python.unpackArchive(archive, "wheel");
  const runner = python.runPython(`
import importlib, inspect, json
async def _call(module, name, argument):
    found = getattr(importlib.import_module(module), name)
    result = found() if not argument else found(json.loads(argument))
    if inspect.isawaitable(result):
        result = await result
    return json.dumps(result)
_call
`);
  python.globals.set("_call", runner);
  return {
    python,
    times: { pyodide_ms: booted - started, all_ms: performance.now() - started },
    async call(module, name, argument) {
      const words = [module, name, argument].map((word) => JSON.stringify(word)).join(", ");
      try {
        // runPythonAsync stands at the bottom of the stack, so that blocking calls can wait.
        return await python.runPythonAsync(`await _call(${words})`);
      } catch (error) {
        throw new Error(String(error?.message ?? error));
      }
    },
  };
}

// Starting Python takes seconds of computing, so the first page keeps an image of the memory of a
// Python that has just started, and all others begin with that.
const IMAGE = "/python.image";
const LOADED = "import asyncio, dataclasses, datetime, decimal, difflib, fractions, hashlib, html, " +
  "importlib.resources, ipaddress, json, logging, platform, random, shutil, urllib.parse, uuid, zipfile";

async function start(options) {
  let image = new Uint8Array(await (await fetch(IMAGE)).arrayBuffer());
  if (image.length === 0) {
    const fresh = await loadPyodide({ ...options, _makeSnapshot: true });
    fresh.runPython(LOADED);
    image = fresh.makeMemorySnapshot();
    await fetch(IMAGE, { method: "PUT", body: image });
  }
  const python = await loadPyodide({ ...options, _loadSnapshot: image });
  python.runPython("import random; random.seed()"); // else all pages would throw the same dice
  return python;
}

// Everything that goes wrong without anybody asking: `complain` hears of it.
export function watch(scope, complain) {
  scope.addEventListener("error", (event) => complain("error: " + (event.message ?? event.type)));
  scope.addEventListener("unhandledrejection", (event) =>
    complain("unhandled rejection: " + String(event.reason?.stack ?? event.reason)));
  const before = console.error;
  console.error = (...words) => {
    complain("console.error: " + words.map(String).join(" "));
    before.apply(console, words);
  };
}
