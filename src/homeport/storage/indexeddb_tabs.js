// The other connections to a database, in this page and in other tabs and workers: hints of commits,
// and who is there (indexeddb_alone.py). A connection shows itself by a Web Lock with a name of its
// own. gone: the names of those of this page that are closed; their locks take a moment to go.
(gone) => {
  "use strict";
  const me = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(36)).join("-");
  let tell = null; // (what, number, name, text) => void, in Python
  let channel = null; // to the others: 0 = "something was committed", {here: name}, {heard: name, by}
  let prefix = "", leave = null; // of the names of locks; ends that of this connection

  const others = async () => {
    const { held, pending } = await navigator.locks.query();
    const names = [...held, ...pending].map((one) => one.name);
    const here = names.filter((one) => one.startsWith(prefix)).map((one) => one.slice(prefix.length));
    return JSON.stringify(here.filter((one) => one !== me && !gone.has(one)));
  };
  const reason = (error) => String(error?.message ?? error);

  return {
    // Be known to the others. Tells "entered" with who was there before; "alone" when nobody on this
    // page's origin can show himself; "unlocked" on errors. From then on "hint", "visitor", "heard".
    enter(callback, name) {
      tell = callback;
      if (globalThis.BroadcastChannel === undefined) return void tell("alone", 0, "", "");
      channel = new BroadcastChannel("homeport/" + name);
      channel.onmessage = ({ data }) => {
        if (data === 0) tell("hint", 0, "", "");
        else if (data.here !== undefined) {
          tell("visitor", 0, "", "");
          channel?.postMessage({ heard: data.here, by: me });
        } else if (data.heard === me) tell("heard", 0, "", data.by);
      };
      if (globalThis.navigator?.locks === undefined) return void tell("alone", 0, "", "");
      prefix = "homeport/open/" + JSON.stringify(name);
      const held = new Promise((resolve) => { leave = resolve; });
      const entered = () => {
        others().then((found) => tell("entered", 0, "", found), (error) => tell("unlocked", 0, "", reason(error)));
        return held;
      };
      // In a task of its own: who opens a database does not wait for it.
      const { port1, port2 } = new MessageChannel();
      port1.onmessage = () => {
        port1.close();
        navigator.locks.request(prefix + me, entered).catch((error) => tell("unlocked", 0, "", reason(error)));
      };
      port2.postMessage(0);
    },

    // Ask the others whether they know; each tells this one "heard".
    announce() { channel?.postMessage({ here: me }); },

    // Look who is there: tells "crowd" with this number.
    look(number) {
      others().catch(() => '["unknown"]').then((found) => tell("crowd", number, "", found));
    },

    committed() { channel?.postMessage(0); },

    // Nothing is told any more.
    end() {
      channel?.close();
      channel = null;
      gone.add(me);
      leave?.();
      tell = () => {};
    },
  };
}
