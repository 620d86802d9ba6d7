/* Databases in C. */

#include <string.h>

#include "internal.h"

gantry_value gantry_null(void) { return (gantry_value){.type = GANTRY_NULL}; }

gantry_value gantry_integer(int64_t value) { return (gantry_value){.type = GANTRY_INTEGER, .integer = value}; }

gantry_value gantry_real(double value) { return (gantry_value){.type = GANTRY_REAL, .real = value}; }

gantry_value gantry_string(const char *value) {
    if (value == NULL) return gantry_null();
    return (gantry_value){.type = GANTRY_TEXT, .bytes = {value, strlen(value)}};
}

gantry_value gantry_blob(const void *data, size_t length) {
    return (gantry_value){.type = GANTRY_BLOB, .bytes = {data, length}};
}

static gantry_sql_client_list_value_t to_wit(const gantry_value *values, size_t count) {
    gantry_sql_client_list_value_t list = {gantry_new(count * sizeof(gantry_sql_client_value_t)), count};
    for (size_t i = 0; i < count; i++) {
        /* The types have the numbers that the contract gives them. */
        list.ptr[i].tag = (uint8_t)values[i].type;
        switch (values[i].type) {
        case GANTRY_NULL: break;
        case GANTRY_BOOLEAN: list.ptr[i].val.boolean = values[i].boolean; break;
        case GANTRY_INTEGER: list.ptr[i].val.integer = values[i].integer; break;
        case GANTRY_REAL: list.ptr[i].val.real = values[i].real; break;
        case GANTRY_TEXT:
        case GANTRY_BLOB:
            list.ptr[i].val.blob = (bindings_list_u8_t){(uint8_t *)values[i].bytes.data, values[i].bytes.length};
            break;
        }
    }
    return list;
}

static gantry_value of_wit(gantry_sql_client_value_t value) {
    switch (value.tag) {
    case GANTRY_SQL_CLIENT_VALUE_BOOLEAN: return (gantry_value){.type = GANTRY_BOOLEAN, .boolean = value.val.boolean};
    case GANTRY_SQL_CLIENT_VALUE_INTEGER: return gantry_integer(value.val.integer);
    case GANTRY_SQL_CLIENT_VALUE_REAL: return gantry_real(value.val.real);
    case GANTRY_SQL_CLIENT_VALUE_TEXT:
        return (gantry_value){.type = GANTRY_TEXT, .bytes = gantry_copy(value.val.text.ptr, value.val.text.len)};
    case GANTRY_SQL_CLIENT_VALUE_BLOB:
        return (gantry_value){.type = GANTRY_BLOB, .bytes = gantry_copy(value.val.blob.ptr, value.val.blob.len)};
    default: return gantry_null();
    }
}

static gantry_sql_client_borrow_connection_t connection(gantry_sql db) {
    return gantry_sql_client_borrow_connection((gantry_sql_client_own_connection_t){db.handle});
}

static gantry_sql_client_borrow_transaction_t transaction_of(gantry_sql db) {
    return gantry_sql_client_borrow_transaction((gantry_sql_client_own_transaction_t){db.handle});
}

bool gantry_sql_open(const char *label, gantry_sql *db) {
    bindings_string_t name = gantry_to_wit(label);
    gantry_sql_client_own_connection_t opened;
    gantry_types_types_error_t error;
    if (!gantry_sql_client_static_connection_open(&name, &opened, &error)) return gantry_refused(&error);
    *db = (gantry_sql){.handle = opened.__handle};
    return true;
}

bool gantry_sql_query(gantry_sql db, const char *sql, const gantry_value *params, size_t count, gantry_rows *rows) {
    bindings_string_t text = gantry_to_wit(sql);
    gantry_sql_client_list_value_t values = to_wit(params, count);
    gantry_sql_client_row_set_t found;
    gantry_types_types_error_t error;
    bool is_done = db.is_transaction
                       ? gantry_sql_client_method_transaction_query(transaction_of(db), &text, &values, &found, &error)
                       : gantry_sql_client_method_connection_query(connection(db), &text, &values, &found, &error);
    if (!is_done) return gantry_refused(&error);
    size_t width = found.columns.len;
    rows->columns = (gantry_strings){gantry_new(width * sizeof(char *)), width};
    for (size_t i = 0; i < width; i++) rows->columns.items[i] = gantry_of_wit(found.columns.ptr[i]);
    rows->count = found.rows.len;
    rows->values = gantry_new(found.rows.len * width * sizeof(gantry_value));
    for (size_t row = 0; row < found.rows.len; row++) {
        for (size_t i = 0; i < width; i++) rows->values[row * width + i] = of_wit(found.rows.ptr[row].ptr[i]);
    }
    return true;
}

bool gantry_sql_execute(gantry_sql db, const char *sql, const gantry_value *params, size_t count,
                        uint64_t *rows_affected, int64_t *last_insert_id) {
    bindings_string_t text = gantry_to_wit(sql);
    gantry_sql_client_list_value_t values = to_wit(params, count);
    gantry_sql_client_run_result_t result;
    gantry_types_types_error_t error;
    bool is_done = db.is_transaction
                       ? gantry_sql_client_method_transaction_execute(transaction_of(db), &text, &values, &result, &error)
                       : gantry_sql_client_method_connection_execute(connection(db), &text, &values, &result, &error);
    if (!is_done) return gantry_refused(&error);
    if (rows_affected != NULL) *rows_affected = result.rows_affected;
    if (last_insert_id != NULL) *last_insert_id = result.last_insert_id.is_some ? result.last_insert_id.val : 0;
    return true;
}

bool gantry_sql_begin(gantry_sql db, gantry_sql *transaction) {
    gantry_sql_client_own_transaction_t begun;
    gantry_types_types_error_t error;
    if (!gantry_sql_client_method_connection_begin(connection(db), &begun, &error)) return gantry_refused(&error);
    *transaction = (gantry_sql){.handle = begun.__handle, .is_transaction = true};
    return true;
}

bool gantry_sql_commit(gantry_sql transaction) {
    gantry_types_types_error_t error;
    return gantry_sql_client_static_transaction_commit((gantry_sql_client_own_transaction_t){transaction.handle}, &error) ||
           gantry_refused(&error);
}

bool gantry_sql_rollback(gantry_sql transaction) {
    gantry_types_types_error_t error;
    return gantry_sql_client_static_transaction_rollback((gantry_sql_client_own_transaction_t){transaction.handle}, &error) ||
           gantry_refused(&error);
}

const gantry_value *gantry_at(const gantry_rows *rows, size_t row, size_t column) {
    return &rows->values[row * rows->columns.count + column];
}
