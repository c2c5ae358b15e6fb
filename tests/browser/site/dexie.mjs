// The same work in Dexie, timed inside JavaScript: window.dexie[operation](n) => milliseconds.
import { Dexie } from "/dexie/dexie.mjs";

const declare = () => {
  const db = new Dexie("dexie");
  db.version(1).stores({ docs: "id, age, org, [org+age], *tags" });
  return db;
};
let db;
const timed = (work) => async (n) => {
  const start = performance.now();
  const found = await work(n);
  const took = performance.now() - start;
  if (Array.isArray(found) && found.length !== n) throw new Error(`found ${found.length}, not ${n}`);
  return took;
};
let documents = [], fresh = 10_000;
window.dexie = {
  async seed(text) {
    documents = JSON.parse(text);
    await Dexie.delete("dexie");
    db = declare();
    await db.docs.bulkPut(documents);
  },
  open: timed(async () => {
    db.close();
    db = declare();
    await db.open();
  }),
  put: timed((n) => db.docs.put({ ...documents[n], rev: documents[n].rev + 1 })),
  put_new: timed(() => {
    const id = "doc-" + String(fresh++).padStart(6, "0");
    return db.docs.put({ ...documents[fresh % 10_000], id });
  }),
  tidy: timed((n) => db.docs.where("id").aboveOrEqual("doc-" + String(n).padStart(6, "0")).delete()),
  put_many: timed((n) => db.docs.bulkPut(documents.slice(0, n)).then(() => null)),
  get: timed((n) => db.docs.get(documents[n].id).then(() => null)),
  gets: timed((n) => Promise.all(documents.slice(0, n).map((one) => db.docs.get(one.id)))),
  get_many: timed((n) => db.docs.bulkGet(documents.slice(0, n).map((one) => one.id))),
  range: timed(() => db.docs.where("age").between(20, 25, true, false).toArray()),
  all: timed((n) => db.docs.toArray()),
};
