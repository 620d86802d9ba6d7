/* What the files of the kit share. Not for plugins. */

#ifndef GANTRY_INTERNAL_H
#define GANTRY_INTERNAL_H

#include "bindings.h"
#include "gantry.h"

/* Memory that must be there: without it the plugin stops, and the host says why. */
void *gantry_new(size_t length);
/* A copy with a zero behind it. */
gantry_bytes gantry_copy(const void *data, size_t length);
/* The contract's string of ours, not copied; ours of the contract's. */
bindings_string_t gantry_to_wit(const char *text);
const char *gantry_of_wit(bindings_string_t text);
/* Keeps an error; always false, to be returned. */
bool gantry_refused(const gantry_types_types_error_t *error);
bool gantry_refuse(gantry_error_kind kind, const char *code, const char *message);

#endif
