-- OpenAPI: every route is described, and what describes them is valid.
-- serve: --workers 1

local check  = require "check"
local client = require "client"

local HOME <const> = os.getenv "OMADE_HOME"
local document = check.status(client.get "/api/openapi.json", 200).json()

--- What `omade routes` lists: {method, path}.
local function routes()
  local list = {}
  local text = client.shell('"$(readlink -f /proc/$TEST_SERVER_PID/exe)" routes')
  for line in text:gmatch "[^\n]+" do
    local method, path = line:match "^(%u+)%s+(/%S*)"
    if method then list[#list + 1] = { method, path } end
  end
  return list
end

local function operation(method, path)
  return check.truthy((document.paths[path] or {})[method], method .. " " .. path)
end

local function parameter(op, name)
  for _, one in ipairs(op.parameters or {}) do
    if one.name == name then return one end
  end
end

--- Every operation.
local function each(fn)
  for path, item in pairs(document.paths) do
    for method, op in pairs(item) do fn(method, path, op) end
  end
end

return {
  { "every route of `omade routes` is in it", function()
    local list = routes()
    check.truthy(#list > 15, "routes: " .. #list)
    for _, route in ipairs(list) do
      operation(route[1]:lower(), (route[2]:gsub("[:*]([%w_]+)", "{%1}")))
    end
    local count = 0
    each(function() count = count + 1 end)
    check.equal(count, #list)
  end },

  { "each says who may call it, what may go wrong, and its limit", function()
    local ids = {}
    each(function(method, path, op)
      local name = method .. " " .. path
      check.truthy(not ids[op.operationId], name .. ": operationId")
      ids[op.operationId] = true
      check.truthy(op.summary, name .. ": summary")
      check.truthy(#op["x-roles"] > 0, name .. ": x-roles")
      check.truthy(op.responses["503"], name .. ": 503")
      for parameter_name in path:gmatch "{(.-)}" do
        check.truthy(parameter(op, parameter_name), name .. ": " .. parameter_name)
      end
    end)
  end },

  { "each says what it answers, and what every error looks like", function()
    local described = 0
    each(function(method, path, op)
      local name = method .. " " .. path
      check.truthy(#op.tags > 0, name .. ": tags")
      check.truthy(not op.responses["2XX"], name .. ": say its `answer`, and its `status` where that is not 200")
      for status, response in pairs(op.responses) do
        if status == "default" or tonumber(status) >= 400 then
          if response["$ref"] then response = document.components.responses[response["$ref"]:match "[^/]+$"] end
          check.truthy(response and response.content["application/json"], name .. ": " .. status)
        else
          local json = (response.content or {})["application/json"]
          local schema = json and (json.schema.properties and json.schema.properties.data or json.schema)
          check.truthy(not json or next(schema), name .. ": " .. status .. " is not described")
          described = described + 1
        end
      end
    end)
    check.truthy(described > 30, "answers: " .. described)
  end },

  { "a route's shapes become its schemas", function()
    local op = operation("post", "/api/v1/products")
    check.same(op["x-roles"], { "admin" })
    check.same(op.security, { { bearer = {} }, { cookie = {} } })
    local schema = op.requestBody.content["application/json"].schema
    check.equal(schema.properties.name.minLength, 2)
    check.equal(schema.properties.price.type, "number")
    check.equal(schema.properties.image, nil)
    check.same(schema.required, { "name", "price" })
    check.equal(op.requestBody.content["multipart/form-data"].schema.properties.image.format, "binary")
    check.truthy(op.responses["401"] and op.responses["403"] and op.responses["400"], "errors")

    op = operation("get", "/api/v1/products")
    check.same(op.security, {})
    check.equal(parameter(op, "limit").schema.default, 20)
    check.equal(parameter(op, "limit")["in"], "query")
    check.equal(operation("get", "/api/v1/products/{id}").parameters[1].schema.format, "uuid")
    local patch = operation("patch", "/api/v1/products/{id}").requestBody.content["application/json"].schema
    check.same(patch.properties.description.type, { "string", "null" })
    check.equal(patch.required, nil)
    check.truthy(not operation("post", "/api/v1/custom-cakes/upload").requestBody.content["application/json"],
                 "an upload is no JSON")
  end },

  { "headers that handlers look at are told; a GET has no body, which no browser would send", function()
    check.equal(parameter(operation("get", "/api/v1/orders/{id}"), "X-Tracking-Token")["in"], "header")
    check.equal(parameter(operation("get", "/api/v1/cart"), "X-Session-Id")["in"], "header")
    check.truthy(parameter(operation("post", "/api/v1/payments/webhook/{provider}"), "X-Omade-Signature"), "signature")
    check.truthy(parameter(operation("post", "/api/v1/orders"), "Idempotency-Key"), "key")
    each(function(method, path, op)
      check.truthy(method ~= "get" or not op.requestBody, path .. " has a body")
    end)
    check.truthy(operation("get", "/api/v1/promo/validate")["x-body"], "what old clients send with a GET")
  end },

  { "the events of a stream are told, with their data", function()
    local stream = operation("get", "/api/v1/orders/{id}/events").responses["200"].content["text/event-stream"].schema
    local events = document.components.schemas[stream["$ref"]:match "[^/]+$"].items.anyOf
    check.equal(#events, 2)
    for i, name in ipairs { "payment", "status" } do
      check.same(events[i].required, { "data", "event", "id" })
      check.equal(events[i].properties.event.const, name)
      check.equal(events[i].properties.data.contentSchema.properties.at.format, "date-time")
    end
  end },

  { "the examples of bodies are accepted", function()
    local admin = client.session "admin"
    for _, path in ipairs { "/api/v1/products", "/api/v1/custom-cakes/preview" } do
      local json = operation("post", path).requestBody.content["application/json"]
      local answer = client.post(path, { body = json.example, token = admin })
      check.truthy(answer.status < 300, path .. ": " .. answer.body)
    end
  end },

  { "a public validator accepts it", function()
    local folder = HOME .. "/build/openapi-validator"
    local here = HOME .. "/test/api/openapi"
    local problem = client.shell(("'%s/deploy/assets/install.sh' '%s/package-lock.json' '%s'"):format(HOME, here, folder))
    if not io.open(folder .. "/stamp") then
      print("  skipped: " .. problem)
      return
    end
    client.shell(("cp '%s/validate.mjs' '%s'"):format(here, folder))
    local file = os.getenv "TEST_WORK" .. "/openapi.json"
    local f = assert(io.open(file, "w"))
    f:write(client.get("/api/openapi.json").body)
    f:close()
    local said, ok = client.shell("cd '" .. folder .. "' && node validate.mjs '" .. file .. "'")
    check.truthy(ok, "the validator says: " .. said)
    check.matches(said, "^valid 3%.1")
    local broken = client.shell("cd '" .. folder .. "' && sed 's/\"in\":\"query\"/\"in\":\"nowhere\"/' '" .. file
                                .. "' > '" .. file .. ".bad' && node validate.mjs '" .. file .. ".bad'")
    check.matches(broken, "invalid", "it finds a fault")
  end },

  { "the page to try it loads nothing from elsewhere", function()
    local page = check.status(client.get "/api/docs", 200)
    check.matches(page.headers["content-type"], "^text/html")
    check.matches(page.headers["content-security-policy"], "script%-src 'self'")
    check.truthy(not page.body:find "https?://", "no other server")
    check.truthy(not page.body:find "<script>", "no inline script")
    for path in page.body:gmatch '[hs][rer][ecf]=?"?(/api/docs/[%w.-]+)' do
      local answer = client.get(path)
      check.truthy(answer.status == 200 or path:find "swagger", path)
    end
    check.status(client.get "/api/docs/page.js", 200)
    check.status(client.get "/api/docs/page.css", 200)
    check.status(client.get "/api/docs/package.json", 404)
  end },
}
