/* The host's services in C: requests, answers, errors and everything that is not HTTP to the outside or SQL. */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* The bindings want an object with the world's type; it is put in when the component is made. */
void __component_type_object_force_link_bindings(void) {}

struct gantry_error gantry_error;

enum { HEADERS_MAX = 64 };

static struct {
    bool is_error; /* `error` is the answer. */
    int status;
    gantry_bytes body;
    bindings_tuple2_string_string_t headers[HEADERS_MAX];
    size_t headers_count;
    gantry_types_types_error_t error;
} answer = {.status = 204};

/* --- Memory and text --- */

void *gantry_new(size_t length) {
    void *memory = malloc(length > 0 ? length : 1);
    if (memory == NULL) __builtin_trap();
    return memory;
}

gantry_bytes gantry_copy(const void *data, size_t length) {
    char *copy = gantry_new(length + 1);
    if (length > 0) memcpy(copy, data, length);
    copy[length] = 0;
    return (gantry_bytes){copy, length};
}

bindings_string_t gantry_to_wit(const char *text) {
    return (bindings_string_t){(uint8_t *)text, strlen(text)};
}

const char *gantry_of_wit(bindings_string_t text) { return gantry_copy(text.ptr, text.len).data; }

static char *vformat(const char *format, va_list values) {
    va_list again;
    va_copy(again, values);
    int length = vsnprintf(NULL, 0, format, values);
    if (length < 0) __builtin_trap();
    char *text = gantry_new((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

#define FORMATTED(text, format)          \
    va_list values;                      \
    va_start(values, format);            \
    char *text = vformat(format, values); \
    va_end(values)

char *gantry_format(const char *format, ...) {
    FORMATTED(text, format);
    return text;
}

const char *gantry_quoted(const char *text) {
    char *quoted = gantry_new(strlen(text) * 6 + 3), *to = quoted;
    *to++ = '"';
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            *to++ = '\\';
            *to++ = (char)c;
        } else if (c < 0x20) {
            to += sprintf(to, "\\u%04x", c);
        } else {
            *to++ = (char)c;
        }
    }
    *to++ = '"';
    *to = 0;
    return quoted;
}

/* --- Errors --- */

bool gantry_refused(const gantry_types_types_error_t *error) {
    /* All cases have the same payload. */
    const gantry_types_types_detail_t *detail = &error->val.internal;
    return gantry_refuse((gantry_error_kind)error->tag, gantry_of_wit(detail->code), gantry_of_wit(detail->message));
}

bool gantry_refuse(gantry_error_kind kind, const char *code, const char *message) {
    gantry_error = (struct gantry_error){kind, code, message};
    return false;
}

/* --- Answers --- */

void gantry_body(int status, const char *content_type, const void *data, size_t length) {
    answer.is_error = false;
    answer.status = status;
    answer.body = gantry_copy(data, length);
    if (content_type != NULL) gantry_set_header("content-type", content_type);
}

void gantry_set_header(const char *name, const char *value) {
    bindings_string_t key = gantry_to_wit(gantry_format("%s", name));
    for (size_t i = 0; i < key.len; i++) {
        if (key.ptr[i] >= 'A' && key.ptr[i] <= 'Z') key.ptr[i] += 'a' - 'A';
    }
    size_t at = 0;
    while (at < answer.headers_count && strcmp((char *)answer.headers[at].f0.ptr, (char *)key.ptr) != 0) at++;
    if (at == HEADERS_MAX) return;
    if (at == answer.headers_count) answer.headers_count++;
    answer.headers[at].f0 = key;
    answer.headers[at].f1 = gantry_to_wit(gantry_format("%s", value));
}

void gantry_text(int status, const char *format, ...) {
    FORMATTED(text, format);
    gantry_body(status, "text/plain; charset=utf-8", text, strlen(text));
}

void gantry_json(int status, const char *format, ...) {
    FORMATTED(text, format);
    gantry_body(status, "application/json", text, strlen(text));
}

static const char *title(int status) {
    switch (status) {
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 409: return "Conflict";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 500: return "Internal Server Error";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    default: return "Error";
    }
}

void gantry_problem(int status, const char *code, const char *format, ...) {
    FORMATTED(detail, format);
    char *body = gantry_format("{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":%s,\"detail\":%s,\"request_id\":%s}",
                               title(status), status, gantry_quoted(code), gantry_quoted(detail),
                               gantry_quoted(gantry_request_id()));
    gantry_body(status, "application/problem+json", body, strlen(body));
}

static void answer_error(gantry_error_kind kind, const char *code, const char *message) {
    answer.is_error = true;
    answer.error.tag = (uint8_t)kind;
    /* Copies, because the bindings free them after the answer. */
    answer.error.val.internal = (gantry_types_types_detail_t){
        .code = gantry_to_wit(gantry_format("%s", code)), .message = gantry_to_wit(gantry_format("%s", message))};
}

void gantry_fail(void) {
    if (gantry_error.code == NULL) {
        gantry_failed("gantry_fail() was called, and no service has refused anything");
        return;
    }
    answer_error(gantry_error.kind, gantry_error.code, gantry_error.message);
}

void gantry_failed(const char *format, ...) {
    FORMATTED(text, format);
    gantry_log(GANTRY_ERROR, "%s", text);
    answer_error(GANTRY_INTERNAL, "plugin.failed", "the plugin could not answer");
}

/* --- Requests --- */

const char *gantry_param(const char *name) {
    bindings_string_t key = gantry_to_wit(name), value;
    return gantry_context_invocation_path_param(&key, &value) ? gantry_of_wit(value) : NULL;
}

const char *gantry_header(const char *name) {
    bindings_string_t key = gantry_to_wit(name), value;
    return gantry_http_request_headers_get(&key, &value) ? gantry_of_wit(value) : NULL;
}

static const char *query;

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static char *decoded(const char *text, size_t length) {
    char *to = gantry_new(length + 1), *start = to;
    for (size_t at = 0; at < length; at++) {
        int high = -1, low = -1;
        if (text[at] == '%' && at + 2 < length) {
            high = hex(text[at + 1]);
            low = hex(text[at + 2]);
        }
        if (high >= 0 && low >= 0) {
            *to++ = (char)(high * 16 + low);
            at += 2;
        } else {
            *to++ = text[at] == '+' ? ' ' : text[at];
        }
    }
    *to = 0;
    return start;
}

const char *gantry_query(const char *name) {
    const char *pair = query;
    while (pair != NULL && *pair) {
        const char *end = strchr(pair, '&');
        size_t length = end != NULL ? (size_t)(end - pair) : strlen(pair);
        const char *equals = memchr(pair, '=', length);
        size_t key = equals != NULL ? (size_t)(equals - pair) : length;
        if (strcmp(decoded(pair, key), name) == 0) {
            return equals != NULL ? decoded(equals + 1, length - key - 1) : "";
        }
        pair = end != NULL ? end + 1 : NULL;
    }
    return NULL;
}

const char *gantry_request_id(void) {
    bindings_string_t id;
    gantry_context_invocation_request_id(&id);
    return gantry_of_wit(id);
}

const char *gantry_client_address(void) {
    bindings_string_t address;
    return gantry_context_invocation_client_address(&address) ? gantry_of_wit(address) : NULL;
}

uint64_t gantry_remaining_ms(void) { return gantry_context_invocation_remaining_ms(); }

static void dispatch(const gantry_request *request) {
    bindings_string_t route;
    const char *pattern = gantry_context_invocation_route(&route) ? gantry_of_wit(route) : "";
    const char *allow = NULL;
    for (const gantry_route *known = gantry_routes; known->method != NULL; known++) {
        if (strcmp(known->pattern, pattern) != 0) continue;
        bool is_head = strcmp(request->method, "HEAD") == 0 && strcmp(known->method, "GET") == 0;
        if (is_head || strcmp(request->method, known->method) == 0) {
            known->handler(request);
            return;
        }
        allow = allow == NULL ? known->method : gantry_format("%s, %s", allow, known->method);
    }
    if (allow == NULL) {
        gantry_problem(404, "route.not_found", "there is nothing at this path");
    } else {
        gantry_problem(405, "route.method_not_allowed", "this path answers only %s", allow);
        gantry_set_header("allow", allow);
    }
}

bool exports_gantry_http_handler_handle(exports_gantry_http_handler_request_t *incoming,
                                        exports_gantry_http_handler_response_t *response,
                                        exports_gantry_http_handler_error_t *error) {
    gantry_request request = {
        .method = gantry_of_wit(incoming->method),
        .path = gantry_of_wit(incoming->path),
        .query = gantry_of_wit(incoming->query),
        .body = gantry_copy(incoming->body.ptr, incoming->body.len),
    };
    query = request.query;
    dispatch(&request);
    if (answer.is_error) {
        *error = answer.error;
        return false;
    }
    response->status = (uint16_t)answer.status;
    response->headers.len = answer.headers_count;
    response->headers.ptr = gantry_new(sizeof answer.headers);
    memcpy(response->headers.ptr, answer.headers, sizeof answer.headers);
    response->body = (bindings_list_u8_t){(uint8_t *)answer.body.data, answer.body.length};
    return true;
}

/* --- Log --- */

void gantry_log(gantry_level level, const char *format, ...) {
    FORMATTED(text, format);
    bindings_string_t context = gantry_to_wit(""), message = gantry_to_wit(text);
    wasi_logging_logging_log((wasi_logging_logging_level_t)level, &context, &message);
}

/* --- Who is calling --- */

bool gantry_caller(const char **id, const char **name) {
    gantry_context_identity_own_principal_t principal;
    if (!gantry_context_identity_current(&principal)) return false;
    gantry_context_identity_borrow_principal_t who = gantry_context_identity_borrow_principal(principal);
    bindings_string_t text;
    if (id != NULL) {
        gantry_context_identity_method_principal_id(who, &text);
        *id = gantry_of_wit(text);
    }
    if (name != NULL) {
        gantry_context_identity_method_principal_name(who, &text);
        *name = gantry_of_wit(text);
    }
    return true;
}

bool gantry_may(const char *permission) {
    gantry_context_identity_own_principal_t principal;
    if (!gantry_context_identity_current(&principal)) return false;
    bindings_string_t wanted = gantry_to_wit(permission);
    return gantry_context_identity_method_principal_has_permission(gantry_context_identity_borrow_principal(principal), &wanted);
}

bool gantry_require(const char *permission) {
    if (!gantry_caller(NULL, NULL)) {
        gantry_problem(401, "auth.required", "log in first");
        gantry_set_header("www-authenticate", "Bearer");
        return false;
    }
    if (gantry_may(permission)) return true;
    gantry_problem(403, "auth.permission_missing", "this needs the permission `%s`", permission);
    return false;
}

/* --- Settings, secrets, tokens --- */

const char *gantry_setting(const char *key) {
    bindings_string_t name = gantry_to_wit(key);
    bindings_option_string_t value;
    wasi_config_store_error_t error;
    if (!wasi_config_store_get(&name, &value, &error) || !value.is_some) return NULL;
    return gantry_of_wit(value.val);
}

bool gantry_secret(const char *label, gantry_bytes *value) {
    bindings_string_t name = gantry_to_wit(label);
    gantry_secrets_store_own_secret_t secret;
    gantry_types_types_error_t error;
    bindings_list_u8_t bytes;
    if (!gantry_secrets_store_get(&name, &secret, &error)) return gantry_refused(&error);
    if (!gantry_secrets_reveal_reveal(gantry_secrets_store_borrow_secret(secret), &bytes, &error)) {
        return gantry_refused(&error);
    }
    *value = gantry_copy(bytes.ptr, bytes.len);
    return true;
}

bool gantry_token_sign(const char *purpose, const char *subject, uint64_t ttl_ms, const char **token) {
    bindings_string_t what = gantry_to_wit(purpose), who = gantry_to_wit(subject), text;
    gantry_types_types_error_t error;
    if (!gantry_tokens_tokens_sign(&what, &who, ttl_ms, &text, &error)) return gantry_refused(&error);
    *token = gantry_of_wit(text);
    return true;
}

bool gantry_token_verify(const char *purpose, const char *token, const char **subject) {
    bindings_string_t what = gantry_to_wit(purpose), given = gantry_to_wit(token), text;
    gantry_types_types_error_t error;
    if (!gantry_tokens_tokens_verify(&what, &given, &text, &error)) return gantry_refused(&error);
    *subject = gantry_of_wit(text);
    return true;
}

/* --- Key-value stores --- */

static gantry_kv_store_borrow_bucket_t bucket(gantry_kv kv) {
    return gantry_kv_store_borrow_bucket((gantry_kv_store_own_bucket_t){kv.handle});
}

bool gantry_kv_open(const char *label, gantry_kv *kv) {
    bindings_string_t name = gantry_to_wit(label);
    gantry_kv_store_own_bucket_t opened;
    gantry_types_types_error_t error;
    if (!gantry_kv_store_static_bucket_open(&name, &opened, &error)) return gantry_refused(&error);
    kv->handle = opened.__handle;
    return true;
}

bool gantry_kv_get(gantry_kv kv, const char *key, gantry_bytes *value, const char **version) {
    bindings_string_t name = gantry_to_wit(key);
    gantry_kv_store_option_entry_t entry;
    gantry_types_types_error_t error;
    if (!gantry_kv_store_method_bucket_get(bucket(kv), &name, &entry, &error)) return gantry_refused(&error);
    *value = (gantry_bytes){NULL, 0};
    if (entry.is_some) {
        *value = gantry_copy(entry.val.value.ptr, entry.val.value.len);
        if (version != NULL) *version = gantry_of_wit(entry.val.version);
    }
    return true;
}

bool gantry_kv_put(gantry_kv kv, const char *key, const void *data, size_t length, const gantry_kv_options *options) {
    bindings_string_t name = gantry_to_wit(key), version;
    bindings_list_u8_t value = {(uint8_t *)data, length};
    gantry_kv_store_put_options_t how = {0};
    gantry_types_types_error_t error;
    if (options != NULL) {
        how.ttl_ms.is_some = options->ttl_ms > 0;
        how.ttl_ms.val = options->ttl_ms;
        how.if_absent = options->if_absent;
        how.if_version.is_some = options->if_version != NULL;
        if (options->if_version != NULL) how.if_version.val = gantry_to_wit(options->if_version);
    }
    return gantry_kv_store_method_bucket_put(bucket(kv), &name, &value, &how, &version, &error) || gantry_refused(&error);
}

bool gantry_kv_delete(gantry_kv kv, const char *key, bool *was_there) {
    bindings_string_t name = gantry_to_wit(key);
    gantry_types_types_error_t error;
    bool was;
    if (!gantry_kv_store_method_bucket_delete(bucket(kv), &name, NULL, &was, &error)) return gantry_refused(&error);
    if (was_there != NULL) *was_there = was;
    return true;
}

bool gantry_kv_increment(gantry_kv kv, const char *key, int64_t delta, int64_t *sum) {
    bindings_string_t name = gantry_to_wit(key);
    gantry_types_types_error_t error;
    return gantry_kv_store_method_bucket_increment(bucket(kv), &name, delta, NULL, sum, &error) || gantry_refused(&error);
}

bool gantry_kv_keys(gantry_kv kv, const char *prefix, uint32_t max, gantry_strings *keys) {
    bindings_string_t start = gantry_to_wit(prefix);
    gantry_kv_store_key_page_t page;
    gantry_types_types_error_t error;
    if (!gantry_kv_store_method_bucket_keys(bucket(kv), &start, NULL, max, &page, &error)) return gantry_refused(&error);
    keys->count = page.keys.len;
    keys->items = gantry_new(page.keys.len * sizeof *keys->items);
    for (size_t i = 0; i < page.keys.len; i++) keys->items[i] = gantry_of_wit(page.keys.ptr[i]);
    return true;
}
