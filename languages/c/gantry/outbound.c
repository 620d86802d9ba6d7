/* Requests to other servers in C. */

#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { WRITE_BYTES_MAX = 4096, READ_BYTES_MAX = 64 * 1024, BODY_BYTES_MAX = 8 << 20 };

static bool invalid(const char *message) { return gantry_refuse(GANTRY_INVALID, "outbound.invalid_request", message); }

static bool failed(const char *message) { return gantry_refuse(GANTRY_INTERNAL, "outbound.failed", message); }

/* `KIND CODE: MESSAGE`, in which the host tells what wasi:http has no word for. */
static bool refused_in_words(const char *text) {
    static const struct {
        const char *word;
        gantry_error_kind kind;
    } kinds[] = {
        {"denied ", GANTRY_DENIED},   {"invalid ", GANTRY_INVALID},         {"limit ", GANTRY_LIMIT},
        {"timeout ", GANTRY_TIMEOUT}, {"unavailable ", GANTRY_UNAVAILABLE},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t length = strlen(kinds[i].word);
        const char *end = strstr(text, ": ");
        if (strncmp(text, kinds[i].word, length) == 0 && end != NULL && end > text + length) {
            const char *code = gantry_copy(text + length, (size_t)(end - text) - length).data;
            return gantry_refuse(kinds[i].kind, code, end + 2);
        }
    }
    return failed(text);
}

static bool refused(const wasi_http_types_error_code_t *error) {
    switch (error->tag) {
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_DENIED:
        return gantry_refuse(GANTRY_DENIED, "outbound.host_not_granted", "this host and port are not granted to the plugin");
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_METHOD_INVALID:
        return gantry_refuse(GANTRY_DENIED, "outbound.method_not_granted",
                             "this method is not granted to the plugin for this host");
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_IP_PROHIBITED:
        return gantry_refuse(GANTRY_DENIED, "outbound.address_forbidden",
                             "the address in the URL is none of the public internet");
    case WASI_HTTP_TYPES_ERROR_CODE_DNS_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_READ_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_WRITE_TIMEOUT:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_TIMEOUT:
        return gantry_refuse(GANTRY_TIMEOUT, "outbound.timeout", "the other side took longer than it may");
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_TERMINATED:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_PROTOCOL_ERROR:
        return gantry_refuse(GANTRY_UNAVAILABLE, "outbound.broken",
                             "the other side broke off or did not answer as HTTP demands");
    case WASI_HTTP_TYPES_ERROR_CODE_DNS_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_NOT_FOUND:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_UNAVAILABLE:
    case WASI_HTTP_TYPES_ERROR_CODE_DESTINATION_IP_UNROUTABLE:
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_REFUSED:
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_PROTOCOL_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_CERTIFICATE_ERROR:
    case WASI_HTTP_TYPES_ERROR_CODE_TLS_ALERT_RECEIVED:
        return gantry_refuse(GANTRY_UNAVAILABLE, "outbound.unreachable", "the other side cannot be reached");
    case WASI_HTTP_TYPES_ERROR_CODE_CONNECTION_LIMIT_REACHED:
        return gantry_refuse(GANTRY_LIMIT, "outbound.too_many_in_flight",
                             "as many requests of this plugin are under way as may be");
    case WASI_HTTP_TYPES_ERROR_CODE_LOOP_DETECTED:
        return gantry_refuse(GANTRY_LIMIT, "outbound.too_many_redirects", "the other side redirects too often");
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_BODY_SIZE:
        return gantry_refuse(GANTRY_LIMIT, "outbound.request_too_large", "the request is larger than it may be");
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_HEADER_SECTION_SIZE:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_HEADER_SECTION_SIZE:
        return gantry_refuse(GANTRY_LIMIT, "outbound.headers_too_large", "the headers are larger than they may be");
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_RESPONSE_BODY_SIZE:
        return gantry_refuse(GANTRY_LIMIT, "outbound.response_too_large", "the answer is larger than it may be");
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_URI_INVALID:
    case WASI_HTTP_TYPES_ERROR_CODE_HTTP_REQUEST_URI_TOO_LONG:
        return gantry_refuse(GANTRY_INVALID, "outbound.url_invalid", "the host does not send to such a URL");
    case WASI_HTTP_TYPES_ERROR_CODE_INTERNAL_ERROR:
        if (error->val.internal_error.is_some) return refused_in_words(gantry_of_wit(error->val.internal_error.val));
        return failed("the request failed");
    default: return failed("the request failed");
    }
}

static bool broken(wasi_io_streams_own_error_t problem) {
    wasi_io_error_borrow_error_t error = wasi_io_error_borrow_error(problem);
    wasi_http_types_error_code_t code;
    if (wasi_http_types_http_error_code(error, &code)) return refused(&code);
    bindings_string_t text;
    wasi_io_error_method_error_to_debug_string(error, &text);
    const char *told = gantry_of_wit(text), *start = "internal error: ";
    return refused_in_words(strncmp(told, start, strlen(start)) == 0 ? told + strlen(start) : told);
}

static wasi_http_types_method_t method_of(const char *name) {
    static const char *const known[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
    wasi_http_types_method_t method = {.tag = WASI_HTTP_TYPES_METHOD_OTHER};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i]) == 0) method.tag = (uint8_t)i;
    }
    if (method.tag == WASI_HTTP_TYPES_METHOD_OTHER) method.val.other = gantry_to_wit(name);
    return method;
}

static bool head(const gantry_outgoing *request, wasi_http_types_own_outgoing_request_t *made) {
    wasi_http_types_scheme_t scheme = {.tag = WASI_HTTP_TYPES_SCHEME_HTTPS};
    const char *rest = request->url + strlen("https://");
    if (strncmp(request->url, "http://", strlen("http://")) == 0) {
        scheme.tag = WASI_HTTP_TYPES_SCHEME_HTTP;
        rest = request->url + strlen("http://");
    } else if (strncmp(request->url, "https://", strlen("https://")) != 0) {
        return invalid(gantry_format("`%s` does not begin with https:// or http://", request->url));
    }
    size_t length = strcspn(rest, "/?#");
    bindings_string_t authority = gantry_to_wit(gantry_copy(rest, length).data);
    const char *target = gantry_copy(rest + length, strcspn(rest + length, "#")).data;
    bindings_string_t path = gantry_to_wit(*target == '/' ? target : gantry_format("/%s", target));

    wasi_http_types_own_fields_t fields = wasi_http_types_constructor_fields();
    for (const char *const *header = request->headers; header != NULL && *header != NULL; header += 2) {
        bindings_string_t name = gantry_to_wit(header[0]);
        wasi_http_types_field_value_t value = {(uint8_t *)header[1], strlen(header[1])};
        wasi_http_types_header_error_t error;
        if (!wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &name, &value, &error)) {
            return invalid(gantry_format("the header `%s` is none", header[0]));
        }
    }
    *made = wasi_http_types_constructor_outgoing_request(fields);
    wasi_http_types_borrow_outgoing_request_t it = wasi_http_types_borrow_outgoing_request(*made);
    wasi_http_types_method_t method = method_of(request->method != NULL ? request->method : "GET");
    if (wasi_http_types_method_outgoing_request_set_method(it, &method) &&
        wasi_http_types_method_outgoing_request_set_scheme(it, &scheme) &&
        wasi_http_types_method_outgoing_request_set_authority(it, &authority) &&
        wasi_http_types_method_outgoing_request_set_path_with_query(it, &path)) {
        return true;
    }
    return invalid(gantry_format("%s is no valid request", request->url));
}

/* What goes wrong here tells the answer, or the lack of one. */
static void write_body(wasi_http_types_own_outgoing_body_t body, gantry_bytes bytes) {
    wasi_http_types_own_output_stream_t stream;
    if (bytes.length > 0 && wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) {
        for (size_t at = 0; at < bytes.length; at += WRITE_BYTES_MAX) {
            size_t left = bytes.length - at;
            bindings_list_u8_t part = {(uint8_t *)bytes.data + at, left < WRITE_BYTES_MAX ? left : WRITE_BYTES_MAX};
            wasi_io_streams_stream_error_t error;
            if (!wasi_io_streams_method_output_stream_blocking_write_and_flush(wasi_io_streams_borrow_output_stream(stream),
                                                                               &part, &error)) {
                break;
            }
        }
        wasi_io_streams_output_stream_drop_own(stream);
    }
    wasi_http_types_error_code_t error;
    wasi_http_types_static_outgoing_body_finish(body, NULL, &error);
}

static bool read_body(wasi_http_types_borrow_incoming_response_t response, size_t max, gantry_bytes *body) {
    wasi_http_types_own_incoming_body_t incoming;
    wasi_http_types_own_input_stream_t stream;
    if (!wasi_http_types_method_incoming_response_consume(response, &incoming) ||
        !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(incoming), &stream)) {
        return failed("the body was taken already");
    }
    *body = gantry_copy("", 0);
    for (;;) {
        bindings_list_u8_t part;
        wasi_io_streams_stream_error_t error;
        if (!wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(stream), READ_BYTES_MAX,
                                                               &part, &error)) {
            return error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED || broken(error.val.last_operation_failed);
        }
        size_t length = body->length + part.len;
        if (length > max) {
            return gantry_refuse(GANTRY_LIMIT, "outbound.body_too_large",
                                 gantry_format("the response is larger than %zu bytes", max));
        }
        char *all = gantry_new(length + 1);
        memcpy(all, body->data, body->length);
        if (part.len > 0) memcpy(all + body->length, part.ptr, part.len);
        all[length] = 0;
        free((void *)body->data);
        bindings_list_u8_free(&part);
        *body = (gantry_bytes){all, length};
    }
}

bool gantry_fetch(const gantry_outgoing *request, gantry_answer *answer) {
    wasi_http_types_own_outgoing_request_t made;
    if (!head(request, &made)) return false;
    wasi_http_types_own_outgoing_body_t outgoing;
    if (!wasi_http_types_method_outgoing_request_body(wasi_http_types_borrow_outgoing_request(made), &outgoing)) {
        return failed("the request has no body to write");
    }
    wasi_http_types_own_request_options_t options, *given = NULL;
    if (request->timeout_ms > 0) {
        uint64_t timeout = request->timeout_ms * 1000000;
        options = wasi_http_types_constructor_request_options();
        wasi_http_types_borrow_request_options_t it = wasi_http_types_borrow_request_options(options);
        wasi_http_types_method_request_options_set_connect_timeout(it, &timeout);
        wasi_http_types_method_request_options_set_first_byte_timeout(it, &timeout);
        wasi_http_types_method_request_options_set_between_bytes_timeout(it, &timeout);
        given = &options;
    }
    wasi_http_types_own_future_incoming_response_t future;
    wasi_http_types_error_code_t error;
    if (!wasi_http_outgoing_handler_handle(made, given, &future, &error)) return refused(&error);
    write_body(outgoing, request->body);
    wasi_http_types_borrow_future_incoming_response_t coming = wasi_http_types_borrow_future_incoming_response(future);
    wasi_io_poll_method_pollable_block(
        wasi_io_poll_borrow_pollable(wasi_http_types_method_future_incoming_response_subscribe(coming)));
    wasi_http_types_result_result_own_incoming_response_error_code_void_t outcome;
    if (!wasi_http_types_method_future_incoming_response_get(coming, &outcome) || outcome.is_err) {
        return failed("the answer came twice or not at all");
    }
    if (outcome.val.ok.is_err) return refused(&outcome.val.ok.val.err);
    wasi_http_types_borrow_incoming_response_t response =
        wasi_http_types_borrow_incoming_response(outcome.val.ok.val.ok);
    answer->status = wasi_http_types_method_incoming_response_status(response);
    wasi_http_types_list_tuple2_field_name_field_value_t entries;
    wasi_http_types_method_fields_entries(
        wasi_http_types_borrow_fields(wasi_http_types_method_incoming_response_headers(response)), &entries);
    answer->headers = (gantry_strings){gantry_new(entries.len * 2 * sizeof(char *)), entries.len * 2};
    for (size_t i = 0; i < entries.len; i++) {
        answer->headers.items[2 * i] = gantry_of_wit(entries.ptr[i].f0);
        answer->headers.items[2 * i + 1] = gantry_copy(entries.ptr[i].f1.ptr, entries.ptr[i].f1.len).data;
    }
    return read_body(response, request->body_bytes_max > 0 ? request->body_bytes_max : BODY_BYTES_MAX, &answer->body);
}
