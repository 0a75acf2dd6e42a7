--- What the reports are made of: one SELECT each, whose rows are r.  $1 and $2 are the first and
-- the last day.  A column with `sql` is not one of the SELECT's.
--
-- Figures of several tables are summed apart and then joined, never the other way round: a
-- product with three reviews and two lines has not sold six times.

local reports = {}

--- Days of a report that names none: the last 30.
reports.DAYS = 30

-- As sub-selects, so that indexes serve: row-level security lets through to them only what
-- cannot leak, and PostgreSQL does not see that of an expression with shop_timezone().
local BEGINS <const> = "(SELECT ($1::date)::timestamp AT TIME ZONE shop_timezone())"
local ENDS <const> = "(SELECT ($2::date + 1)::timestamp AT TIME ZONE shop_timezone())"

local function within(column)
  return ("%s >= %s AND %s < %s"):format(column, BEGINS, column, ENDS)
end

--- Sums within the days: whole days of UTC from their figures, what is left at both ends (less
-- than a day each) from the rows themselves.  `figures` and `base` end with WHERE or AND: what
-- comes behind is about the day of the ones, and `column` of the others.
local function by_days(figures, base, column)
  local whole = ("date_trunc('day', %s + interval '1 day' - interval '1 microsecond', 'UTC')"):format(BEGINS)
  local first = ("(SELECT LEAST(%s, %s))"):format(whole, ENDS)
  local last = ("(SELECT GREATEST(date_trunc('day', %s, 'UTC'), %s))"):format(ENDS, first)
  local function ends(from, to) return ("%s %s >= %s AND %s < %s"):format(base, column, from, column, to) end
  return ([[%s day >= (SELECT (%s AT TIME ZONE 'UTC')::date) AND day < (SELECT (%s AT TIME ZONE 'UTC')::date)
      UNION ALL %s
      UNION ALL %s]]):format(figures, first, last, ends(BEGINS, first), ends(last, ENDS))
end

local PRODUCT_SALES <const> = "SELECT product_id, sum(sold)::bigint AS sold, sum(revenue) AS revenue FROM ("
  .. by_days("SELECT product_id, sold, revenue FROM product_sales_figures WHERE",
             [[SELECT i.product_id, i.quantity, i.subtotal - i.discount_amount
               FROM orders o JOIN order_items i ON i.order_id = o.id WHERE o.status = 'delivered' AND]],
             "o.delivered_at")
  .. ") AS parts GROUP BY product_id"

local PROMO_USES <const> = [[SELECT promo_code_id, sum(uses)::bigint AS uses, sum(returned)::bigint AS returned,
    sum(discount_amount) AS discount_amount, sum(order_amount) AS order_amount FROM (]]
  .. by_days("SELECT promo_code_id, uses, returned, discount_amount, order_amount FROM promo_figures WHERE",
             [[SELECT r.promo_code_id, (r.returned_at IS NULL)::integer, (r.returned_at IS NOT NULL)::integer,
                 CASE WHEN r.returned_at IS NULL THEN r.amount ELSE 0 END,
                 CASE WHEN r.returned_at IS NULL THEN o.total_amount ELSE 0 END
               FROM promo_redemptions r JOIN orders o ON o.id = r.order_id WHERE]], "r.created_at")
  .. ") AS parts GROUP BY promo_code_id"

--- How many of a buyer's deliveries there were before a moment.
local function before(moment)
  return ("width_bucket((SELECT %s - interval '1 microsecond'), f.times)"):format(moment)
end

--- A column of numbers, days or ids.
local function bare(name, sql) return { name = name, kind = "bare", sql = sql } end

reports["daily-sales"] = {
  name = "daily_sales",
  columns = { bare "sale_date", bare "order_count", bare "total_revenue",
              bare "avg_order_value" },
  rows = [[SELECT (quarter AT TIME ZONE shop_timezone())::date AS sale_date, sum(orders)::bigint AS order_count,
      sum(revenue) AS total_revenue, round(sum(revenue) / sum(orders), 2) AS avg_order_value
    FROM sales_figures WHERE ]] .. within "quarter" .. [[
    GROUP BY 1 HAVING sum(orders) <> 0]],
  order = "r.sale_date DESC",
}

--- Rating, reviews and total_sold are of all time, sold and revenue (after discounts) of the days.
reports["product-stats"] = {
  name = "product_stats",
  columns = { bare "id", { name = "name" }, { name = "category" }, bare "price", bare "stock",
              bare "avg_rating", bare "review_count", bare "total_sold", bare "sold",
              bare "revenue" },
  rows = [[SELECT p.id, p.name, p.category, p.price, p.stock, round(p.avg_rating, 2) AS avg_rating, p.review_count,
      p.total_sold, COALESCE(l.sold, 0) AS sold, COALESCE(l.revenue, 0) AS revenue
    FROM product_stats p
    LEFT JOIN (]] .. PRODUCT_SALES .. [[) l ON l.product_id = p.id]],
  order = "r.revenue DESC, r.id",
}

--- Figures of all time, then orders and spent of the days.  Who is in it, and in which order, is
-- told by the buyers' figures alone; the other columns are looked up for the rows of a page only.
reports.customers = {
  name = "customers",
  columns = {
    bare "id",
    { name = "name", sql = "(SELECT u.name FROM users u WHERE u.id = r.id)" },
    { name = "email", sql = "(SELECT u.email FROM users u WHERE u.id = r.id)" },
    bare("total_orders", "(SELECT f.total_orders FROM user_order_figures f WHERE f.user_id = r.id)"),
    bare("total_spent", "(SELECT f.total_spent FROM user_order_figures f WHERE f.user_id = r.id)"),
    { name = "last_order_date", kind = "time",
      sql = "(SELECT f.last_order_date FROM user_order_figures f WHERE f.user_id = r.id)" },
    bare("loyalty_points", "(SELECT p.points FROM loyalty_points p WHERE p.user_id = r.id)"),
    bare "orders",
    bare("spent", "(SELECT r.cents * 0.01)"),
  },
  rows = [[SELECT s.user_id AS id, s.orders, s.cents
    FROM (SELECT f.user_id, f.til - f.since + COALESCE(m.orders, 0) AS orders,
                 CASE WHEN f.til > f.since THEN f.cents[f.til] - CASE WHEN f.since > 0 THEN f.cents[f.since] ELSE 0 END
                      ELSE 0 END + COALESCE(m.cents, 0) AS cents
            FROM (SELECT f.user_id, f.cents, ]] .. before(BEGINS) .. " AS since, " .. before(ENDS) .. [[ AS til
                    FROM user_sales_figures f OFFSET 0) f
            LEFT JOIN (SELECT user_id, sum(orders)::bigint AS orders, sum(cents)::bigint AS cents
                         FROM user_sales_movements WHERE ]] .. within "at" .. [[
                        GROUP BY user_id) m ON m.user_id = f.user_id) s
    WHERE s.orders > 0 OR s.user_id NOT IN (SELECT id FROM users WHERE role <> 'customer')]],
  order = "r.cents DESC, r.id",
}

--- Uses of the days; those of cancelled orders were returned and count apart.
reports["promo-usage"] = {
  name = "promo_usage",
  columns = { bare "id", { name = "code" }, { name = "discount_type" }, bare "amount",
              bare "usage_limit", { name = "valid_from", kind = "time" }, { name = "valid_to", kind = "time" },
              bare "uses", bare "returned", bare "discount_amount", bare "order_amount" },
  rows = [[SELECT p.id, p.code, p.discount_type, p.amount, p.usage_limit, p.valid_from, p.valid_to,
      COALESCE(x.uses, 0) AS uses, COALESCE(x.returned, 0) AS returned,
      COALESCE(x.discount_amount, 0) AS discount_amount, COALESCE(x.order_amount, 0) AS order_amount
    FROM promo_codes p
    LEFT JOIN (]] .. PROMO_USES .. [[) x ON x.promo_code_id = p.id]],
  order = "r.uses DESC, r.code",
}

--- By day: the slots of the day and their orders; failed counts what came back on that day.
reports.delivery = {
  name = "delivery",
  columns = { bare "delivery_date", bare "slots", bare "capacity", bare "booked",
              bare "delivered", bare "open", bare "cancelled", bare "failed" },
  rows = [[SELECT delivery_date, COALESCE(d.slots, 0) AS slots, COALESCE(d.capacity, 0) AS capacity,
      COALESCE(d.booked, 0) AS booked, COALESCE(d.delivered, 0) AS delivered, COALESCE(d.open, 0) AS open,
      COALESCE(d.cancelled, 0) AS cancelled, COALESCE(f.failed, 0) AS failed
    FROM (SELECT s.delivery_date, count(*) AS slots, sum(s.capacity) AS capacity, sum(s.booked) AS booked,
                 sum(o.delivered) AS delivered, sum(o.open) AS open, sum(o.cancelled) AS cancelled
            FROM delivery_schedules s
            CROSS JOIN LATERAL (SELECT sum(delivered)::bigint AS delivered, sum(open)::bigint AS open,
                                       sum(cancelled)::bigint AS cancelled
                                  FROM slot_figures WHERE delivery_schedule_id = s.id) o
           WHERE s.delivery_date BETWEEN $1::date AND $2::date GROUP BY s.delivery_date) d
    FULL JOIN (SELECT (h.at AT TIME ZONE shop_timezone())::date AS delivery_date, count(*) AS failed
                 FROM order_status_history h
                WHERE h.failed AND ]] .. within "h.at" .. [[
                GROUP BY 1) f USING (delivery_date)]],
  order = "r.delivery_date DESC",
}

return reports
