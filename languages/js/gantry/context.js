// What the host knows about the call in progress.

import invocation from "gantry:context/invocation@0.1.0";

export const requestId = () => invocation.requestId();
export const traceparent = () => invocation.traceparent() ?? undefined;
export const trigger = () => invocation.trigger();
export const route = () => invocation.route() ?? undefined;
export const clientAddress = () => invocation.clientAddress() ?? undefined;
export const remainingMs = () => invocation.remainingMs();
export const attempt = () => invocation.attempt();
export const idempotencyKey = () => invocation.idempotencyKey() ?? undefined;

/** The parameters of the route's pattern, decoded, by their names. */
export const pathParams = () => Object.fromEntries(invocation.pathParams());
