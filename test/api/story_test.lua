-- README.md, "A day at the bakery": run as it is printed, but for the port.
-- env: BCRYPT_COST=4

local check  = require "check"
local client = require "client"
local traces = require "traces"

local home, work = os.getenv "OMADE_HOME", os.getenv "TEST_WORK"

local function story()
  local file = assert(io.open(home .. "/README.md"))
  local text = file:read "a"
  file:close()
  local script = text:match "## A day at the bakery.-```sh\n(.-)```"
  return (check.truthy(script, "the story"):gsub("127%.0%.0%.1:3000", "127.0.0.1:" .. client.port))
end

return {
  { "from registering to the review", function()
    local file = assert(io.open(work .. "/story.sh", "w"))
    file:write(story(), "\nprintf '\\n%s\\n' \"$ORDER\"\n")
    file:close()
    local out = client.shell("bash -u " .. work .. "/story.sh")
    check.truthy(not out:find('"success":false', 1, true), "no step fails; all of it: " .. out)
    check.truthy(traces.judge(os.getenv "CURL_TRACES") > 15, "curl's answers are checked")

    local order = out:match "(%x+%-%x+%-%x+%-%x+%-%x+)%s*$"
    local function column(name) return client.sql(("SELECT %s FROM orders WHERE id = '%s'"):format(name, order)) end
    check.matches(out, '"products":%[{"id":"10000000%-0000%-0000%-0000%-000000000001"')
    check.equal(column "subtotal", "51.98")
    check.equal(column "discount_amount", "5.20")
    check.equal(column "delivery_fee", "5.99")       -- 46.78 after the discount
    check.equal(column "total_amount", "52.77")
    check.equal(column "status", "delivered")
    check.equal(column "payment_status", "paid")
    check.matches(out, '"points":46[,}]')
    check.equal(client.sql("SELECT rating FROM reviews r JOIN orders o ON o.user_id = r.user_id WHERE o.id = '" .. order .. "'"), "5")
    check.equal(client.sql("SELECT string_agg(status, ' ' ORDER BY id) FROM order_status_history WHERE payment_status IS NULL AND order_id = '"
                           .. order .. "'"), "pending confirmed preparing dispatched delivered")
  end },
}
