// Runs a Python function of this repository under Pyodide, in Node:
//   node run.mjs ROOT WHEELS package.module function [JSON argument]
// Its result comes back as JSON, on the last line of standard output.
// globalThis.indexedDB is that of fake-indexeddb, as a page would have its own.
import fs from "node:fs";
import path from "node:path";
import "fake-indexeddb/auto";
import { loadPyodide } from "pyodide";

const [root, wheels, module, name, argument] = process.argv.slice(2);

// Pyodide's own source is one line of a megabyte, which Node would print before the reason.
const fail = (error) => {
  const text = error?.constructor?.name === "PythonError" ? error.message : error?.stack;
  console.error(String(text ?? error).slice(0, 20_000));
  process.exit(1);
};
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);

const python = await loadPyodide({ env: { HOME: "/home", PYTHONDONTWRITEBYTECODE: "1" } });
for (const wheel of fs.readdirSync(wheels).filter((file) => file.endsWith(".whl"))) {
  python.unpackArchive(new Uint8Array(fs.readFileSync(path.join(wheels, wheel))), "wheel");
}
python.mountNodeFS("/src", path.join(root, "src"));
python.mountNodeFS("/repository", root);
python.globals.set("_where", python.toPy({ module, name, argument: argument ?? "" }));
const result = await python.runPythonAsync(`
import importlib, inspect, json, sys
sys.path[:0] = ["/src", "/repository"]
_found = getattr(importlib.import_module(_where["module"]), _where["name"])
_result = _found() if not _where["argument"] else _found(json.loads(_where["argument"]))
if inspect.isawaitable(_result):
    _result = await _result
json.dumps(_result)
`);
console.log(result);
process.exit(0);
