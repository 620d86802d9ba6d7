// Redoc is a module; the bar is not. This is where they meet.
import { init } from "./redoc-3.0.1.js";

window.gantryRedoc = (content, place) =>
  init(content, { disableTelemetry: true, router: "hash", hideDownloadButtons: true }, place);
window.dispatchEvent(new Event("gantry-redoc"));
