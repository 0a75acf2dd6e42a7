-- rights.sql -- what the roles may do at all.

BEGIN;

-- ---- tables -------------------------------------------------------------------------

-- Everything that a role holds on a table or view as a whole, and nothing else.
CREATE FUNCTION t.held(role text, relation regclass) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT string_agg(p, ' ' ORDER BY n)
          FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
               WITH ORDINALITY AS x(p, n)
         WHERE has_table_privilege(role, relation, p));

CREATE FUNCTION t.columns(role text, relation regclass, privilege text) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute
         WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
           AND has_column_privilege(role, relation, attnum, privilege));

CREATE TEMPORARY TABLE wanted (relation text, app text, reports text);
INSERT INTO wanted VALUES
    ('users', 'SELECT INSERT', NULL),
    ('products', 'SELECT INSERT UPDATE DELETE', 'SELECT'),
    ('product_ratings', 'SELECT', 'SELECT'),
    ('promo_codes', 'SELECT INSERT DELETE', 'SELECT'),
    ('promo_redemptions', 'SELECT INSERT', 'SELECT'),
    ('delivery_schedules', 'SELECT INSERT DELETE', 'SELECT'),
    ('orders', 'SELECT INSERT', NULL),
    ('order_items', 'SELECT INSERT', 'SELECT'),
    ('order_status_history', 'SELECT INSERT', 'SELECT'),
    ('payments', 'SELECT INSERT', NULL),
    ('refunds', 'SELECT INSERT', 'SELECT'),
    ('reviews', 'SELECT INSERT DELETE', 'SELECT'),
    ('loyalty_points', 'SELECT', 'SELECT'),
    ('loyalty_ledger', 'SELECT INSERT', 'SELECT'),
    ('user_identities', 'SELECT INSERT DELETE', 'SELECT'),
    ('password_resets', 'SELECT INSERT DELETE', NULL),
    ('outbox', 'SELECT INSERT DELETE', NULL),
    ('idempotency_keys', 'SELECT INSERT DELETE', NULL),
    ('audit_log', 'SELECT INSERT', 'SELECT'),
    ('newsletter_subscribers', 'SELECT INSERT DELETE', NULL),
    ('uploads', 'SELECT INSERT', 'SELECT'),
    ('custom_cake_configurations', 'SELECT INSERT', 'SELECT'),
    ('sales_figures', 'SELECT', 'SELECT'),
    ('product_sales_figures', 'SELECT', 'SELECT'),
    ('user_order_figures', 'SELECT', 'SELECT'),
    ('order_figures', 'SELECT', 'SELECT'),
    ('slot_figures', 'SELECT', 'SELECT'),
    ('promo_figures', 'SELECT', 'SELECT'),
    ('user_sales_figures', 'SELECT', 'SELECT'),
    ('user_sales_movements', 'SELECT', 'SELECT'),
    ('public_profiles', 'SELECT', 'SELECT');
INSERT INTO wanted
SELECT name, CASE WHEN current_setting('server_version_num')::integer >= 150000 THEN 'SELECT' END, 'SELECT'
  FROM unnest(ARRAY['product_stats', 'user_order_summary', 'daily_sales', 'user_sales_from_orders']) AS name;

SELECT t.same(string_agg(relname, ' '), NULL, 'every table and view is in the list below')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v', 'm', 'p', 'f')
   AND relname NOT IN (SELECT relation FROM wanted) AND relname <> 'schema_migrations';
SELECT t.same(t.held('app_user', relation::regclass), app, 'app_user on ' || relation),
       t.same(t.held('readonly_user', relation::regclass), reports, 'readonly_user on ' || relation)
  FROM wanted;

SELECT t.same(t.columns('app_user', relation::regclass, 'UPDATE'), wanted,
              'app_user updates of ' || relation || ': ' || COALESCE(wanted, 'nothing'))
  FROM (VALUES
    ('orders', 'address delivered_at delivery_schedule_id notes payment_reference payment_status pickup_at '
        'refunded_amount status'),
    ('users', 'avatar_url deleted_at email invited_at name password_hash phone role session_epoch social_provider'),
    ('reviews', 'comment rating'),
    ('promo_codes', 'amount code discount_type minimum_order per_user_limit usage_limit valid_from valid_to'),
    ('promo_redemptions', 'returned_at'),
    ('delivery_schedules', 'capacity delivery_date delivery_time rider_id status'),
    ('password_resets', 'used_at'),
    ('outbox', 'attempts available_at failed_at last_error sent_at'),
    ('newsletter_subscribers', 'subscribed_at unsubscribed_at'),
    ('loyalty_points', NULL), ('loyalty_ledger', NULL), ('order_items', NULL), ('order_status_history', NULL),
    ('custom_cake_configurations', NULL), ('payments', NULL), ('refunds', NULL), ('user_identities', NULL),
    ('idempotency_keys', NULL), ('audit_log', NULL), ('uploads', NULL), ('product_ratings', NULL),
    ('sales_figures', NULL), ('product_sales_figures', NULL), ('user_order_figures', NULL),
    ('order_figures', NULL), ('slot_figures', NULL), ('promo_figures', NULL), ('user_sales_figures', NULL), ('user_sales_movements', NULL))
    AS v(relation, wanted);

-- What readonly_user does not read: hashes, tokens, and what may hold them.
SELECT t.same(string_agg(format('%s.%s', attrelid::regclass, attname), ' ' ORDER BY attrelid::regclass::text, attname),
    'idempotency_keys.body idempotency_keys.created_at idempotency_keys.expires_at idempotency_keys.key '
    'idempotency_keys.request_hash idempotency_keys.scope idempotency_keys.status newsletter_subscribers.token '
    'orders.tracking_token outbox.last_error outbox.payload password_resets.token_sha256 payments.raw users.password_hash',
    'all that readonly_user may not read')
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND attnum > 0 AND NOT attisdropped
   AND NOT has_column_privilege('readonly_user', attrelid, attnum, 'SELECT');

-- ---- what must not work -------------------------------------------------------------

SELECT t.app('admin', t.usr(3)::text);
SELECT t.fails(statement, '42501', 'app_user: ' || statement) FROM unnest(ARRAY[
    'UPDATE orders SET total_amount = 0',
    'UPDATE orders SET user_id = user_id',
    'UPDATE orders SET order_number = order_number', 'UPDATE orders SET tracking_token = tracking_token',
    'UPDATE orders SET discount_amount = 0', 'UPDATE orders SET subtotal = 0', 'UPDATE orders SET fulfilment = fulfilment',
    'UPDATE order_items SET quantity = 1', 'UPDATE loyalty_points SET points = 1',
    'INSERT INTO loyalty_points (user_id, points) VALUES (t.usr(1), 1)',
    'UPDATE loyalty_ledger SET points = 1', 'DELETE FROM loyalty_ledger',
    'UPDATE payments SET amount = 1', 'DELETE FROM payments', 'UPDATE refunds SET amount = 1', 'DELETE FROM refunds',
    'UPDATE order_status_history SET note = NULL', 'DELETE FROM order_status_history',
    'UPDATE audit_log SET actor_id = NULL', 'DELETE FROM audit_log',
    'UPDATE promo_redemptions SET amount = 0', 'DELETE FROM promo_redemptions', 'UPDATE promo_codes SET used_count = 0',
    'UPDATE delivery_schedules SET booked = 0', 'UPDATE idempotency_keys SET status = 200', 'UPDATE outbox SET payload = payload',
    'UPDATE password_resets SET token_sha256 = token_sha256', 'UPDATE user_identities SET subject = subject',
    'UPDATE newsletter_subscribers SET token = token', 'DELETE FROM uploads', 'UPDATE users SET id = id', 'UPDATE users SET created_at = now()',
    'SELECT setval(''order_number_seq'', 1)', 'SELECT complete_slot(t.usr(1))', 'SELECT app_needs_role()',
    'DELETE FROM orders', 'DELETE FROM order_items', 'DELETE FROM users',
    'DELETE FROM loyalty_points', 'DELETE FROM custom_cake_configurations',
    'TRUNCATE orders CASCADE', 'TRUNCATE reviews',
    'CREATE TABLE public.mine (id int)', 'CREATE TEMPORARY TABLE mine (id int)',
    'CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS ''SELECT 1''',
    'CREATE SCHEMA mine', 'ALTER TABLE orders DISABLE ROW LEVEL SECURITY',
    'CREATE POLICY all_mine ON orders USING (true)', 'DROP TABLE orders',
    'ALTER TABLE orders DISABLE TRIGGER ALL']) AS statement;
SELECT t.fails('SET LOCAL session_replication_role = replica', '42501', 'app_user: switching triggers off');
SELECT t.fails('SET LOCAL row_security = off; SELECT 1 FROM orders', '42501', 'app_user: switching row-level security off');

SELECT t.report();
SELECT t.fails('SELECT password_hash FROM users', '42501', 'readonly_user: password hashes');
SELECT t.fails('SELECT * FROM users', '42501', 'readonly_user: all columns of users');
SELECT t.fails('SELECT ' || what, '42501', 'readonly_user: ' || what)
  FROM unnest(ARRAY['tracking_token FROM orders', 'token FROM newsletter_subscribers', 'token_sha256 FROM password_resets',
                    'payload FROM outbox', 'raw FROM payments', 'body FROM idempotency_keys', '* FROM find_sign_in(''john@example.com'')',
                    '* FROM lock_promo(''SAVE5'', NULL, NULL)']) AS what;
SELECT t.fails('UPDATE products SET price = 0', '42501', 'readonly_user: writing');
SELECT t.fails('INSERT INTO reviews (user_id, product_id, rating) VALUES (t.usr(1), t.product(20), 5)', '42501',
    'readonly_user: adding');
SELECT t.ok((SELECT count(id) FROM users) >= 19 AND (SELECT count(id) FROM orders) >= 60
            AND (SELECT count(*) FROM loyalty_ledger) > 40 AND (SELECT count(*) FROM order_status_history) > 100
            AND (SELECT count(*) FROM promo_redemptions) >= 5 AND (SELECT count(id) FROM payments) >= 5
            AND (SELECT count(*) FROM refunds) >= 3 AND (SELECT count(id) FROM newsletter_subscribers) >= 4
            AND (SELECT count(*) FROM order_items) >= 60 AND (SELECT count(*) FROM loyalty_points) >= 19
            AND (SELECT count(*) FROM promo_codes) >= 2 AND (SELECT count(*) FROM custom_cake_configurations) >= 1
            AND (SELECT count(*) FROM products) >= 30 AND (SELECT count(*) FROM product_ratings) >= 30
            AND (SELECT count(*) FROM delivery_schedules) >= 1 AND (SELECT count(*) FROM reviews) >= 1,
            'readonly_user reads every row');

-- ---- roles, policies, functions -----------------------------------------------------

RESET ROLE;
SELECT t.same(string_agg(rolname, ' '), NULL, 'no role is above row-level security')
  FROM pg_roles WHERE rolname IN ('app_user', 'readonly_user', 'omade_owner') AND (rolsuper OR rolbypassrls);
SELECT t.ok(NOT pg_has_role('app_user', 'omade_owner', 'MEMBER')
            AND NOT pg_has_role('readonly_user', 'omade_owner', 'MEMBER'), 'no role is a member of the owner');
SELECT t.same(string_agg(relname, ' '), NULL, 'everything is the owner''s')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')
   AND relowner <> 'omade_owner'::regrole;
SELECT t.same(string_agg(relname, ' '), NULL, 'every table has row-level security')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
   AND NOT relrowsecurity AND relname <> 'schema_migrations';
SELECT t.same(string_agg(relname, ' '), NULL, 'it is not forced: the owner''s triggers see all lines')
  FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relforcerowsecurity;
SELECT t.same(string_agg(policyname, ' '), NULL, 'no policy is for everybody')
  FROM pg_policies WHERE roles && ARRAY['public'::name];

SELECT t.same(string_agg(proname, ' '), NULL, 'definer functions have their own search path')
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef
   AND proconfig IS DISTINCT FROM ARRAY['search_path=pg_catalog, public'];
SELECT t.same(string_agg(proname, ' ' ORDER BY proname),
    'add_product_sales add_sold add_user_order_figures anonymise_user app_rides book_order book_promo_total book_promo_use '
    'book_sale book_sold_lines '
    'calculate_order_total check_rider claim_idempotency_key compact_report_figures compact_sales_figures complete_slot '
    'count_booked count_promo_use count_reviews count_sold_lines count_sold_order create_loyalty_points '
    'create_product_ratings create_user_order_figures create_user_sales_figures fail_delivery find_promo find_sign_in '
    'find_tracked_order forget_audit_log forget_promo_use forget_uploads free_rider_slots kept_idempotency_answer lock_points '
    'lock_products lock_promo lock_slot mark_failed_delivery move_stock move_subscription order_has_token rebook_order recount_promo_uses '
    'search_customers search_orders '
    'slot_contacts subscribe_newsletter sum_loyalty_points unsubscribe_newsletter upload_exists',
    'and these are all of them')
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND prosecdef;
SELECT t.same(string_agg(p.proname, ' '), NULL, 'no function of ours is for everybody')
  FROM pg_proc p
 WHERE pronamespace = 'public'::regnamespace AND proowner = 'omade_owner'::regrole
   AND EXISTS (SELECT FROM aclexplode(COALESCE(proacl, acldefault('f', proowner))) WHERE grantee = 0);
SELECT t.same(string_agg(proname, ' ' ORDER BY proname),
    'anonymise_user app_is_admin app_is_staff app_order_id app_rides app_role app_sees_sales app_user_id claim_idempotency_key '
    'compact_report_figures compact_sales_figures fail_delivery find_promo find_sign_in find_tracked_order forget_audit_log forget_uploads kept_idempotency_answer lock_points '
    'lock_products lock_promo lock_slot '
    'move_stock next_order_number order_has_token order_total search_customers search_orders search_products '
    'shop_timezone slot_contacts subscribe_newsletter take_idempotency_key unsubscribe_newsletter upload_exists',
    'what app_user may call')
  FROM pg_proc WHERE pronamespace = 'public'::regnamespace AND proowner = 'omade_owner'::regrole
   AND has_function_privilege('app_user', oid, 'EXECUTE');

SELECT t.app('customer', t.usr(6)::text);
SELECT t.same(bool_or(app_rides(id)), false, 'app_rides tells only riders') FROM delivery_schedules;
SELECT t.app('rider', t.usr(6)::text);
SELECT t.same(count(*) FILTER (WHERE app_rides(id)), count(*) FILTER (WHERE rider_id = t.usr(6)),
              'and of their own slots') FROM delivery_schedules;

-- Somebody who can make temporary tables cannot put one in the place of ours.
RESET ROLE;
DO $$ BEGIN EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO app_user', current_database()); END $$;
SELECT t.app('customer', t.usr(1)::text);
CREATE TEMPORARY TABLE orders (id uuid, total_amount numeric);
CREATE TEMPORARY TABLE order_items (id uuid, order_id uuid, subtotal numeric);
CREATE TEMPORARY TABLE delivery_schedules (id uuid, rider_id uuid);
INSERT INTO pg_temp.delivery_schedules VALUES (t.usr(1), t.usr(1));
INSERT INTO public.orders (id, user_id, total_amount) VALUES (t.ord(990), t.usr(1), 0);
INSERT INTO public.order_items (order_id, product_id, quantity, unit_price, subtotal)
    VALUES (t.ord(990), t.product(1), 1, 25.99, 25.99);
SELECT t.same(total_amount, 25.99, 'temporary tables do not deceive the triggers')
  FROM public.orders WHERE id = t.ord(990);
SELECT t.app('rider', t.usr(1)::text);
SELECT t.same(app_rides(t.usr(1)), false, 'nor app_rides');

-- ---- tables of later migrations -----------------------------------------------------

SELECT t.owner();
CREATE TABLE public.later (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, made serial);
CREATE FUNCTION public.later_function() RETURNS integer LANGUAGE sql RETURN 1;
SELECT t.same(t.held('app_user', 'public.later'), 'SELECT INSERT UPDATE', 'a later table: app_user'),
       t.same(t.held('readonly_user', 'public.later'), 'SELECT', 'a later table: readonly_user'),
       t.ok(has_sequence_privilege('app_user', 'public.later_made_seq', 'USAGE'), 'a later sequence'),
       t.ok(NOT has_function_privilege('app_user', 'public.later_function()', 'EXECUTE'),
            'a later function is granted by name');

ROLLBACK;
