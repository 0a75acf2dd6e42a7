--- /api/docs: Swagger UI where the build could install it; else a list of the routes with a form each.

local ESCAPES <const> = { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;", ['"'] = "&quot;" }

local function html(title)
  title = title:gsub('[&<>"]', ESCAPES)
  return [[<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>]] .. title .. [[</title>
<link rel="icon" href="data:,"><link rel="stylesheet" href="/api/docs/swagger-ui.css">
<link rel="stylesheet" href="/api/docs/page.css"></head><body><div id="docs"></div>
<noscript>This page needs JavaScript; the description itself is <a href="/api/openapi.json">openapi.json</a>.</noscript>
<script src="/api/docs/swagger-ui-bundle.js"></script><script src="/api/docs/page.js"></script></body></html>]]
end

local style <const> = [[
body { margin: 0; background: #fff }
.plain { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: #222 }
.plain h1 { font-size: 1.5rem } .plain h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; text-transform: capitalize }
.plain details { border: 1px solid #ddd; border-radius: 6px; margin: .35rem 0; padding: .35rem .75rem }
.plain summary { cursor: pointer } .plain code, .plain textarea, .plain pre { font-family: ui-monospace, monospace }
.plain .method { display: inline-block; width: 4.5rem; font-weight: 600 } .plain .who { color: #777; float: right }
.plain label { display: grid; grid-template-columns: 12rem 1fr; gap: .5rem; margin: .35rem 0; align-items: center }
.plain input, .plain textarea { font-size: 14px; padding: .3rem .5rem; border: 1px solid #bbb; border-radius: 4px }
.plain textarea { min-height: 8rem } .plain button { padding: .35rem 1rem; margin: .5rem 0 }
.plain pre { background: #f6f6f6; padding: .75rem; overflow: auto; max-height: 30rem; white-space: pre-wrap }
]]

local script <const> = [[
"use strict";

function make(tag, fields, ...children) {
  const node = Object.assign(document.createElement(tag), fields || {});
  node.append(...children.filter((child) => child != null));
  return node;
}

/* ---- without Swagger UI: own forms ------------------------------------------------ */

function inputFor(parameter) {
  const schema = parameter.schema || {};
  const hint = schema.enum ? schema.enum.join(" | ") : schema.format || schema.type || "";
  return make("input", { name: parameter.name, placeholder: hint, required: parameter.required });
}

async function send(method, path, parameters, inputs, body, output) {
  const query = new URLSearchParams(), headers = {};
  parameters.forEach((parameter, i) => {
    const value = inputs[i].value;
    if (parameter.in === "path") path = path.replace("{" + parameter.name + "}", encodeURIComponent(value));
    else if (value !== "" && parameter.in === "query") query.set(parameter.name, value);
    else if (value !== "") headers[parameter.name] = value;
  });
  const token = document.getElementById("token").value;
  if (token) headers.Authorization = "Bearer " + token;
  if (body) headers["Content-Type"] = "application/json";
  output.textContent = "...";
  try {
    const text = query.toString(), url = path + (text ? "?" + text : "");
    const answer = await fetch(url, { method, headers, body: body ? body.value : undefined });
    let shown = await answer.text();
    try { shown = JSON.stringify(JSON.parse(shown), null, 2); } catch { /* no JSON: as it is */ }
    output.textContent = method + " " + url + "\n" + answer.status + " " + answer.statusText + "\n\n" + shown;
  } catch (error) {
    output.textContent = String(error);
  }
}

function operation(path, method, op) {
  const parameters = op.parameters || [], inputs = parameters.map(inputFor);
  const json = op.requestBody && op.requestBody.content["application/json"];
  const body = json ? make("textarea", { value: JSON.stringify(json.example, null, 2) }) : null;
  const output = make("pre", { textContent: "" });
  const form = make("form", {}, ...parameters.map((parameter, i) =>
    make("label", {}, make("span", { textContent: parameter.name + " (" + parameter.in + ")" }), inputs[i])),
    body && make("label", {}, make("span", { textContent: "body" }), body),
    make("button", { textContent: "Send" }), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(method.toUpperCase(), path, parameters, inputs, body, output);
  });
  return make("details", {}, make("summary", {},
    make("span", { className: "method", textContent: method.toUpperCase() }), make("code", { textContent: path }),
    " " + (op.summary || ""), make("span", { className: "who", textContent: op["x-roles"].join(", ") })), form);
}

function plainPage(doc, root) {
  root.className = "plain";
  root.append(make("h1", { textContent: doc.info.title + " " + doc.info.version }),
    make("label", {}, make("span", { textContent: "Access token" }), make("input", { id: "token" })));
  for (const tag of doc.tags) {
    root.append(make("h2", { textContent: tag.name }));
    for (const [path, item] of Object.entries(doc.paths))
      for (const [method, op] of Object.entries(item))
        if (op.tags[0] === tag.name) root.append(operation(path, method, op));
  }
}

/* ---- start ------------------------------------------------------------------------- */

const root = document.getElementById("docs");
if (window.SwaggerUIBundle) {
  window.SwaggerUIBundle({ url: "/api/openapi.json", domNode: root, deepLinking: true,
                           persistAuthorization: true, validatorUrl: null, docExpansion: "list",
                           defaultModelsExpandDepth: -1, tryItOutEnabled: true });
} else {
  fetch("/api/openapi.json").then((answer) => answer.json()).then((doc) => plainPage(doc, root),
    (error) => { root.textContent = "The description could not be read: " + error; });
}
]]

return { html = html, style = style, script = script }
