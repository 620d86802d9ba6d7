/* Notes in a database, and a count of who looked. */

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "gantry.h"

static const char *trimmed(const char *text) {
    char *copy = gantry_format("%s", text);
    while (isspace((unsigned char)*copy)) copy++;
    size_t length = strlen(copy);
    while (length > 0 && isspace((unsigned char)copy[length - 1])) copy[--length] = 0;
    return copy;
}

static void keep(const gantry_request *request) {
    const char *text = trimmed(request->body.data);
    const char *setting = gantry_setting("length_max");
    size_t max = setting != NULL ? strtoul(setting, NULL, 10) : 80;
    if (*text == 0) {
        gantry_problem(422, "note.empty", "a note needs a text");
        return;
    }
    if (strlen(text) > max) {
        gantry_problem(422, "note.too_long", "a note has at most %zu bytes", max);
        return;
    }
    gantry_sql db;
    int64_t id;
    if (!gantry_sql_open("main", &db) ||
        !gantry_sql_execute(db, "INSERT INTO notes (text) VALUES ($1)", gantry_params(gantry_string(text)), NULL, &id)) {
        gantry_fail();
        return;
    }
    gantry_log(GANTRY_INFO, "kept note %lld", (long long)id);
    gantry_json(201, "{\"id\":%lld,\"text\":%s}", (long long)id, gantry_quoted(text));
}

static void read_one(const gantry_request *request) {
    (void)request;
    const char *id = gantry_param("id");
    gantry_sql db;
    gantry_rows rows;
    if (!gantry_sql_open("main", &db) ||
        !gantry_sql_query(db, "SELECT id, text FROM notes WHERE id = $1", gantry_params(gantry_string(id)), &rows)) {
        gantry_fail();
        return;
    }
    if (rows.count == 0) {
        gantry_problem(404, "note.unknown", "there is no such note");
        return;
    }
    gantry_kv reads;
    int64_t count;
    if (!gantry_kv_open("reads", &reads) || !gantry_kv_increment(reads, id, 1, &count)) {
        gantry_fail();
        return;
    }
    gantry_json(200, "{\"id\":%lld,\"text\":%s,\"reads\":%lld}", (long long)gantry_at(&rows, 0, 0)->integer,
                gantry_quoted(gantry_at(&rows, 0, 1)->bytes.data), (long long)count);
}

static void forget(const gantry_request *request) {
    (void)request;
    const char *id = gantry_param("id");
    gantry_sql db;
    gantry_kv reads;
    uint64_t count;
    if (!gantry_sql_open("main", &db) ||
        !gantry_sql_execute(db, "DELETE FROM notes WHERE id = $1", gantry_params(gantry_string(id)), &count, NULL)) {
        gantry_fail();
        return;
    }
    if (count == 0) {
        gantry_problem(404, "note.unknown", "there is no such note");
        return;
    }
    if (!gantry_kv_open("reads", &reads) || !gantry_kv_delete(reads, id, NULL)) gantry_fail();
}

GANTRY_ROUTES({"POST", "/notes", keep}, {"GET", "/notes/{id}", read_one}, {"DELETE", "/notes/{id}", forget})
