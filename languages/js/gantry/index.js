// Everything a plugin usually needs: `import { Problem, kv, router } from "../gantry/index.js";`

export { Problem, ServiceError } from "./errors.js";
export { Request, Response, Router, router } from "./http.js";
export { decode, encode } from "./text.js";
export * as context from "./context.js";
export * as identity from "./identity.js";
export * as log from "./log.js";
export * as settings from "./settings.js";
export * as tokens from "./tokens.js";
export * from "./services.js";
