--- What the reports are made of: one SELECT each.  $1 and $2 are the first and the last day.
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

--- Sales of products within the days: whole days of UTC from their figures, what is left at
-- both ends (less than a day each) from the orders.
local function product_sales()
  local whole = ("date_trunc('day', %s + interval '1 day' - interval '1 microsecond', 'UTC')"):format(BEGINS)
  local first = ("(SELECT LEAST(%s, %s))"):format(whole, ENDS)
  local last = ("(SELECT GREATEST(date_trunc('day', %s, 'UTC'), %s))"):format(ENDS, first)
  local function ends(from, to)
    return ([[SELECT i.product_id, i.quantity, i.subtotal - i.discount_amount
        FROM orders o JOIN order_items i ON i.order_id = o.id
       WHERE o.status = 'delivered' AND o.delivered_at >= %s AND o.delivered_at < %s]]):format(from, to)
  end
  return ([[SELECT product_id, sum(sold)::bigint AS sold, sum(revenue) AS revenue FROM (
      SELECT product_id, sold, revenue FROM product_sales_figures
       WHERE day >= (SELECT (%s AT TIME ZONE 'UTC')::date) AND day < (SELECT (%s AT TIME ZONE 'UTC')::date)
      UNION ALL %s
      UNION ALL %s) AS parts GROUP BY product_id]]):format(first, last, ends(BEGINS, first), ends(last, ENDS))
end

reports["daily-sales"] = {
  name = "daily_sales",
  columns = { { name = "sale_date" }, { name = "order_count" }, { name = "total_revenue" },
              { name = "avg_order_value" } },
  rows = [[SELECT (quarter AT TIME ZONE shop_timezone())::date AS sale_date, sum(orders)::bigint AS order_count,
      sum(revenue) AS total_revenue, round(sum(revenue) / sum(orders), 2) AS avg_order_value
    FROM sales_figures WHERE ]] .. within "quarter" .. [[
    GROUP BY 1 HAVING sum(orders) <> 0]],
  order = "r.sale_date DESC",
}

--- Rating, reviews and total_sold are of all time, sold and revenue (after discounts) of the days.
reports["product-stats"] = {
  name = "product_stats",
  columns = { { name = "id" }, { name = "name" }, { name = "category" }, { name = "price" }, { name = "stock" },
              { name = "avg_rating" }, { name = "review_count" }, { name = "total_sold" }, { name = "sold" },
              { name = "revenue" } },
  rows = [[SELECT p.id, p.name, p.category, p.price, p.stock, round(p.avg_rating, 2) AS avg_rating, p.review_count,
      p.total_sold, COALESCE(l.sold, 0) AS sold, COALESCE(l.revenue, 0) AS revenue
    FROM product_stats p
    LEFT JOIN (]] .. product_sales() .. [[) l ON l.product_id = p.id]],
  order = "r.revenue DESC, r.id",
}

--- Figures of all time, then orders and spent of the days.  The former as sub-selects: they are
-- asked for the rows of a page only, once it is known which ones these are.
reports.customers = {
  name = "customers",
  columns = { { name = "id" }, { name = "name" }, { name = "email" }, { name = "total_orders" },
              { name = "total_spent" }, { name = "last_order_date", kind = "time" }, { name = "loyalty_points" },
              { name = "orders" }, { name = "spent" } },
  rows = [[SELECT u.id, u.name, u.email,
      (SELECT f.total_orders FROM user_order_figures f WHERE f.user_id = u.id) AS total_orders,
      (SELECT f.total_spent FROM user_order_figures f WHERE f.user_id = u.id) AS total_spent,
      (SELECT f.last_order_date FROM user_order_figures f WHERE f.user_id = u.id) AS last_order_date,
      (SELECT p.points FROM loyalty_points p WHERE p.user_id = u.id) AS loyalty_points,
      COALESCE(l.orders, 0) AS orders, COALESCE(l.spent, 0) AS spent
    FROM users u
    LEFT JOIN (SELECT o.user_id, count(*) AS orders, sum(o.total_amount - o.refunded_amount) AS spent
                 FROM orders o WHERE o.status = 'delivered' AND ]] .. within "o.delivered_at" .. [[
                GROUP BY o.user_id) l ON l.user_id = u.id
    WHERE u.role = 'customer' OR l.orders > 0]],
  order = "r.spent DESC, r.id",
}

--- Uses of the days; those of cancelled orders were returned and count apart.
reports["promo-usage"] = {
  name = "promo_usage",
  columns = { { name = "id" }, { name = "code" }, { name = "discount_type" }, { name = "amount" },
              { name = "usage_limit" }, { name = "valid_from", kind = "time" }, { name = "valid_to", kind = "time" },
              { name = "uses" }, { name = "returned" }, { name = "discount_amount" }, { name = "order_amount" } },
  rows = [[SELECT p.id, p.code, p.discount_type, p.amount, p.usage_limit, p.valid_from, p.valid_to,
      COALESCE(x.uses, 0) AS uses, COALESCE(x.returned, 0) AS returned,
      COALESCE(x.discount_amount, 0) AS discount_amount, COALESCE(x.order_amount, 0) AS order_amount
    FROM promo_codes p
    LEFT JOIN (SELECT r.promo_code_id, count(*) FILTER (WHERE r.returned_at IS NULL) AS uses,
                      count(r.returned_at) AS returned,
                      sum(r.amount) FILTER (WHERE r.returned_at IS NULL) AS discount_amount,
                      sum(o.total_amount) FILTER (WHERE r.returned_at IS NULL) AS order_amount
                 FROM promo_redemptions r JOIN orders o ON o.id = r.order_id
                WHERE ]] .. within "r.created_at" .. [[
                GROUP BY r.promo_code_id) x ON x.promo_code_id = p.id]],
  order = "r.uses DESC, r.code",
}

--- By day: the slots of the day and their orders; failed counts what came back on that day.
reports.delivery = {
  name = "delivery",
  columns = { { name = "delivery_date" }, { name = "slots" }, { name = "capacity" }, { name = "booked" },
              { name = "delivered" }, { name = "open" }, { name = "cancelled" }, { name = "failed" } },
  rows = [[SELECT delivery_date, COALESCE(d.slots, 0) AS slots, COALESCE(d.capacity, 0) AS capacity,
      COALESCE(d.booked, 0) AS booked, COALESCE(d.delivered, 0) AS delivered, COALESCE(d.open, 0) AS open,
      COALESCE(d.cancelled, 0) AS cancelled, COALESCE(f.failed, 0) AS failed
    FROM (SELECT s.delivery_date, count(*) AS slots, sum(s.capacity) AS capacity, sum(s.booked) AS booked,
                 sum(o.delivered) AS delivered, sum(o.open) AS open, sum(o.cancelled) AS cancelled
            FROM delivery_schedules s
            CROSS JOIN LATERAL (
              SELECT count(*) FILTER (WHERE delivered_at IS NOT NULL) AS delivered,
                     count(*) FILTER (WHERE status NOT IN ('delivered', 'cancelled', 'refunded')) AS open,
                     count(*) FILTER (WHERE status = 'cancelled'
                                         OR status = 'refunded' AND delivered_at IS NULL) AS cancelled
                FROM orders WHERE delivery_schedule_id = s.id) o
           WHERE s.delivery_date BETWEEN $1::date AND $2::date GROUP BY s.delivery_date) d
    FULL JOIN (SELECT (h.at AT TIME ZONE shop_timezone())::date AS delivery_date, count(*) AS failed
                 FROM order_status_history h
                WHERE h.status = 'preparing' AND h.payment_status IS NULL AND ]] .. within "h.at" .. [[
                  AND 'dispatched' = (SELECT b.status FROM order_status_history b
                                       WHERE b.order_id = h.order_id AND b.payment_status IS NULL AND b.id < h.id
                                       ORDER BY b.id DESC LIMIT 1)
                GROUP BY 1) f USING (delivery_date)]],
  order = "r.delivery_date DESC",
}

return reports
