--- Promotion codes: what one is worth, and their administration.

local answers  = require "bakery.rules.answers"
local audit    = require "bakery.services.audit"
local auth     = require "omade.auth"
local commerce = require "omade.commerce"
local db       = require "omade.db"
local json     = require "omade.json"
local money    = require "omade.money"
local page     = require "omade.page"
local quote    = require "bakery.services.quote"
local s        = require "omade.schema"
local time     = require "omade.time"
local v        = require "omade.validate"
local web      = require "omade.web"

local COLUMNS <const> = [[p.id, p.code, p.discount_type, p.amount, p.valid_from, p.valid_to, p.usage_limit,
  p.used_count, p.per_user_limit, p.minimum_order, p.created_at]]

local INTEGER_MAX <const> = 2147483647
local PERCENT_MAX <const> = money "100.00"
local USED_CHECK  <const> = "promo_codes_check1"      -- used_count <= usage_limit

---- Shapes: what a caller may send -------------------------------------------------------

local Id <const> = v.shape { id = v.uuid { label = "Promo code id" } }

local List <const> = v.shape(page.fields())

local FIELDS <const> = {
  code         = v.text { min = 1, max = 50, optional = true },
  order_amount = v.money { min = 0, max = "999999.99", optional = true },
}

local Check <const>, CheckBody <const> = v.shape(FIELDS), v.shape(FIELDS, { optional = true })

--- What fields require of each other.
local function check(promo, fault)
  local from, to = promo.valid_from, promo.valid_to
  if promo.discount_type == "percent" and promo.amount and promo.amount > PERCENT_MAX then
    fault("Amount must be at most 100 for a percentage", "amount")
  end
  if from and to and time.parse(to) <= time.parse(from) then fault("Valid to must be after valid from", "valid_to") end
end

local Promo <const> = v.shape({
  code           = v.text { min = 3, max = 50 },
  discount_type  = v.one_of { "percent", "fixed" },
  amount         = v.money { min = "0.01", max = "999999.99" },
  valid_from     = v.time(),
  valid_to       = v.time(),
  usage_limit    = v.integer { min = 1, max = INTEGER_MAX, optional = true },
  per_user_limit = v.integer { min = 1, max = INTEGER_MAX, optional = true },
  minimum_order  = v.money { min = 0, max = "999999.99", optional = true },
}, { together = check })

---- What a code is worth --------------------------------------------------------------------------

--- From the query, or from the body as old clients send it.
local function wish_of(req)
  local query, body = req.query, req.body or {}
  local code, amount = query.code or body.code, query.order_amount or body.order_amount
  local faults = {}
  if not code then faults[1] = { path = "code", message = "Code is required" } end
  if not amount then faults[#faults + 1] = { path = "order_amount", message = "Order amount is required" } end
  v.refuse(faults)
  return code, amount
end

local CLOCK <const> = "SELECT extract(epoch FROM now())::float8 AS seconds"

local function validate(req)
  local code, amount = wish_of(req)
  local user = auth.user(req)
  local found = db.batch { { CLOCK, as = "row" },
                           { quote.LOOK_PROMO, code, user and user.id, nil, n = 4, as = "row" } }
  local row = found[2] ~= json.null and found[2] or nil
  local discount, why
  if row then discount, why = commerce.promo(row):discount(amount, found[1].seconds) end
  if not discount then
    why = why or "PROMO_INVALID"
    return { valid = false, error = quote.message(why), code = why }
  end
  return { valid = true, discount_amount = discount,
           promo = { code = row.code, discount_type = row.discount_type, amount = row.amount } }
end

---- Administration -----------------------------------------------------------------------------------

local function list_from(req, from)
  return page.list("promoCodes", req.query, { select = COLUMNS, from = from,
                                              order = "p.created_at DESC, p.id" })
end

local function list(req) return list_from(req, "promo_codes p") end

local function active(req)
  return list_from(req, [[promo_codes p WHERE now() BETWEEN p.valid_from AND p.valid_to
    AND (p.usage_limit IS NULL OR p.used_count < p.usage_limit)]])
end

--- Runs fn, and says in our words that the code is taken.
local function unless_taken(fn)
  local ok, result = pcall(fn)
  if ok then return result end
  if type(result) == "table" and result.constraint == "promo_codes_code_key" then
    web.fail(409, "This promo code exists already", { code = "PROMO_CODE_TAKEN" })
  end
  error(result, 0)
end

local INSERT <const> = [[
  INSERT INTO promo_codes AS p (code, discount_type, amount, valid_from, valid_to, usage_limit,
    per_user_limit, minimum_order)
  VALUES (upper(btrim($1)), $2, $3, $4, $5, $6, $7, $8) RETURNING ]] .. COLUMNS

local function create(req)
  local new = req.body
  local row = unless_taken(function()
    return db.transaction(function()
      local made = db.row(INSERT, new.code, new.discount_type, new.amount, new.valid_from, new.valid_to,
                          new.usage_limit, new.per_user_limit, new.minimum_order)
      audit.write(req, "promo.create", "promo", made.id, new)
      return made
    end)
  end)
  return web.created(db.json_row("SELECT " .. COLUMNS .. " FROM promo_codes p WHERE id = $1", row.id),
                     "Promo code created successfully")
end

local FIND <const> = "SELECT " .. COLUMNS .. " FROM promo_codes p WHERE p.id = $1 FOR UPDATE"

local function lock(id)
  return db.row(FIND, id) or web.fail(404, "Promo code not found")
end

local SET <const> = {
  code = "upper(btrim(%s))", discount_type = "%s", amount = "%s", valid_from = "%s", valid_to = "%s",
  usage_limit = "%s", per_user_limit = "%s", minimum_order = "%s",
}

local NAMES <const> = { "code", "discount_type", "amount", "valid_from", "valid_to", "usage_limit",
                        "per_user_limit", "minimum_order" }

--- Refuses what the promotion must not become.
local function check_change(was, new)
  local faults = {}
  check({ discount_type = new.discount_type or was.discount_type, amount = new.amount or was.amount:money(),
          valid_from = new.valid_from or was.valid_from, valid_to = new.valid_to or was.valid_to },
        function(message, field) faults[#faults + 1] = { path = field, message = message } end)
  v.refuse(faults)
end

local function save(id, new)
  local sets, values = {}, { id }
  for _, name in ipairs(NAMES) do
    if new[name] ~= nil then
      values[#values + 1] = new[name]
      sets[#sets + 1] = name .. " = " .. SET[name]:format("$" .. #values)
    end
  end
  local ok, fault = pcall(db.exec, "UPDATE promo_codes SET " .. table.concat(sets, ", ") .. " WHERE id = $1",
                          table.unpack(values))
  if ok then return end
  if type(fault) == "table" and fault.constraint == USED_CHECK then
    web.fail(409, "The code was used more often than this limit", { code = "CONFLICT" })
  end
  error(fault, 0)
end

local function change(req)
  local id, new = req.params.id, req.body
  unless_taken(function()
    db.transaction(function()
      local was, changes = lock(id), {}
      check_change(was, new)
      save(id, new)
      for _, name in ipairs(NAMES) do
        if new[name] ~= nil then changes[name] = { from = was[name] or json.null, to = new[name] } end
      end
      audit.write(req, "promo.update", "promo", id, changes)
    end)
  end)
  return db.json_row("SELECT " .. COLUMNS .. " FROM promo_codes p WHERE id = $1", id)
end

local END <const> = [[UPDATE promo_codes SET valid_to = LEAST(valid_to, now()),
    valid_from = LEAST(valid_from, now() - interval '1 second') WHERE id = $1 AND valid_to > now()]]

local IS_USED <const> = [[SELECT EXISTS (SELECT FROM promo_redemptions WHERE promo_code_id = $1)
  OR EXISTS (SELECT FROM orders WHERE promo_code_id = $1) AS used]]

--- Erases a code; one that was used is ended.
local function remove(req)
  local id = req.params.id
  local used = db.transaction(function()
    local was = lock(id)
    local used = db.row(IS_USED, id).used
    db.exec(used and END or "DELETE FROM promo_codes WHERE id = $1", id)
    audit.write(req, used and "promo.end" or "promo.delete", "promo", id, { code = was.code })
    return used
  end)
  return web.data(json.null, { message = used and "Promo code ended successfully"
                                         or "Promo code deleted successfully" })
end

---- Routes: the table of contents ---------------------------------------------------------------

local Valid <const> = s.object {
  valid = s.boolean, ["discount_amount?"] = s.money,
  ["promo?"] = s.object { code = s.text, discount_type = s.text, amount = s.money },
  ["error?"] = s.text, ["code?"] = s.text,
}

local PAGE  <const> = s.page("promoCodes", answers.Promo)
local TAKEN <const> = { [409] = "PROMO_CODE_TAKEN" }
local USED  <const> = { [409] = "PROMO_CODE_TAKEN; CONFLICT: used more often than the limit" }

return web.routes("/api/v1/promo", {
  { "GET",    "/validate", validate, who = "anyone", query = Check, body = CheckBody, limit = "promo",
    answer = Valid, summary = "What a code takes off an amount" },
  { "GET",    "/",         list,     who = "admin", query = List, answer = PAGE, summary = "All promo codes" },
  { "GET",    "/active",   active,   who = "admin", query = List, answer = PAGE,
    summary = "Promo codes that are good now" },
  { "POST",   "/",         create,   who = "admin", body = Promo, status = 201, answer = answers.Promo,
    errors = TAKEN, summary = "Add a promo code" },
  { "PATCH",  "/:id",      change,   who = "admin", params = Id, body = v.partial(Promo), answer = answers.Promo,
    errors = USED, summary = "Change a promo code" },
  { "DELETE", "/:id",      remove,   who = "admin", params = Id, answer = s.null,
    summary = "Erase or end a promo code" },
})
