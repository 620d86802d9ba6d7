"""Notes in a database, and a count of who looked."""

from gantry import Problem, delete, get, kv, log, post, settings, sql


@post("/notes")
def keep(request):
    text = request.text().strip()
    most = int(settings.get("length_max"))
    if not text:
        raise Problem(422, "note.empty", "a note needs a text")
    if len(text) > most:
        raise Problem(422, "note.too_long", f"a note has at most {most} characters")
    note = sql.open("main").execute("INSERT INTO notes (text) VALUES ($1)", text).last_insert_id
    log.info(f"kept note {note}")
    return {"id": note, "text": text}, 201


@get("/notes/{id}")
def read(request, id):
    note = sql.open("main").query_one("SELECT id, text FROM notes WHERE id = $1", id)
    if note is None:
        raise Problem(404, "note.unknown", "there is no such note")
    return {**note, "reads": kv.open("reads").increment(id)}


@delete("/notes/{id}")
def forget(request, id):
    if sql.open("main").execute("DELETE FROM notes WHERE id = $1", id).rows_affected == 0:
        raise Problem(404, "note.unknown", "there is no such note")
    kv.open("reads").delete(id)
