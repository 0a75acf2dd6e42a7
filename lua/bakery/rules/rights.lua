--- What the roles may do to the tables: docs/data.md, "Roles", for `omade db doctor`.
-- A table that `changes` does not name has at most what every new one gets; what `calls` does
-- not name may not be called.

return {
  -- app_user reads and adds to all tables, but to these:
  reads_only = { product_ratings = true, loyalty_points = true, schema_migrations = true, sales_figures = true,
                 product_sales_figures = true, user_order_figures = true, order_figures = true,
                 slot_figures = true, promo_figures = true, user_sales_figures = true,
                 user_sales_movements = true },

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
    order_figures = false, slot_figures = false, promo_figures = false, user_sales_figures = false,
    user_sales_movements = false,
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

  -- The functions that may be called, besides those that triggers and other functions call.
  calls = {
    app_user = {
      "anonymise_user", "app_is_admin", "app_is_staff", "app_order_id", "app_rides", "app_role", "app_sees_sales",
      "app_user_id", "claim_idempotency_key", "compact_report_figures", "compact_sales_figures", "fail_delivery",
      "find_promo", "find_sign_in",
      "find_tracked_order", "forget_audit_log", "forget_uploads", "kept_idempotency_answer", "lock_points",
      "lock_products", "lock_promo", "lock_slot", "move_stock", "next_order_number", "order_has_token", "order_total",
      "search_customers", "search_orders", "search_products", "shop_timezone", "slot_contacts", "subscribe_newsletter",
      "take_idempotency_key", "unsubscribe_newsletter", "upload_exists",
    },
    readonly_user = { "app_is_staff", "app_role", "app_sees_sales", "search_products", "shop_timezone" },
  },

  -- What the owner's later tables, sequences and functions are granted by default.
  defaults = {
    { "app_user", "SELECT", "TABLES" }, { "app_user", "INSERT", "TABLES" }, { "app_user", "UPDATE", "TABLES" },
    { "app_user", "USAGE", "SEQUENCES" }, { "app_user", "SELECT", "SEQUENCES" },
    { "readonly_user", "SELECT", "TABLES" }, { "readonly_user", "SELECT", "SEQUENCES" },
  },

  without_row_security = { schema_migrations = true },   -- names of files only
  definer_views = { public_profiles = true },            -- whose point it is: first names of reviewers
}
