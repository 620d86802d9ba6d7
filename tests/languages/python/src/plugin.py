"""What a plugin can do and what happens to it."""

import os
import random
import socket
import time
import uuid

from gantry import (
    Problem, Response, ServiceError, context, get, identity, kv, log, outbound, post, secrets, settings, sql, tokens,
)


@get("/echo/{word}")
def echo(request, word):
    return {
        "method": request.method,
        "path": request.path,
        "word": word,
        "query": request.query.get("q"),
        "header": request.header("X-Name"),
        "missing": request.header("x-missing"),
        "route": context.route(),
    }


@post("/echo/{word}")
def echo_body(request, word):
    return Response(request.body, 201, {"X-Word": word})


@get("/who")
def who(request):
    caller = identity.current()
    if caller is None:
        return {"name": None, "roles": [], "may": False}
    return {"name": caller.name, "roles": caller.roles, "may": caller.has("things.write")}


def refusal(call, *arguments, **options):
    try:
        call(*arguments, **options)
    except ServiceError as error:
        return error.code
    return "none"


def case_kv(request):
    things = kv.open("things")
    things.put("größe", "🦀 zwölf")
    things.put("bytes", bytes([0, 255, 1]))
    things.put_json("json", {"a": [1, None]})
    things.increment("count", 2)
    version = things.get_entry("größe").version
    return {
        "text": things.get_text("größe"),
        "bytes": list(things.get("bytes")),
        "json": things.get_json("json"),
        "missing": things.get("nothing"),
        "sum": things.increment("count", 3),
        "absent": refusal(things.put, "größe", "x", if_absent=True),
        "stale": refusal(things.put, "größe", "x", if_version="no-such"),
        "current": refusal(things.put, "größe", "x", if_version=version),
        "deleted": [things.delete("json"), things.delete("json")],
        "keys": things.keys(),
    }


def case_sql(request):
    db = sql.open("main")
    insert = "INSERT INTO things (name, weight, data, note) VALUES ($1, $2, $3, $4)"
    run = db.execute(insert, "brød", 1.5, bytes([0, 255]), None)
    rows = [{**row, "data": list(row["data"])} for row in db.query("SELECT * FROM things")]
    try:
        with db.transaction() as tx:
            tx.execute(insert, "undone", 0, None, None)
            raise KeyError("no")
    except KeyError:
        pass
    with db.transaction() as tx:
        tx.execute(insert, "done", 2, None, "note")
    return {
        "rowsAffected": run.rows_affected,
        "lastInsertId": run.last_insert_id,
        "rows": rows,
        "twice": refusal(db.execute, insert, "done", 2, None, None),
        "names": [row["name"] for row in db.query("SELECT name FROM things ORDER BY id")],
        "none": db.query_one("SELECT * FROM things WHERE id = $1", 99),
    }


def case_secret(request):
    return {"key": secrets.reveal("key"), "unset": refusal(secrets.reveal, "unset")}


def case_setting(request):
    return {"greeting": settings.get("greeting"), "missing": settings.get("missing")}


def case_token(request):
    token = tokens.sign("invite", "ann", 60_000)
    return {"subject": tokens.verify("invite", token), "other": refusal(tokens.verify, "reset", token)}


def case_random(request):
    return {"random": random.random(), "uuid": str(uuid.uuid4()), "now": int(time.time() * 1000)}


def case_fetch(request):
    answer = outbound.fetch(request.query["url"], headers={"x-from": "plugin"}, timeout_ms=2000)
    return {"status": answer.status, "text": answer.text()}


def case_system(request):
    def tried(call):
        try:
            call()
        except OSError:
            return "none"
        return "open"

    return {
        "environment": sorted(os.environ),
        "file": tried(lambda: open("/etc/passwd")),
        "socket": tried(lambda: socket.socket().connect(("127.0.0.1", 22))),
    }


def case_denied(request):
    return kv.open("others").get("x")


def case_problem(request):
    raise Problem(422, "thing.wrong", 'it is "wrong"', headers={"X-Why": "because"})


def case_throw(request):
    raise RuntimeError("the password is hunter2")


def case_type(request):
    return None.x


def case_nothing(request):
    return None


def case_log(request):
    log.warn("a line of the plugin")
    return "logged"


def case_loop(request):
    while True:
        pass


def case_bomb(request):
    everything = []
    while True:
        everything.append(bytearray(b"\1" * (1 << 20)))


def case_deep(request):
    return case_deep(request) + 1


@get("/{case}")
def any_case(request, case):
    return globals()[f"case_{case}"](request)
