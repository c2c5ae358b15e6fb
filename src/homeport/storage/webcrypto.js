// The sealed format in a browser, by WebCrypto; storage/vault.py is its twin on CPython, docs/sealed.md
// the specification. Keys are CryptoKey objects that give nobody their bytes.
//
// What opens or seals never rejects: it resolves to an Error, for a promise that fails while nobody
// looks at it yet is an unhandled one.
() => {
  "use strict";
  const subtle = globalThis.crypto?.subtle, DEVICES = "homeport-keys";
  const VERSION = 1, HEAD = 17, TAG = 16, ITERATIONS = 600_000;
  const utf8 = new TextEncoder(), texts = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const random = (size) => crypto.getRandomValues(new Uint8Array(size));
  const named = (name, message) => Object.assign(new Error(message), { name });
  const plain = (error) =>
    named(error?.name || "Error", String(error?.message || error?.name || error));
  const to64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  const from64 = (text) => Uint8Array.from(atob(text), (char) => char.charCodeAt(0));

  const keyForm = (key) => {
    if (typeof key === "string") return utf8.encode("s" + key);
    const form = new Uint8Array(typeof key === "number" ? 9 : 1 + (key.byteLength ?? 0));
    if (typeof key === "number") {
      form[0] = 0x6e;
      new DataView(form.buffer).setFloat64(1, key + 0);
    } else {
      form[0] = 0x62;
      form.set(new Uint8Array(key.buffer ?? key, key.byteOffset ?? 0, key.byteLength), 1);
    }
    return form;
  };

  const associated = (ring, kind, collection, key) => {
    const words = [utf8.encode("homeport sealed 1"), ring, utf8.encode(kind)];
    const parts = [...words, utf8.encode(collection), keyForm(key)];
    const found = new Uint8Array(parts.reduce((total, part) => total + 4 + part.length, 0));
    const view = new DataView(found.buffer);
    let at = 0;
    for (const part of parts) {
      view.setUint32(at, part.length);
      found.set(part, at + 4);
      at += 4 + part.length;
    }
    return found;
  };

  const sealBytes = async (key, number, ring, place, bytes) => {
    const iv = random(12), additionalData = associated(ring, ...place);
    const sealed = await subtle.encrypt({ name: "AES-GCM", iv, additionalData }, key, bytes);
    const box = new Uint8Array(HEAD + sealed.byteLength);
    box[0] = VERSION;
    new DataView(box.buffer).setUint32(1, number);
    box.set(iv, 5);
    box.set(new Uint8Array(sealed), HEAD);
    return box;
  };

  const openBytes = (key, ring, place, box) =>
    subtle.decrypt(
      { name: "AES-GCM", iv: box.subarray(5, HEAD), additionalData: associated(ring, ...place) },
      key,
      box.subarray(HEAD),
    );

  const sealingKey = async (bytes, ring) => {
    const base = await subtle.importKey("raw", bytes, "HKDF", false, ["deriveKey"]);
    const how = { name: "HKDF", hash: "SHA-256", salt: ring, info: utf8.encode("homeport seal") };
    const what = { name: "AES-GCM", length: 256 };
    return subtle.deriveKey(how, base, what, false, ["encrypt", "decrypt"]);
  };

  // -- the user's key

  const devices = (mode, work) =>
    new Promise((resolve, reject) => {
      const opening = indexedDB.open(DEVICES);
      opening.onupgradeneeded = () => opening.result.createObjectStore("keys");
      opening.onerror = () => reject(plain(opening.error));
      opening.onsuccess = () => {
        const database = opening.result;
        database.onversionchange = () => database.close();
        let found;
        const tx = database.transaction("keys", mode);
        const end = (settle) => () => (database.close(), settle());
        tx.oncomplete = end(() => resolve(found));
        tx.onabort = end(() => reject(plain(tx.error)));
        work(tx.objectStore("keys"), (value) => (found = value));
      };
    });

  const deviceKey = (name) =>
    devices("readonly", (store, found) => {
      const request = store.get(name);
      request.onsuccess = () => found(request.result);
    });

  const userKey = async (secret, kdf) => {
    const wrong = named("WrongKey", kdf.name);
    if (secret.name !== kdf.name) throw wrong;
    if (kdf.name === "device") {
      const key = await deviceKey(secret.secret);
      if (key === undefined) throw wrong;
      return key;
    }
    const use = [{ name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"]];
    const given = from64(secret.secret);
    if (kdf.name === "raw") return subtle.importKey("raw", given, ...use);
    const base = await subtle.importKey("raw", given, "PBKDF2", false, ["deriveKey"]);
    const { iterations } = kdf;
    const how = { name: "PBKDF2", hash: "SHA-256", salt: from64(kdf.salt), iterations };
    return subtle.deriveKey(how, base, ...use);
  };

  // How a new ring makes its user key.
  const kdfOf = ({ name }) =>
    name === "pbkdf2-sha256"
      ? { name, salt: to64(random(16)), iterations: ITERATIONS }
      : { name, salt: "", iterations: 0 };

  // The bytes of a data key; who takes them wipes them.
  const dataKey = async (user, kdf, ring, number, text) => {
    try {
      return new Uint8Array(await openBytes(user, ring, ["key", "", +number], from64(text)));
    } catch {
      throw named("WrongKey", kdf.name);
    }
  };

  // -- vaults

  const vaultOf = (ring, keys, current) => {
    const broken = ([kind, collection, key]) => {
      const shown = typeof key === "object" ? null : key;
      return named("SealBroken", JSON.stringify([kind, collection, shown]));
    };
    return {
      seal: (kind, collection, key, text) =>
        sealBytes(keys.get(current), current, ring, [kind, collection, key], utf8.encode(text))
          .catch(plain),
      async open(kind, collection, key, box) {
        const place = [kind, collection, key];
        if (!(box instanceof Uint8Array) || box.length < HEAD + TAG || box[0] !== VERSION)
          return broken(place);
        const number = new DataView(box.buffer, box.byteOffset).getUint32(1);
        if (!keys.has(number)) return broken(place);
        try {
          return texts.decode(await openBytes(keys.get(number), ring, place, box));
        } catch {
          return broken(place);
        }
      },
    };
  };

  const guarded = (work) => async (...given) => {
    try {
      if (subtle === undefined) throw named("SecurityError", "WebCrypto needs https or localhost");
      return await work(...given);
    } catch (error) {
      throw plain(error);
    }
  };

  return {
    // → [the new ring as JSON, vault]. secret: {name, secret}.
    make: guarded(async (secretText) => {
      const secret = JSON.parse(secretText), ring = random(16), bytes = random(32);
      const kdf = kdfOf(secret), user = await userKey(secret, kdf);
      const box = await sealBytes(user, 0, ring, ["key", "", 1], bytes);
      const keys = new Map([[1, await sealingKey(bytes, ring)]]);
      bytes.fill(0);
      const made = { id: to64(ring), kdf, keys: { 1: to64(box) }, current: 1, v: VERSION };
      return [JSON.stringify(made), vaultOf(ring, keys, 1)];
    }),

    // → vault of a ring that Python has looked at; throws an error named "WrongKey".
    unlock: guarded(async (ringText, secretText) => {
      const { id, kdf, keys: boxes, current } = JSON.parse(ringText), ring = from64(id);
      const user = await userKey(JSON.parse(secretText), kdf), keys = new Map();
      for (const [number, text] of Object.entries(boxes)) {
        const bytes = await dataKey(user, kdf, ring, number, text);
        keys.set(+number, await sealingKey(bytes, ring));
        bytes.fill(0);
      }
      return vaultOf(ring, keys, current);
    }),

    // → the ring with the same data keys under another user key; throws one named "WrongKey".
    rewrap: guarded(async (ringText, oldText, newText) => {
      const found = JSON.parse(ringText), ring = from64(found.id), secret = JSON.parse(newText);
      const before = await userKey(JSON.parse(oldText), found.kdf), keys = {};
      const kdf = kdfOf(secret), after = await userKey(secret, kdf);
      for (const [number, text] of Object.entries(found.keys)) {
        const bytes = await dataKey(before, found.kdf, ring, number, text);
        keys[number] = to64(await sealBytes(after, 0, ring, ["key", "", +number], bytes));
        bytes.fill(0);
      }
      return JSON.stringify({ ...found, kdf, keys });
    }),

    // A key of this browser, made when there is none.
    device: guarded(async (name) => {
      const made = await subtle.generateKey(
        { name: "AES-GCM", length: 256 }, false, ["encrypt", "decrypt"],
      );
      await devices("readwrite", (store) => {
        const request = store.getKey(name);
        request.onsuccess = () => request.result === undefined && store.put(made, name);
      });
      return true;
    }),

    forget: guarded(async (name) => {
      await devices("readwrite", (store) => store.delete(name));
      return true;
    }),
  };
}
