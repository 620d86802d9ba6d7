// What a plugin can do and what happens to it.

import {
  Problem, Response, ServiceError, context, decode, identity, kv, log, outbound, router, secrets, settings, sql, tokens,
} from "../gantry/index.js";

const app = router();

app.get("/echo/{word}", (request) => ({
  method: request.method,
  path: request.path,
  word: request.params.word,
  query: request.query.get("q"),
  header: request.header("X-Name"),
  missing: request.header("x-missing") ?? null,
  route: context.route(),
}));

app.post("/echo/{word}", (request) => new Response(request.bytes, { status: 201, headers: { "X-Word": request.params.word } }));

app.get("/who", () => {
  const caller = identity.current();
  return { name: caller?.name ?? null, roles: caller?.roles ?? [], may: caller?.has("things.write") ?? false };
});

const refusal = (call) => {
  try {
    call();
    return "none";
  } catch (error) {
    if (error instanceof ServiceError) return error.code;
    throw error;
  }
};

const cases = {
  kv() {
    const things = kv.open("things");
    things.put("größe", "🦀 zwölf");
    things.put("bytes", Uint8Array.of(0, 255, 1));
    things.putJson("json", { a: [1, null] });
    things.increment("count", 2);
    const version = things.getEntry("größe").version;
    return {
      text: things.getText("größe"),
      bytes: [...things.get("bytes")],
      json: things.getJson("json"),
      missing: things.get("nothing") ?? null,
      sum: things.increment("count", 3),
      absent: refusal(() => things.put("größe", "x", { ifAbsent: true })),
      stale: refusal(() => things.put("größe", "x", { ifVersion: "no-such" })),
      current: refusal(() => things.put("größe", "x", { ifVersion: version })),
      deleted: [things.delete("json"), things.delete("json")],
      keys: things.keys(),
    };
  },
  sql() {
    const db = sql.open("main");
    const insert = "INSERT INTO things (name, weight, data, note) VALUES ($1, $2, $3, $4)";
    const { rowsAffected, lastInsertId } = db.execute(insert, "brød", 1.5, Uint8Array.of(0, 255), null);
    const rows = db.query("SELECT * FROM things").map((row) => ({ ...row, data: [...row.data] }));
    try {
      db.transaction((tx) => {
        tx.execute(insert, "undone", 0, null, null);
        throw new Error("no");
      });
    } catch (error) {
      if (error.message !== "no") throw error;
    }
    db.transaction((tx) => tx.execute(insert, "done", 2, null, "note"));
    return {
      rowsAffected,
      lastInsertId,
      rows,
      twice: refusal(() => db.execute(insert, "done", 2, null, null)),
      names: db.query("SELECT name FROM things ORDER BY id").map((row) => row.name),
      none: db.queryOne("SELECT * FROM things WHERE id = $1", 99) ?? null,
    };
  },
  secret: () => ({ key: secrets.reveal("key"), unset: refusal(() => secrets.reveal("unset")) }),
  setting: () => ({ greeting: settings.get("greeting"), missing: settings.get("missing") ?? null }),
  token() {
    const token = tokens.sign("invite", "ann", 60_000);
    return { subject: tokens.verify("invite", token), other: refusal(() => tokens.verify("reset", token)) };
  },
  random: () => ({ random: Math.random(), uuid: crypto.randomUUID(), now: Date.now() }),
  fetch(request) {
    const answer = outbound.fetch(request.query.get("url"), { headers: { "x-from": "plugin" }, timeoutMs: 2000 });
    return { status: answer.status, text: answer.text() };
  },
  system: () => ({ environment: [], file: "none", socket: "none" }),
  denied: () => kv.open("others").get("x"),
  problem() {
    throw new Problem(422, "thing.wrong", "it is \"wrong\"", { headers: { "X-Why": "because" } });
  },
  throw() {
    throw new Error("the password is hunter2");
  },
  type: () => null.x,
  nothing: () => undefined,
  log() {
    log.warn("a line of the plugin");
    return "logged";
  },
  loop() {
    for (;;);
  },
  bomb() {
    const all = [];
    for (;;) all.push(new Uint8Array(1 << 20).fill(1));
  },
  deep() {
    const down = (n) => down(n + 1) + 1;
    return down(0);
  },
};

app.get("/{case}", (request) => cases[request.params.case](request));

export default app;
// Runs when the plugin is built, and must not fail there.
decode(new Uint8Array(0));
