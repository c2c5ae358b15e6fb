// The hands of the IndexedDB store: Python decides what to do, this does it.
//
// One step of a transaction is a list of commands, executed in order, and then one call back with
// all their results, inside the callback of the last request, while the transaction is still
// active. What Python returns from it is the next step, or that there is none. No promise and no
// object crosses the border, only numbers and one string each way: fields joined by U+001E, which
// no JSON text can hold; the first is JSON, the others are the JSON texts of documents as they are
// stored.
//
// A record is {k: key, d: text, r: revision, c: created, m: modified, e: expires, t: token,
// b: bucket} and the values of the indexes. A field without a value is left out; in an index column
// it is [], which sorts behind every key, so that an index holds every document.
() => {
  "use strict";
  const SEP = "\u001e";
  const databases = new Map(), transactions = new Map();
  let tell = null, tabs = null; // (what, id, name, text) => void, in Python; hears of commits
  let over = false; // nobody is told any more
  let vault = null; // of webcrypto.js, when there is a key
  let serial = 0;

  // -- keys: numbers and texts are themselves; the rest has a form that JSON can carry

  const fromText = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));
  const K = (key) => {
    if (typeof key !== "object") return key;
    if (Array.isArray(key)) return key.map(K);
    if ("b" in key) return fromText(key.b);
    if ("u" in key) return String.fromCharCode(...key.u); // text with half a surrogate pair
    return key.x; // "1e999" was too large for a number: an infinity
  };
  const J = (key) => {
    if (typeof key === "number" || typeof key === "string") return key;
    if (Array.isArray(key)) return key.map(J);
    return { b: btoa(String.fromCharCode(...new Uint8Array(key.buffer ?? key))) };
  };
  const range = (r) => {
    if (r === null) return null;
    const [low, high, lowOpen, highOpen] = r;
    if (low === null && high === null) return null;
    if (low === null) return IDBKeyRange.upperBound(K(high), highOpen);
    if (high === null) return IDBKeyRange.lowerBound(K(low), lowOpen);
    return IDBKeyRange.bound(K(low), K(high), lowOpen, highOpen);
  };

  // -- requests

  const done = (request) =>
    new Promise((resolve, reject) => {
      request.onsuccess = () => resolve(request.result);
      request.onerror = (event) => {
        event.preventDefault(); // the step fails; whether the transaction does, Python says
        event.stopPropagation();
        reject(request.error);
      };
    });

  // A write that the step doesn't wait for. The commit does, see there.
  const write = (t, request) => {
    t.last = request;
    return request;
  };

  // -- sealing: texts of documents, rows of the log and named values are boxes where there is a key

  const PLAIN = new Set(["epoch", "layout", "ring", "sync.collections"]); // nothing of a user's

  // Keep the transaction alive with small requests until work outside of it is done. They end with
  // it, whatever comes of it.
  const during = (t, work) =>
    new Promise((resolve, reject) => {
      let end = null;
      work.then(
        (value) => { end = () => resolve(value); },
        (error) => { end = () => reject(error); },
      );
      const store = t.tx.objectStore(t.tx.objectStoreNames[0]);
      const spin = () => done(store.get(-Infinity)).then(() => (end === null ? spin() : end())).catch(reject);
      spin();
    });

  const all = async (t, boxes) => {
    if (!boxes.some((one) => one instanceof Promise)) return boxes;
    const found = await during(t, Promise.all(boxes));
    for (const one of found) if (one instanceof Error) throw one;
    return found;
  };

  const place = (store) => store.slice("docs:".length);
  const clear = (store, { k, d }) =>
    vault === null ? d : vault.open("document", place(store), k, d);
  const clearNamed = (t, records) =>
    vault === null
      ? records.map((record) => record?.v ?? null)
      : all(t, records.map((record) =>
          record === undefined || PLAIN.has(record.k)
            ? record?.v ?? null
            : vault.open("named", "", record.k, record.v)));

  const alive = (record, now) =>
    record !== undefined && (now === null || record.e === undefined || record.e > now);

  // Visit records in order until `take` returns false; null means that it moved the cursor itself.
  const walk = (source, over, direction, take) =>
    new Promise((resolve, reject) => {
      const request = source.openCursor(over, direction);
      request.onerror = (event) => {
        event.preventDefault();
        event.stopPropagation();
        reject(request.error);
      };
      request.onsuccess = () => {
        const cursor = request.result, go = cursor ? take(cursor) : false;
        if (go === false) resolve();
        else if (go !== null) cursor.continue();
      };
    });

  const keyIn = ({ keyPath }, record) =>
    Array.isArray(keyPath) ? keyPath.map((name) => record[name]) : record[keyPath];

  // What of a range lies strictly behind a key; undefined when nothing does.
  const behind = (over, key, prev) => {
    const { lower, upper, lowerOpen, upperOpen } = over ?? {};
    const bound = prev ? lower : upper, edge = prev ? upper : lower;
    if (edge !== undefined && (prev ? indexedDB.cmp(key, edge) > 0 : indexedDB.cmp(key, edge) < 0))
      return over;
    if (bound === undefined)
      return prev ? IDBKeyRange.upperBound(key, true) : IDBKeyRange.lowerBound(key, true);
    if (prev ? indexedDB.cmp(key, bound) <= 0 : indexedDB.cmp(key, bound) >= 0) return undefined;
    return prev
      ? IDBKeyRange.bound(lower, key, lowerOpen, true)
      : IDBKeyRange.bound(key, upper, true, upperOpen);
  };

  // At most n records of a range, in order, behind after = [index key, document key] if given.
  const rowsOf = async (from, over, prev, n, after) => {
    if (!after) return readRows(from, over, prev, n);
    const store = from.objectStore === undefined, found = [];
    if (!store && (over === null || over.includes(after[0]))) {
      // Documents with the very key of the position stand in the order of their own keys.
      let jumped = false;
      await walk(from, IDBKeyRange.only(after[0]), prev ? "prev" : "next", (cursor) => {
        const ahead = indexedDB.cmp(cursor.primaryKey, after[1]) * (prev ? -1 : 1);
        if (ahead > 0) return found.push(cursor.value) < n;
        if (ahead === 0 || jumped) return true;
        jumped = true;
        cursor.continuePrimaryKey(after[0], after[1]);
        return null;
      });
    }
    const rest = behind(over, after[0], prev);
    if (rest === undefined || found.length >= n) return found;
    return found.concat(await readRows(from, rest, prev, n - found.length));
  };

  const readRows = async (from, over, prev, n) => {
    if (!prev && n === Infinity && from.objectStore === undefined) {
      const found = [];
      await inPieces(from, over, (records) => found.push(...records));
      return found;
    }
    if (!prev) return done(n === Infinity ? from.getAll(over) : from.getAll(over, n));
    if (n === Infinity) return (await done(from.getAll(over))).reverse();
    if (from.getAllRecords !== undefined) {
      const records = await done(from.getAllRecords({ query: over, count: n, direction: "prev" }));
      return records.map((record) => record.value);
    }
    const found = [];
    await walk(from, over, "prev", (cursor) => found.push(cursor.value) < n);
    return found;
  };

  // All records of a range of a store in pieces, in order: `take` has one while the next is on its
  // way. In Firefox ten thousand in one take twice as long.
  const PIECE = 500;
  const inPieces = async (store, over, take) => {
    for (let next = done(store.getAll(over, PIECE)); next !== null; ) {
      const records = await next, full = records.length === PIECE;
      const rest = full ? behind(over, records[PIECE - 1].k, false) : undefined;
      next = rest === undefined ? null : done(store.getAll(rest, PIECE));
      next?.catch(() => {}); // it is awaited behind `take`, which may throw
      take(records);
    }
  };

  // Records by key. Many keys are often neighbours, and one range costs an eighth of as many gets:
  // try that first, and for a while no more where others stood between them.
  const CLOSE = 8, PATIENCE = 16, sparse = new Map();
  const recordsOf = async (store, keys) => {
    const each = (some) => Promise.all(some.map((key) => done(store.get(key))));
    const kind = typeof keys[0], wait = sparse.get(store.name) ?? 0;
    if (keys.length < CLOSE || (kind !== "string" && kind !== "number")) return each(keys);
    if (keys.some((key) => typeof key !== kind)) return each(keys);
    if (wait > 0) {
      sparse.set(store.name, wait - 1);
      return each(keys);
    }
    const low = keys.reduce((a, b) => (b < a ? b : a)), high = keys.reduce((a, b) => (b > a ? b : a));
    const near = await done(store.getAll(IDBKeyRange.bound(low, high), keys.length));
    const known = new Map(near.map((record) => [record.k, record]));
    if (near.length < keys.length) return keys.map((key) => known.get(key));
    const end = near[near.length - 1].k, rest = keys.filter((key) => key > end);
    if (rest.length * 2 > keys.length) sparse.set(store.name, PATIENCE);
    (await each(rest)).forEach((record, n) => known.set(rest[n], record));
    return keys.map((key) => known.get(key));
  };

  const joined = (pieces) => {
    const found = new Uint8Array(pieces.reduce((sum, one) => sum + one.length, 0));
    let at = 0;
    for (const one of pieces) {
      found.set(one, at);
      at += one.length;
    }
    return found;
  };

  const source = (t, c) => {
    const store = t.tx.objectStore(c.s);
    return c.i === null ? store : store.index(c.i);
  };

  const fill = (record, [, columns, multi, words]) => {
    columns.forEach((value, i) => (record["c" + i] = K(value)));
    multi.forEach((values, i) => (record["m" + i] = values.map(K)));
    words.forEach((values, i) => (record["w" + i] = values));
    return record;
  };

  // -- commands: (transaction, command, texts of the step) => header, and texts into `out`

  const commands = {
    // Records by key: [] or [expires] for each, and their texts.
    async get(t, c, out) {
      const store = t.tx.objectStore(c.s);
      const found = await recordsOf(store, c.k.map(K));
      for (const record of found) if (alive(record, c.now)) out.push(clear(c.s, record));
      return found.map((record) => (alive(record, c.now) ? 1 : 0));
    },

    async exist(t, c) {
      const store = t.tx.objectStore(c.s);
      const found = await Promise.all(c.k.map((key) => done(store.get(K(key)))));
      return found.map((record) => (alive(record, c.now) ? 1 : 0));
    },

    // One record with everything beside its text.
    async row(t, c, out) {
      const record = await done(t.tx.objectStore(c.s).get(K(c.k)));
      if (!alive(record, c.now)) return null;
      out.push(clear(c.s, record));
      return [record.r, record.c, record.m, record.e ?? null, record.t ?? null, record.b ?? null];
    },

    // Rows of an index or store, range after range. A range: [low, high, low open, high open, after],
    // after = [index key, document key] to begin behind, or null. f: "t" texts, "k" keys, "e" both.
    // n: at most so many, null = all. → [keys, [range, index key, document key] of the last row].
    async scan(t, c, out) {
      const from = source(t, c), keys = c.f === "t" ? null : [];
      let left = c.n ?? Infinity, last = null;
      for (let i = 0; i < c.r.length && left > 0; i++) {
        const after = c.r[i][4] && c.r[i][4].map(K);
        const wanted = c.now === null ? left : Infinity; // some of them may have expired
        const rows = await rowsOf(from, range(c.r[i]), c.d === "prev", wanted, after);
        for (const record of rows) {
          if (left <= 0 || !alive(record, c.now)) continue;
          if (keys !== null) keys.push(J(record.k));
          if (c.f !== "k") out.push(clear(c.s, record));
          left--;
          last = [i, from.multiEntry ? c.r[i][0] : J(keyIn(from, record)), J(record.k)];
        }
      }
      return [keys, last];
    },

    // As scan, of texts alone → bytes, which cross the border cheaper than text: one JSON array.
    async pack(t, c) {
      const from = source(t, c), utf8 = new TextEncoder(), bytes = [], most = c.n ?? Infinity;
      let texts = [], total = 0;
      const pack = (found) => bytes.push(utf8.encode((bytes.length > 0 ? "," : "[") + found.join(",")));
      const take = (records) => {
        for (const record of records) {
          if (total >= most || !alive(record, c.now)) continue;
          texts.push(clear(c.s, record));
          total++;
        }
        if (vault === null && texts.length > 0) {
          pack(texts);
          texts = [];
        }
      };
      for (const one of c.r) {
        if (total >= most) break;
        const wanted = c.now === null && c.n !== null ? c.n - total : Infinity, prev = c.d === "prev";
        if (!prev && wanted === Infinity && from.objectStore === undefined)
          await inPieces(from, range(one), take);
        else take(await rowsOf(from, range(one), prev, wanted, null));
      }
      if (texts.length > 0) pack(await all(t, texts));
      bytes.push(utf8.encode(bytes.length > 0 ? "]" : "[]"));
      t.packed = joined(bytes);
      return null;
    },

    async count(t, c) {
      const from = source(t, c);
      let total = 0;
      for (const one of c.r) {
        const over = range(one);
        if (c.now === null) total += await done(from.count(over));
        else for (const record of await done(from.getAll(over))) if (alive(record, c.now)) total++;
      }
      return total;
    },

    // Who holds which value of an index: for each value the keys of the living documents.
    async holders(t, c) {
      const from = source(t, c);
      const found = await Promise.all(c.v.map((value) => done(from.getAll(K(value)))));
      return found.map((records) => records.filter((r) => alive(r, c.now)).map((r) => J(r.k)));
    },

    // rows: [key, column values, multi-entry values, words] each, their texts in the step's fields
    // from `at`. tokens: [token, bucket] each, or null.
    async put(t, c, out, fields) {
      const store = t.tx.objectStore(c.s), keys = c.rows.map((row) => K(row[0]));
      const texts = sealed(c, keys, fields);
      putRows(t, c, store, keys, await recordsOf(store, keys), await all(t, texts));
      return null;
    },

    // A whole transaction in one step: `put`, and a row of the log with the text that follows those
    // of the documents. null = `named` has other texts than flags: nothing was done. Else the
    // number of the row of the log before its own, and the stamp. every, kept: prune the log.
    async store(t, c, out, fields) {
      const store = t.tx.objectStore(c.s), named = t.tx.objectStore("named");
      const keys = c.rows.map((row) => K(row[0])), texts = sealed(c, keys, fields);
      let number = mine.number, stamp = mine.stamp, olds = guessed(t, c, keys);
      if (olds === null) {
        let found;
        [[number, stamp], olds, ...found] = await Promise.all([
          commands.head(t),
          recordsOf(store, keys),
          ...c.flags.map(([name]) => done(named.get(name))),
        ]);
        if (c.flags.some(([, value], n) => value !== (found[n]?.v ?? null))) return null;
      }
      c.stamp = Math.max(c.stamp, stamp);
      const written = putRows(t, c, store, keys, olds, await all(t, texts));
      const drop = (number + 1) % c.every === 0 ? number + 1 - c.kept : null;
      if (c.logged) {
        await commands.log(t, { stamp: c.stamp, at: c.at + keys.length, drop }, out, fields);
        if (t.guessing && (await done(t.row)) !== number + 1) throw WRONG;
        t.wrote = { place: c.s, stamp: c.stamp, keys, written };
      }
      t.whole = true;
      return [number, c.stamp];
    },

    // The index fields of records anew; everything else stays.
    async refill(t, c) {
      const store = t.tx.objectStore(c.s);
      const olds = await Promise.all(c.rows.map((row) => done(store.get(K(row[0])))));
      c.rows.forEach((row, n) => {
        const record = Object.fromEntries(
          Object.entries(olds[n]).filter(([name]) => !/^[cmw]\d/.test(name)),
        );
        write(t, store.put(fill(record, row)));
      });
      return null;
    },

    // → for each key: 0 there was none, 1 there was an expired one, 2 there was one.
    async delete(t, c) {
      const store = t.tx.objectStore(c.s), keys = c.k.map(K), gone = new Set();
      const olds = await Promise.all(keys.map((key) => done(store.get(key))));
      return olds.map((old, n) => {
        const id = JSON.stringify(c.k[n]);
        if (old === undefined || gone.has(id)) return 0;
        gone.add(id);
        note(t, c.s, keys[n], old);
        write(t, store.delete(keys[n]));
        return alive(old, c.now) ? 2 : 1;
      });
    },

    // Named texts: read some, write others (null removes).
    async named(t, c) {
      const store = t.tx.objectStore("named");
      const texts = c.set.map(([name, value]) =>
        vault === null || value === null || PLAIN.has(name) ? value : vault.seal("named", "", name, value));
      let found = await Promise.all(c.get.map((name) => done(store.get(name))));
      found = await clearNamed(t, found);
      const values = await all(t, texts);
      for (const [n, [name]] of c.set.entries()) {
        const value = values[n];
        if (t.journal !== null) note(t, "named", name, await done(store.get(name)));
        write(t, value === null ? store.delete(name) : store.put({ k: name, v: value }));
      }
      return found;
    },

    // The number and stamp of the last change row: [0, 0] when there is none.
    async head(t) {
      let found = [0, 0];
      await walk(t.tx.objectStore("changes"), null, "prev", (cursor) => {
        found = [cursor.value.n, cursor.value.s];
        return false;
      });
      return found;
    },

    // What every write begins with, in one round: named texts, and the head.
    async begin(t, c) {
      return Promise.all([commands.named(t, { get: c.get, set: [] }), commands.head(t)]);
    },

    // A change row. drop: rows up to this go.
    async log(t, c, out, fields) {
      const store = t.tx.objectStore("changes");
      if (vault === null) t.row = write(t, store.add({ s: c.stamp, b: fields[c.at] }));
      else {
        const number = await done(store.add({ s: c.stamp }));
        const [box] = await all(t, [vault.seal("log", "", number, fields[c.at])]);
        write(t, store.put({ n: number, s: c.stamp, b: box }));
      }
      if (c.drop !== null) write(t, store.delete(IDBKeyRange.upperBound(c.drop)));
      return null;
    },

    // The rows behind one, at most c.most if that is given.
    async changes(t, c, out) {
      const over = IDBKeyRange.lowerBound(c.after, true);
      const rows = await done(t.tx.objectStore("changes").getAll(over, c.most));
      rows.forEach((row) => out.push(vault === null ? row.b : vault.open("log", "", row.n, row.b)));
      return rows.map((row) => row.n);
    },

    // Old change rows go → how many.
    async prune(t, c) {
      const store = t.tx.objectStore("changes"), over = IDBKeyRange.upperBound(c.to);
      const total = await done(store.count(over));
      write(t, store.delete(over));
      return total;
    },

    // Named texts whose names begin so: [name, text] each.
    async prefixed(t, c) {
      const over = IDBKeyRange.bound(c.prefix, c.prefix + "\uffff");
      const found = await done(t.tx.objectStore("named").getAll(over));
      const values = await clearNamed(t, found);
      return found.map((one, n) => [one.k, values[n]]);
    },

    // Bytes of the texts of a store.
    async size(t, c) {
      const utf8 = new TextEncoder();
      let total = 0;
      await walk(t.tx.objectStore(c.s), null, "next", (cursor) => {
        const { d } = cursor.value;
        total += typeof d === "string" ? utf8.encode(d).length : d.byteLength - 33; // of a box
      });
      return total;
    },

    // Go back to a point of the journal.
    async back(t, c) {
      while (t.journal.length > c.to) {
        const [name, key, old] = t.journal.pop();
        const store = t.tx.objectStore(name);
        write(t, old === undefined ? store.delete(key) : store.put(old));
      }
      return null;
    },

    async mark(t) {
      t.journal ??= [];
      return t.journal.length;
    },

    // In an upgrade only: make a store, or give it these indexes. indexes: [name, property or list,
    // one entry per element].
    async shape(t, c) {
      const database = t.tx.db;
      const store = database.objectStoreNames.contains(c.s)
        ? t.tx.objectStore(c.s)
        : database.createObjectStore(c.s, { keyPath: c.key, autoIncrement: c.auto });
      for (const name of [...store.indexNames]) store.deleteIndex(name);
      for (const [name, path, multi] of c.indexes) store.createIndex(name, path, { multiEntry: multi });
      return null;
    },
  };

  const sealed = (c, keys, fields) => {
    const texts = fields.slice(c.at, c.at + keys.length);
    return vault === null
      ? texts
      : texts.map((text, n) => vault.seal("document", place(c.s), keys[n], text));
  };

  const putRows = (t, c, store, keys, olds, texts) => {
    const written = new Map(); // by key, for keys that come twice in one call
    c.rows.forEach((row, n) => {
      const key = keys[n], id = typeof key === "object" ? JSON.stringify(row[0]) : key;
      const old = written.get(id) ?? olds[n], was = alive(old, c.now) ? old : undefined;
      const record = { k: key, d: texts[n], m: c.stamp };
      record.r = (was?.r ?? 0) + 1;
      record.c = was?.c ?? c.stamp;
      if (c.expires !== null && c.expires[n] !== null) record.e = c.expires[n];
      const [token, bucket] = c.tokens === null ? [was?.t ?? null, was?.b ?? null] : c.tokens[n];
      if (token !== null) record.t = token;
      if (bucket !== null) record.b = bucket;
      fill(record, row);
      note(t, c.s, key, old);
      // A guess that there was none is wrong if there is one: then this fails.
      write(t, t.guessing && old === undefined ? store.add(record) : store.put(record));
      written.set(id, record);
    });
    return written;
  };

  // -- guessing: what this connection has written last it need not read again, if nobody has written
  // since. Whether somebody has says the number that the row of the log gets. A document that it has
  // not written itself is taken for a new one. A wrong guess is undone, and the transaction begun
  // anew without one.

  const WRONG = new Error("somebody else has written");
  const MINE_MOST = 5000, CAUTION = 16;
  const mine = { number: -1, stamp: 0, rows: new Map(), caution: 0 }; // number: of the row of the log
  let writing = 0; // transactions under way

  const forget = () => {
    mine.number = -1;
    mine.rows.clear();
  };

  const nameOf = (place, key) => place + (typeof key === "number" ? " n " : " s ") + key;

  // What is stored under the keys: records without what is written anew; null: it has to be read.
  const guessed = (t, c, keys) => {
    t.guessing = false;
    if (vault !== null || t.anew || writing > 1 || mine.number < 0 || !c.logged) return null;
    if (keys.some((key) => typeof key !== "string" && typeof key !== "number")) return null;
    if (mine.caution > 0) {
      mine.caution--;
      return null;
    }
    t.guessing = true;
    return keys.map((key) => mine.rows.get(nameOf(c.s, key)));
  };

  // A transaction that writes is committed.
  const learn = ({ wrote, row }) => {
    const number = row?.result;
    if (wrote === null || number === undefined) return forget();
    if (number !== mine.number + 1 || mine.rows.size > MINE_MOST) mine.rows.clear();
    mine.number = number;
    mine.stamp = wrote.stamp;
    for (const { k, r, c, t, b } of wrote.written.values())
      if (typeof k === "string" || typeof k === "number")
        mine.rows.set(nameOf(wrote.place, k), { r, c, t, b });
  };

  const note = (t, store, key, old) => {
    if (t.journal !== null) t.journal.push([store, key, old]);
  };

  const step = async (t, text) => {
    const fields = text.split(SEP), headers = [];
    let out = [""];
    for (const command of JSON.parse(fields[0])) headers.push(await commands[command.op](t, command, out, fields));
    if (t.packed !== null) {
      const packed = t.packed;
      t.packed = null;
      return packed; // such a step has one command
    }
    out = vault === null ? out : await all(t, out);
    out[0] = JSON.stringify(headers);
    return out.join(SEP);
  };

  // -- transactions and databases

  // again: begins the transaction anew, for one whose first step may be a guess.
  const follow = (id, tx, again = null) => {
    const t = {
      tx, journal: null, packed: null, last: null, whole: false, row: null, wrote: null,
      guessing: false, wrong: false, given: false, anew: false,
    };
    transactions.set(id, t);
    const writes = tx.mode === "readwrite";
    if (writes) writing++;
    const end = (what) => () => {
      if (writes) writing--;
      if (what === "complete" && writes) learn(t);
      if (what === "abort" && t.guessing) {
        forget();
        const wrong = t.wrong || tx.error?.name === "ConstraintError";
        if (wrong && !t.given) {
          mine.caution = CAUTION;
          return again();
        }
      }
      const answer = what === "complete" && t.whole ? t.answer : tx.error?.message ?? "";
      transactions.delete(id);
      if (what === "complete" && tx.mode === "readwrite") tabs.committed();
      if (what === "complete" && tx.mode === "readonly") return; // its last step said all
      tell(what, id, tx.error?.name ?? "", answer);
    };
    tx.oncomplete = end("complete");
    tx.onabort = end("abort");
    return t;
  };

  // Do what Python has answered: the next step, true = commit, false = abort.
  const go = (id, next) => {
    if (typeof next === "string") run(id, next);
    else if (next === true) commit(id);
    else if (next === false) abort(id);
  };

  // Tells "step" with the results, or "failed". A step that was the whole transaction is committed,
  // and "complete" brings its results.
  const run = (id, text) => {
    const t = transactions.get(id);
    if (t === undefined) go(id, tell("failed", id, "TransactionInactiveError", "it is over"));
    else
      step(t, text).then(
        (results) => {
          if (!t.whole) return go(id, tell("step", id, "", results));
          t.answer = results; // it is told when it has become true
          commit(id);
        },
        (error) => {
          t.wrong = error === WRONG;
          // What an abort ends with tells what for.
          if (t.guessing && (t.wrong || error?.name === "AbortError")) return undo(id);
          go(id, tell("failed", id, error?.name ?? "Error", String(error?.message ?? error)));
        },
      );
  };

  const commit = (id) => {
    const { tx, last } = transactions.get(id) ?? {};
    // An upgrade ends by itself; in Chromium 156 one that is told to, while indexes are being made,
    // never does.
    if (tx === undefined || tx.mode === "versionchange") return;
    // Firefox 153 calls a commit "complete" although the quota refused a request that was still
    // under way when it was asked for. Requests succeed in their order: the last speaks for all.
    if (last?.readyState === "pending") last.addEventListener("success", () => tx.commit?.());
    else tx.commit?.();
  };

  const undo = (id) => {
    try { transactions.get(id)?.tx.abort(); } catch { /* it is over already */ }
  };

  // Nobody wants it any more.
  const abort = (id) => {
    const t = transactions.get(id);
    if (t !== undefined) t.given = true;
    undo(id);
  };

  return {
    // others: of indexeddb_tabs.js.
    listen(callback, others) {
      tell = callback;
      tabs = others;
    },

    // Seal and open with this from now on.
    seal(found) { vault = found; },

    // version 0 = the one there is, or 1. Tells "open" with the version, "upgrade" in between,
    // "blocked", "refused". read, text: number and first step of a transaction that reads `named`,
    // begun behind "open".
    open(id, name, version, read, text) {
      const request = version ? indexedDB.open(name, version) : indexedDB.open(name);
      request.onupgradeneeded = (event) => {
        follow(id, request.transaction);
        go(id, tell("upgrade", id, String(event.oldVersion), ""));
      };
      request.onblocked = () => tell("blocked", id, "", "");
      request.onerror = (event) => {
        event.preventDefault();
        tell("refused", id, request.error?.name ?? "", request.error?.message ?? "");
      };
      request.onsuccess = () => {
        const database = request.result, handle = ++serial;
        if (over) return database.close();
        if (!version && database.objectStoreNames.length === 0) {
          database.close(); // whoever made it has not come to make its stores
          return this.open(id, name, database.version + 1, read, text);
        }
        forget(); // it may be another one of the same name
        databases.set(handle, database);
        const lost = (what) => () => {
          database.close();
          if (databases.delete(handle)) tell(what, handle, "", "");
        };
        database.onversionchange = lost("versionchange");
        database.onclose = lost("closed");
        tell("open", id, String(database.version), String(handle));
        if (read === undefined) return;
        try {
          follow(read, database.transaction(["named"], "readonly"));
        } catch (error) {
          return void tell("abort", read, error?.name ?? "Error", String(error?.message));
        }
        run(read, text);
      };
    },

    close(handle) {
      databases.get(handle)?.close();
      databases.delete(handle);
    },

    // Nothing is told any more, and what is still on its way comes to nothing: an upgrade whose
    // stores nobody makes would leave an empty database for good.
    end() { over = true; tell = () => false; },

    destroy(id, name) {
      const request = indexedDB.deleteDatabase(name);
      request.onblocked = () => tell("blocked", id, "", "");
      request.onsuccess = () => tell("open", id, "", "");
      request.onerror = () => tell("refused", id, request.error?.name ?? "", "");
    },

    // Begin a transaction with its first step. Throws a plain Error named after the reason.
    fly(id, handle, stores, mode, durability, text) {
      const names = JSON.parse(stores);
      const begin = () => databases.get(handle).transaction(names, mode, { durability });
      const anew = () => {
        try {
          follow(id, begin()).anew = true;
        } catch { // the connection was lost meanwhile
          transactions.delete(id);
          return tell("abort", id, "InvalidStateError", "the connection is closed");
        }
        run(id, text);
      };
      try {
        follow(id, begin(), anew);
      } catch (error) {
        throw Object.assign(new Error(String(error?.message)), { name: error?.name ?? "Error" });
      }
      run(id, text);
    },

    abort,
  };
}
