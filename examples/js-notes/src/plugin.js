// Notes in a database, and a count of who looked.

import { Problem, Response, kv, log, router, settings, sql } from "../gantry/index.js";

const app = router();

app.post("/notes", (request) => {
  const text = request.text().trim();
  const max = Number(settings.get("length_max"));
  if (text === "") throw new Problem(422, "note.empty", "a note needs a text");
  if (text.length > max) throw new Problem(422, "note.too_long", `a note has at most ${max} characters`);
  const { lastInsertId: id } = sql.open("main").execute("INSERT INTO notes (text) VALUES ($1)", text);
  log.info(`kept note ${id}`);
  return Response.json({ id, text }, { status: 201 });
});

app.get("/notes/{id}", (request) => {
  const { id } = request.params;
  const note = sql.open("main").queryOne("SELECT id, text FROM notes WHERE id = $1", id);
  if (!note) throw new Problem(404, "note.unknown", "there is no such note");
  return { ...note, reads: kv.open("reads").increment(id) };
});

app.delete("/notes/{id}", (request) => {
  const { id } = request.params;
  const { rowsAffected } = sql.open("main").execute("DELETE FROM notes WHERE id = $1", id);
  if (rowsAffected === 0) throw new Problem(404, "note.unknown", "there is no such note");
  kv.open("reads").delete(id);
});

export default app;
