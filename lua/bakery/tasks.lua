--- What the bakery does by itself, once for all workers and machines.

local auth        = require "omade.auth"
local cache       = require "omade.cache"
local changes     = require "bakery.services.order_changes"
local config      = require "omade.config"
local db          = require "omade.db"
local idempotency = require "omade.idempotency"
local log         = require "omade.log"
local rules       = require "bakery.rules.orders"
local tokens      = require "bakery.services.tokens"
local uploads     = require "omade.uploads"

require "bakery.services.outbox_worker"

local tasks = {}

--- Cancels online orders that nobody paid for; each in a transaction of its own.
function tasks.cancel_unpaid()
  auth.as_system(function()
    for _, id in ipairs(changes.unpaid(config.get "UNPAID_ORDER_MINUTES")) do
      local ok, fault = pcall(changes.cancel, id, {
        reason = "not paid in time",
        may = function(order) return order.payment_status ~= "paid" and rules.owner_may_cancel(order) end,
      })
      if not ok then log.warn("an unpaid order could not be cancelled", { order = id, error = tostring(fault) }) end
    end
  end)
end

--- What is over goes: answers kept by Idempotency-Key for a day, tokens of letters.
function tasks.clean()
  local answers, letters = auth.as_system(function() return idempotency.clean(), tokens.clean() end)
  if answers + letters > 0 then
    log.info("cleaned", { idempotency_keys = answers, password_resets = letters })
  end
end

--- What was kept long enough goes: traces, addresses that left the newsletter, pictures that
-- nothing shows.
function tasks.forget()
  auth.as_system(function()
    local traces = db.row("SELECT forget_audit_log($1) AS n", config.get "AUDIT_KEEP_DAYS").n
    local addresses = db.exec([[DELETE FROM newsletter_subscribers
      WHERE unsubscribed_at < now() - make_interval(days => $1)]], config.get "UNSUBSCRIBED_KEEP_DAYS")
    local pictures = db.rows("SELECT name FROM forget_uploads($1)", config.get "UPLOAD_KEEP_DAYS")
    for _, picture in ipairs(pictures) do uploads.drop(picture.name) end
    if traces + addresses + #pictures > 0 then
      log.info("forgotten", { audit_log = traces, newsletter_subscribers = addresses, uploads = #pictures })
    end
  end)
end

--- Movements of sales become sums.
local function compact()
  auth.as_system(function() db.exec "SELECT compact_sales_figures(), compact_report_figures()" end)
end

every(30, "orders.unpaid", tasks.cancel_unpaid)
every(2, "cache.reads", cache.tell_reads, { where = "worker" })
every(3600, "cleaning", tasks.clean)
every(600, "figures", compact)
every(3600, "forgetting", tasks.forget)

return tasks
