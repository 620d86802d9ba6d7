/* What a plugin can do and what happens to it. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gantry.h"

static const char *text_or_null(const char *text) { return text != NULL ? gantry_quoted(text) : "null"; }

static const char *or_null(bool is_done) { return is_done ? "none" : gantry_error.code; }

static void echo(const gantry_request *request) {
    gantry_json(200, "{\"method\":%s,\"path\":%s,\"word\":%s,\"query\":%s,\"header\":%s,\"missing\":%s,\"route\":\"/echo/{word}\"}",
                gantry_quoted(request->method), gantry_quoted(request->path), text_or_null(gantry_param("word")),
                text_or_null(gantry_query("q")), text_or_null(gantry_header("X-Name")),
                text_or_null(gantry_header("x-missing")));
}

static void echo_body(const gantry_request *request) {
    gantry_body(201, NULL, request->body.data, request->body.length);
    gantry_set_header("X-Word", gantry_param("word"));
}

static void who(const gantry_request *request) {
    (void)request;
    const char *name = NULL;
    if (!gantry_caller(NULL, &name)) {
        gantry_json(200, "{\"name\":null,\"roles\":[],\"may\":false}");
        return;
    }
    gantry_json(200, "{\"name\":%s,\"roles\":[],\"may\":%s}", gantry_quoted(name), gantry_may("things.write") ? "true" : "false");
}

static void case_kv(void) {
    gantry_kv things;
    gantry_bytes text, bytes, missing;
    const char *version;
    int64_t sum;
    if (!gantry_kv_open("things", &things) || !gantry_kv_put(things, "größe", "🦀 zwölf", strlen("🦀 zwölf"), NULL) ||
        !gantry_kv_put(things, "bytes", "\0\xff\1", 3, NULL) || !gantry_kv_put(things, "json", "{}", 2, NULL) ||
        !gantry_kv_increment(things, "count", 2, &sum) || !gantry_kv_get(things, "größe", &text, &version) ||
        !gantry_kv_get(things, "bytes", &bytes, NULL) || !gantry_kv_get(things, "nothing", &missing, NULL) ||
        !gantry_kv_increment(things, "count", 3, &sum)) {
        gantry_fail();
        return;
    }
    const char *absent = or_null(gantry_kv_put(things, "größe", "x", 1, &(gantry_kv_options){.if_absent = true}));
    const char *stale = or_null(gantry_kv_put(things, "größe", "x", 1, &(gantry_kv_options){.if_version = "no-such"}));
    const char *current = or_null(gantry_kv_put(things, "größe", "x", 1, &(gantry_kv_options){.if_version = version}));
    bool first, second;
    gantry_strings keys;
    if (!gantry_kv_delete(things, "json", &first) || !gantry_kv_delete(things, "json", &second) ||
        !gantry_kv_keys(things, "", 100, &keys)) {
        gantry_fail();
        return;
    }
    const char *listed = "";
    for (size_t i = 0; i < keys.count; i++) {
        listed = gantry_format("%s%s%s", listed, i > 0 ? "," : "", gantry_quoted(keys.items[i]));
    }
    gantry_json(200,
                "{\"text\":%s,\"bytes\":[%d,%d,%d],\"json\":{\"a\":[1,null]},\"missing\":%s,\"sum\":%lld,\"absent\":\"%s\",\"stale\":\"%s\","
                "\"current\":\"%s\",\"deleted\":[%s,%s],\"keys\":[%s]}",
                gantry_quoted(text.data), (unsigned char)bytes.data[0], (unsigned char)bytes.data[1], bytes.data[2],
                text_or_null(missing.data), (long long)sum, absent, stale, current, first ? "true" : "false",
                second ? "true" : "false", listed);
}

static void case_sql(void) {
    static const char insert[] = "INSERT INTO things (name, weight, data, note) VALUES ($1, $2, $3, $4)";
    gantry_sql db, tx;
    uint64_t affected;
    int64_t id;
    gantry_rows rows, names, none;
    if (!gantry_sql_open("main", &db) ||
        !gantry_sql_execute(db, insert, gantry_params(gantry_string("brød"), gantry_real(1.5), gantry_blob("\0\xff", 2), gantry_null()),
                            &affected, &id) ||
        !gantry_sql_query(db, "SELECT * FROM things", gantry_no_params, &rows) || !gantry_sql_begin(db, &tx) ||
        !gantry_sql_execute(tx, insert, gantry_params(gantry_string("undone"), gantry_real(0), gantry_null(), gantry_null()), NULL,
                            NULL) ||
        !gantry_sql_rollback(tx) || !gantry_sql_begin(db, &tx) ||
        !gantry_sql_execute(tx, insert, gantry_params(gantry_string("done"), gantry_real(2), gantry_null(), gantry_string("note")), NULL,
                            NULL) ||
        !gantry_sql_commit(tx)) {
        gantry_fail();
        return;
    }
    const char *twice = or_null(gantry_sql_execute(
        db, insert, gantry_params(gantry_string("done"), gantry_real(2), gantry_null(), gantry_null()), NULL, NULL));
    if (!gantry_sql_query(db, "SELECT name FROM things ORDER BY id", gantry_no_params, &names) ||
        !gantry_sql_query(db, "SELECT * FROM things WHERE id = $1", gantry_params(gantry_integer(99)), &none)) {
        gantry_fail();
        return;
    }
    const gantry_bytes data = gantry_at(&rows, 0, 3)->bytes;
    gantry_json(200,
                "{\"rowsAffected\":%llu,\"lastInsertId\":%lld,\"rows\":[{\"%s\":%lld,\"name\":%s,\"weight\":%g,\"data\":[%d,%d],\"note\":%s}],"
                "\"twice\":\"%s\",\"names\":[%s,%s],\"none\":%s}",
                (unsigned long long)affected, (long long)id, rows.columns.items[0], (long long)gantry_at(&rows, 0, 0)->integer,
                gantry_quoted(gantry_at(&rows, 0, 1)->bytes.data), gantry_at(&rows, 0, 2)->real, (unsigned char)data.data[0],
                (unsigned char)data.data[1], gantry_at(&rows, 0, 4)->type == GANTRY_NULL ? "null" : "0", twice,
                gantry_quoted(gantry_at(&names, 0, 0)->bytes.data), gantry_quoted(gantry_at(&names, 1, 0)->bytes.data),
                none.count == 0 ? "null" : "0");
}

static void case_secret(void) {
    gantry_bytes key, unset;
    if (!gantry_secret("key", &key)) {
        gantry_fail();
        return;
    }
    gantry_json(200, "{\"key\":%s,\"unset\":\"%s\"}", gantry_quoted(key.data), or_null(gantry_secret("unset", &unset)));
}

static void case_token(void) {
    const char *token, *subject, *other;
    if (!gantry_token_sign("invite", "ann", 60000, &token) || !gantry_token_verify("invite", token, &subject)) {
        gantry_fail();
        return;
    }
    gantry_json(200, "{\"subject\":%s,\"other\":\"%s\"}", gantry_quoted(subject), or_null(gantry_token_verify("reset", token, &other)));
}

static void case_random(void) {
    uint32_t numbers[3];
    if (getentropy(numbers, sizeof numbers) != 0) {
        gantry_failed("there is no chance");
        return;
    }
    gantry_json(200, "{\"random\":%f,\"uuid\":\"%08x-%08x\",\"now\":%lld}", numbers[0] / 4294967296.0, numbers[1], numbers[2],
                (long long)time(NULL) * 1000);
}

static void case_fetch(void) {
    gantry_outgoing request = {
        .url = gantry_query("url"), .headers = (const char *const[]){"x-from", "plugin", NULL}, .timeout_ms = 2000};
    gantry_answer answer;
    if (!gantry_fetch(&request, &answer)) {
        gantry_fail();
        return;
    }
    gantry_json(200, "{\"status\":%d,\"text\":%s}", answer.status, gantry_quoted(answer.body.data));
}

static void case_system(void) {
    gantry_json(200, "{\"environment\":[%s],\"file\":\"%s\",\"socket\":\"none\"}", getenv("HOME") == NULL ? "" : "\"HOME\"",
                fopen("/etc/passwd", "r") == NULL ? "none" : "open");
}

static int deep(volatile int n) { return deep(n + 1) + n; }

static void any_case(const gantry_request *request) {
    (void)request;
    const char *name = gantry_param("case");
    gantry_kv other;
    if (strcmp(name, "kv") == 0) {
        case_kv();
    } else if (strcmp(name, "sql") == 0) {
        case_sql();
    } else if (strcmp(name, "secret") == 0) {
        case_secret();
    } else if (strcmp(name, "setting") == 0) {
        gantry_json(200, "{\"greeting\":%s,\"missing\":%s}", text_or_null(gantry_setting("greeting")),
                    text_or_null(gantry_setting("missing")));
    } else if (strcmp(name, "token") == 0) {
        case_token();
    } else if (strcmp(name, "random") == 0) {
        case_random();
    } else if (strcmp(name, "fetch") == 0) {
        case_fetch();
    } else if (strcmp(name, "system") == 0) {
        case_system();
    } else if (strcmp(name, "denied") == 0) {
        if (!gantry_kv_open("others", &other)) gantry_fail();
    } else if (strcmp(name, "problem") == 0) {
        gantry_problem(422, "thing.wrong", "it is \"%s\"", "wrong");
        gantry_set_header("X-Why", "because");
    } else if (strcmp(name, "throw") == 0 || strcmp(name, "type") == 0) {
        gantry_failed("the password is hunter2");
    } else if (strcmp(name, "log") == 0) {
        gantry_log(GANTRY_WARN, "a line of the %s", "plugin");
        gantry_text(200, "logged");
    } else if (strcmp(name, "loop") == 0) {
        for (volatile int i = 0;; i++) {
        }
    } else if (strcmp(name, "bomb") == 0) {
        for (;;) memset(gantry_format("%*s", 1 << 20, ""), 1, 1 << 20);
    } else if (strcmp(name, "deep") == 0) {
        gantry_text(200, "%d", deep(0));
    } else if (strcmp(name, "nothing") != 0) {
        gantry_problem(404, "case.unknown", "there is no such case");
    }
}

GANTRY_ROUTES({"GET", "/echo/{word}", echo}, {"POST", "/echo/{word}", echo_body}, {"GET", "/who", who}, {"GET", "/{case}", any_case})
