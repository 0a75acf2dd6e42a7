--- What the roles may do to the tables: docs/data.md, "Roles", for `omade db doctor`.
-- A table that `changes` does not name has at most what every new one gets.

return {
  -- app_user reads and adds to all tables, but to these:
  reads_only = { product_ratings = true, loyalty_points = true, schema_migrations = true, sales_figures = true,
                 product_sales_figures = true, user_order_figures = true },

  -- The columns of each table that app_user may change; true: all, false: none.
  changes = {
    products = true,
    users = { "name", "email", "password_hash", "role", "phone", "avatar_url", "social_provider",
              "session_epoch", "invited_at", "deleted_at" },
    promo_codes = { "code", "discount_type", "amount", "valid_from", "valid_to", "usage_limit",
                    "per_user_limit", "minimum_order" },
    delivery_schedules = { "delivery_date", "delivery_time", "rider_id", "status", "capacity" },
    reviews = { "rating", "comment" },
    orders = { "status", "payment_status", "payment_reference", "delivery_schedule_id", "address", "notes",
               "pickup_at", "refunded_amount", "delivered_at" },
    promo_redemptions = { "returned_at" },
    password_resets = { "used_at" },
    outbox = { "available_at", "attempts", "sent_at", "failed_at", "last_error" },
    newsletter_subscribers = { "subscribed_at", "unsubscribed_at" },
    custom_cake_configurations = false, order_items = false, order_status_history = false, payments = false,
    refunds = false, loyalty_points = false, loyalty_ledger = false, product_ratings = false,
    user_identities = false, idempotency_keys = false, audit_log = false, uploads = false,
    schema_migrations = false, sales_figures = false, product_sales_figures = false, user_order_figures = false,
  },

  deletes = {
    products = true, promo_codes = true, delivery_schedules = true, reviews = true, user_identities = true,
    password_resets = true, newsletter_subscribers = true, idempotency_keys = true, outbox = true,
  },

  -- Not for reports; true: the whole table.
  hidden = {
    users = { "password_hash" }, orders = { "tracking_token" }, payments = { "raw" },
    outbox = { "payload", "last_error" }, password_resets = { "token_sha256" },
    newsletter_subscribers = { "token" }, idempotency_keys = true,
  },

  without_row_security = { schema_migrations = true },   -- names of files only
  definer_views = { public_profiles = true },            -- whose point it is: first names of reviewers
}
