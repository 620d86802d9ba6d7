/* Write plugins for Gantry in C.
 *
 * A plugin is a list of routes, the same as in plugin.toml, and a function for each:
 *
 *     static void hello(const gantry_request *request) {
 *         gantry_text(200, "Hello, %s!", gantry_param("name"));
 *     }
 *
 *     GANTRY_ROUTES({"GET", "/hello/{name}", hello})
 *
 * Each request gets a fresh instance of the plugin, with all its memory. So nothing has to be freed: what these functions
 * return lasts as long as the request, and so does a static variable.
 *
 * Functions that ask a service of the host return false if it refuses. What it said is in gantry_error, and
 * gantry_fail() answers with it. */

#ifndef GANTRY_H
#define GANTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes, with a zero behind them: what is text can be used as a string. */
typedef struct {
    const char *data;
    size_t length;
} gantry_bytes;

typedef struct {
    const char **items;
    size_t count;
} gantry_strings;

/* --- Requests --- */

typedef struct {
    const char *method; /* In capitals. */
    const char *path;   /* Below the plugin's mount, still percent-encoded. */
    const char *query;  /* Behind `?`, still percent-encoded. */
    gantry_bytes body;
} gantry_request;

typedef struct {
    const char *method;
    const char *pattern;
    void (*handler)(const gantry_request *request);
} gantry_route;

extern const gantry_route gantry_routes[];

#define GANTRY_ROUTES(...) const gantry_route gantry_routes[] = {__VA_ARGS__, {NULL, NULL, NULL}};

/* A parameter of the route's pattern, decoded; the first value of a header, its name in any case; the first value of a name
 * in the query, decoded. NULL if there is none. */
const char *gantry_param(const char *name);
const char *gantry_header(const char *name);
const char *gantry_query(const char *name);

const char *gantry_request_id(void);
const char *gantry_client_address(void); /* NULL if it is not known. */
uint64_t gantry_remaining_ms(void);

/* --- Answers: the last one counts; without any it is 204 --- */

void gantry_body(int status, const char *content_type, const void *data, size_t length);
void gantry_text(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The text must be JSON; put strings into it with gantry_quoted(). */
void gantry_json(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gantry_set_header(const char *name, const char *value);
/* A problem (RFC 9457) that the client sees as it stands. */
void gantry_problem(int status, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Answers with what a service has refused. */
void gantry_fail(void);
/* An error that is not the client's: the text goes to the log, and the client sees only that the plugin failed. */
void gantry_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A string of JSON, with its quotation marks. */
const char *gantry_quoted(const char *text);
/* Like printf, into new memory. */
char *gantry_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* --- Errors of services --- */

typedef enum {
    GANTRY_DENIED,
    GANTRY_NOT_FOUND,
    GANTRY_INVALID,
    GANTRY_CONFLICT,
    GANTRY_LIMIT,
    GANTRY_TIMEOUT,
    GANTRY_UNAVAILABLE,
    GANTRY_INTERNAL,
} gantry_error_kind;

/* What the last service that was asked has refused. */
extern struct gantry_error {
    gantry_error_kind kind;
    const char *code; /* Stable and dotted: kv.value_too_large. */
    const char *message;
} gantry_error;

/* --- Log --- */

typedef enum { GANTRY_TRACE, GANTRY_DEBUG, GANTRY_INFO, GANTRY_WARN, GANTRY_ERROR } gantry_level;

void gantry_log(gantry_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- Who is calling --- */

/* False if nobody logged in. */
bool gantry_caller(const char **id, const char **name);
bool gantry_may(const char *permission);
/* Whether the caller has the permission; if not, it has been answered: 401 or 403. */
bool gantry_require(const char *permission);

/* --- Settings, secrets, tokens --- */

/* What is not text in the schema is JSON text here. NULL if it has no value. */
const char *gantry_setting(const char *key);
/* A secret declared with `use = "reveal"`. */
bool gantry_secret(const char *label, gantry_bytes *value);
bool gantry_token_sign(const char *purpose, const char *subject, uint64_t ttl_ms, const char **token);
bool gantry_token_verify(const char *purpose, const char *token, const char **subject);

/* --- Key-value stores --- */

typedef struct {
    int32_t handle;
} gantry_kv;

typedef struct {
    uint64_t ttl_ms;        /* 0: for ever. */
    bool if_absent;         /* Write only if the key is not set; else GANTRY_CONFLICT. */
    const char *if_version; /* Write only if the entry still has this version; else GANTRY_CONFLICT. */
} gantry_kv_options;

bool gantry_kv_open(const char *label, gantry_kv *kv);
/* value->data is NULL if there is no entry; `version` may be NULL. */
bool gantry_kv_get(gantry_kv kv, const char *key, gantry_bytes *value, const char **version);
/* `options` may be NULL. */
bool gantry_kv_put(gantry_kv kv, const char *key, const void *data, size_t length, const gantry_kv_options *options);
/* `was_there` may be NULL. */
bool gantry_kv_delete(gantry_kv kv, const char *key, bool *was_there);
bool gantry_kv_increment(gantry_kv kv, const char *key, int64_t delta, int64_t *sum);
/* The first `max` (1 to 1000) keys with this prefix, ascending. */
bool gantry_kv_keys(gantry_kv kv, const char *prefix, uint32_t max, gantry_strings *keys);

/* --- Databases --- */

typedef struct {
    int32_t handle;
    bool is_transaction;
} gantry_sql;

typedef struct {
    enum { GANTRY_NULL, GANTRY_BOOLEAN, GANTRY_INTEGER, GANTRY_REAL, GANTRY_TEXT, GANTRY_BLOB } type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        gantry_bytes bytes; /* Of text and of blobs. */
    };
} gantry_value;

typedef struct {
    gantry_strings columns;
    gantry_value *values; /* Row by row; see gantry_at(). */
    size_t count;
} gantry_rows;

gantry_value gantry_null(void);
gantry_value gantry_integer(int64_t value);
gantry_value gantry_real(double value);
gantry_value gantry_string(const char *value);
gantry_value gantry_blob(const void *data, size_t length);

/* The parameters $1, $2, …: gantry_params(gantry_integer(7), gantry_string("milk")), or gantry_no_params. */
#define gantry_params(...) (const gantry_value[]){__VA_ARGS__}, sizeof((const gantry_value[]){__VA_ARGS__}) / sizeof(gantry_value)
#define gantry_no_params NULL, 0

bool gantry_sql_open(const char *label, gantry_sql *db);
bool gantry_sql_query(gantry_sql db, const char *sql, const gantry_value *params, size_t count, gantry_rows *rows);
/* Writes: on a database, in a transaction of its own. `rows_affected` and `last_insert_id` may be NULL. */
bool gantry_sql_execute(gantry_sql db, const char *sql, const gantry_value *params, size_t count,
                        uint64_t *rows_affected, int64_t *last_insert_id);
/* What is not committed when the request ends is rolled back. */
bool gantry_sql_begin(gantry_sql db, gantry_sql *transaction);
bool gantry_sql_commit(gantry_sql transaction);
bool gantry_sql_rollback(gantry_sql transaction);
const gantry_value *gantry_at(const gantry_rows *rows, size_t row, size_t column);

/* --- Requests to other servers --- */

typedef struct {
    const char *method; /* NULL: GET. */
    const char *url;
    const char *const *headers; /* Names and values in turn, and a NULL at the end; or NULL. */
    gantry_bytes body;
    uint64_t timeout_ms;   /* 0: the host's own. */
    size_t body_bytes_max; /* 0: 8 MiB. */
} gantry_outgoing;

typedef struct {
    int status;
    gantry_strings headers; /* Names, in small letters, and values in turn. */
    gantry_bytes body;
} gantry_answer;

bool gantry_fetch(const gantry_outgoing *request, gantry_answer *answer);

#endif
