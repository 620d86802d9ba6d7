// The bar of the pages: which API is shown, in which version, and with whose token it is read and tried out. The token stays
// in this tab and goes nowhere but to this host.
(() => {
  "use strict";
  const page = document.body.dataset;
  const bar = document.getElementById("bar");
  const note = document.getElementById("note");
  const app = document.getElementById("app");
  const query = new URLSearchParams(location.search);
  const TOKEN = "gantry.docs.token";
  const token = () => sessionStorage.getItem(TOKEN) || "";

  const element = (name, properties, ...children) => {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  };

  const go = (changes) => {
    for (const [key, value] of Object.entries(changes)) {
      if (value) query.set(key, value);
      else query.delete(key);
    }
    location.search = query.toString();
  };

  const choice = (label, key, values, all) => {
    const options = [["", all], ...values.map((value) => [value, value])];
    const select = element("select", { ariaLabel: label, id: `choose-${key}` });
    for (const [value, text] of options) {
      select.append(element("option", { value, textContent: text, selected: value === (query.get(key) || "") }));
    }
    select.addEventListener("change", () => go({ [key]: select.value }));
    return element("label", {}, `${label} `, select);
  };

  const draw = (document_) => {
    const apis = document_["x-gantry-apis"] || [];
    const shown = apis.filter((api) => !query.get("plugin") || api.plugin === query.get("plugin"));
    const unique = (lists) => [...new Set(lists.flat())].sort();
    bar.replaceChildren(element("strong", { textContent: document_.info.title }));
    if (apis.length > 1) bar.append(choice("API", "plugin", apis.map((api) => api.plugin), "all"));
    const versions = unique(shown.map((api) => api.versions));
    if (versions.length > 1) bar.append(choice("Version", "version", versions, "all"));
    // Groups of the host's own belong to no API and to no version of one.
    const own = query.get("plugin") || query.get("version") ? [] : document_["x-gantry-host-tags"] || [];
    const tags = unique([...shown.map((api) => api.tags), own]);
    if (tags.length > 1) bar.append(choice("Group", "tag", tags, "all"));
    const field = element("input", {
      id: "token", type: "password", autocomplete: "off", spellcheck: false, value: token(),
      placeholder: "Access token or API key", ariaLabel: "Access token or API key",
    });
    const form = element("form", { id: "token-form" }, field, element("button", { textContent: "Use" }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const value = field.value.trim();
      if (value) sessionStorage.setItem(TOKEN, value);
      else sessionStorage.removeItem(TOKEN);
      location.reload();
    });
    bar.append(form);
    const links = element("nav", { ariaLabel: "Other views" });
    for (const [kind, text] of [["reference", "Try out"], ["redoc", "Read"], ["swagger", "Swagger"]]) {
      const address = page[kind];
      if (address && kind !== page.kind) links.append(element("a", { href: address + location.search, textContent: text }));
    }
    const raw = page.openapi + location.search;
    links.append(element("a", { href: raw, textContent: "JSON", download: "openapi.json" }));
    bar.append(links);
  };

  const count = (document_) =>
    Object.values(document_.paths || {}).reduce((sum, item) => sum + Object.keys(item).length, 0);

  const withToken = (headers) => {
    if (token() && !headers.has("authorization") && !headers.has("x-api-key")) {
      headers.set("authorization", `Bearer ${token()}`);
    }
    return headers;
  };

  // Whoever is logged in by cookie, and gives no token, says with each change that it comes from this page.
  const withCsrf = (headers, method) => {
    const known = document.cookie.split("; ").find((pair) => pair.startsWith("__Host-gantry-csrf="));
    if (known && !headers.has("authorization") && !headers.has("x-api-key") && !["GET", "HEAD"].includes(method)) {
      headers.set("x-gantry-csrf", known.slice(known.indexOf("=") + 1));
    }
    return headers;
  };

  // Scalar puts the token into a request last of all, and without one a scheme with nothing behind it: no credentials, and
  // not wrong ones.
  const withoutEmpty = (send) => (input, init) => {
    const request = new Request(input, init);
    if (/^\w+\s*$/.test(request.headers.get("authorization") || "")) request.headers.delete("authorization");
    if (new URL(request.url).origin === location.origin) withCsrf(request.headers, request.method);
    return send(request);
  };

  const show = {
    reference: (document_) => {
      const { "x-gantry-apis": _, ...content } = document_;
      window.fetch = withoutEmpty(window.fetch.bind(window));
      Scalar.createApiReference(app, {
        content,
        baseServerURL: location.origin,
        withDefaultFonts: false,
        telemetry: false,
        hideClientButton: true,
        showDeveloperTools: "never",
        agent: { disabled: true },
        mcp: { disabled: true },
        persistAuth: false,
        authentication: {
          preferredSecurityScheme: "access_token",
          securitySchemes: { access_token: { token: token() } },
        },
      });
    },
    swagger: (document_) => {
      const dark = matchMedia("(prefers-color-scheme: dark)");
      const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
      dark.addEventListener("change", paint);
      paint();
      window.ui = SwaggerUIBundle({
        spec: document_,
        domNode: app,
        deepLinking: true,
        validatorUrl: null,
        tryItOutEnabled: true,
        requestInterceptor: (request) => {
          const headers = withCsrf(withToken(new Headers(request.headers)), (request.method || "GET").toUpperCase());
          request.headers = Object.fromEntries(headers.entries());
          return request;
        },
      });
      if (token()) window.ui.preauthorizeApiKey("access_token", token());
    },
    redoc: (document_) => {
      const start = () => window.gantryRedoc(document_, app);
      if (window.gantryRedoc) start();
      else window.addEventListener("gantry-redoc", start, { once: true });
    },
  };

  const load = async () => {
    const asked = new URL(page.openapi, location.origin);
    for (const key of ["plugin", "version", "tag"]) {
      if (query.get(key)) asked.searchParams.set(key, query.get(key));
    }
    const headers = withToken(new Headers({ accept: "application/json" }));
    const answer = await fetch(asked, { headers, credentials: "same-origin", cache: "no-cache" });
    const body = await answer.json();
    if (!answer.ok) {
      draw({ info: { title: document.title } });
      note.textContent = `${body.detail || answer.statusText}.`;
      return;
    }
    const large = count(body) > Number(page.operationsMax);
    if (page.kind === "reference" && large && page.swagger) {
      location.replace(page.swagger + location.search);
      return;
    }
    draw(body);
    show[page.kind](body);
  };

  load().catch((error) => {
    note.textContent = `The documentation cannot be shown: ${error.message}`;
  });
})();
