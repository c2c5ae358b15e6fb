// What IndexedDB itself says about keys (npm's fake-indexeddb, whose key order is the standard's):
// reads one JSON question from standard input, writes one JSON answer.
//
// A value: {n: 16 hexadecimal digits of a double}, {t: [UTF-16 units]}, {b: [bytes]}, {a: [values]},
// {x: "true" | "null" | "object" | "undefined"}.
import fs from "node:fs";
import "fake-indexeddb/auto";

const view = new DataView(new ArrayBuffer(8));
const other = { true: true, null: null, object: {}, undefined };
const read = (value) => {
  if (value.n !== undefined) {
    view.setBigUint64(0, BigInt("0x" + value.n));
    return view.getFloat64(0);
  }
  if (value.t !== undefined) return String.fromCharCode(...value.t);
  if (value.b !== undefined) return Uint8Array.from(value.b);
  if (value.a !== undefined) return value.a.map(read);
  return other[value.x];
};
const attempt = (fn) => {
  try {
    return fn();
  } catch (error) {
    return error.name;
  }
};
const bounds = ([low, high, lowOpen, highOpen]) => {
  if (low === null && high === null) return null;
  if (low === null) return IDBKeyRange.upperBound(read(high), highOpen);
  if (high === null) return IDBKeyRange.lowerBound(read(low), lowOpen);
  return IDBKeyRange.bound(read(low), read(high), lowOpen, highOpen);
};
const settled = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
const values = asked.values.map(read);
const answer = {
  valid: values.map((value) => attempt(() => indexedDB.cmp(value, value)) === 0),
  pairs: asked.pairs.map(([i, j]) => attempt(() => indexedDB.cmp(values[i], values[j]))),
  ranges: asked.ranges.map((range) =>
    attempt(() => {
      const over = bounds(range);
      return over === null ? "all" : values.map((v, i) => (over.includes(v) ? i : -1)).filter((i) => i >= 0);
    }),
  ),
};

// Cursors over an index of the values, in every direction and range: document numbers, or the error.
const opening = indexedDB.open("oracle");
opening.onupgradeneeded = () => {
  opening.result.createObjectStore("docs", { keyPath: "id" }).createIndex("v", "v");
};
const database = await settled(opening);
const writing = database.transaction("docs", "readwrite").objectStore("docs");
for (const [id, i] of asked.documents) writing.put({ id, v: values[i] });
const index = database.transaction("docs").objectStore("docs").index("v");
answer.cursors = [];
for (const [range, direction] of asked.cursors) {
  const over = attempt(() => bounds(range));
  if (typeof over === "string") {
    answer.cursors.push(over);
    continue;
  }
  const found = [];
  await new Promise((resolve) => {
    index.openCursor(over, direction).onsuccess = ({ target }) => {
      if (target.result === null) return resolve();
      found.push(target.result.primaryKey);
      target.result.continue();
    };
  });
  answer.cursors.push(found);
}
console.log(JSON.stringify(answer));
