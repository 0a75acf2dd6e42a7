-- search.sql -- what product search finds, and that indexes serve it under row-level security.

BEGIN;

CREATE FUNCTION t.found(query text) RETURNS text LANGUAGE sql STABLE
RETURN (SELECT string_agg(p.name, ', ' ORDER BY s.rank DESC, p.id)
          FROM public.search_products(query) s JOIN public.products p ON p.id = s.product_id);

-- ---- what it finds ------------------------------------------------------------------

SELECT t.app();

SELECT t.ok(t.found('choclate') LIKE 'Chocolate Cake%', 'choclate finds the chocolate cake');
SELECT t.ok(t.found('chocolate') LIKE 'Chocolate Cake%', 'chocolate: the name counts more than the description');
SELECT t.ok(t.found('chocolate') LIKE '%White Macadamia Cookie%', 'but the description counts');
SELECT t.ok(t.found('cakes') LIKE '%Carrot Cake%', 'in any grammatical form');
SELECT t.same(t.found('red velvet'), 'Red Velvet Cake', 'several words mean all of them');
SELECT t.ok(t.found('chocolate -cookie') NOT LIKE '%Cookie%', 'and exclusions');
SELECT t.ok(t.found('vanila cupcaks') LIKE '%Vanilla Cupcakes%', 'vanila cupcaks');
SELECT t.ok(t.found('crossant') LIKE '%Butter Croissant%', 'crossant');
SELECT t.ok(t.found('cinamon') LIKE '%Cinnamon Roll%', 'cinamon');
SELECT t.ok(t.found('focac') LIKE '%Rosemary Focaccia%', 'the beginning of a word');
SELECT t.same(t.found('motherboard'), NULL, 'nothing is like a motherboard');

-- Whatever people type: an answer, maybe empty, never an error.
SELECT t.ok(t.attempt(format('SELECT * FROM search_products(%L)', query)) ~ '^\d+$', 'typed: ' || left(translate(query, E'\t\n', '  '), 20))
  FROM unnest(ARRAY['', ' ', 'the', '%', '_', '\', '''', '"', '& | ! ( ) <-> :*', 'a:b:*', E'tab\tnew\nline',
                    'Crème brûlée', '蛋糕', repeat('x', 5000), '-', '--', '"unclosed']) AS query;
SELECT t.same(count(*), 0::bigint, 'NULL finds nothing') FROM search_products(NULL);

SELECT t.app('staff', t.usr(4)::text);
UPDATE products SET archived_at = now() WHERE id = t.product(1);
SELECT t.ok(t.found('chocolate') NOT LIKE '%Chocolate Cake%' AND t.found('choclate') NOT LIKE '%Chocolate Cake%',
            'what is archived is not found');

-- ---- how it finds it ----------------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);

SELECT t.ok(t.plan($$SELECT id FROM products
    WHERE to_tsvector('english', name || ' ' || COALESCE(description, '')) @@ websearch_to_tsquery('english', 'cake')$$)
    LIKE '%idx_products_search%', 'full text by its index');
SELECT t.ok(t.plan($$SELECT id FROM products WHERE 'choclate' <% name$$)
    LIKE '%idx_products_name_trgm%', 'likeness by its index');

DISCARD PLANS;
SET LOCAL enable_seqscan = off;
SELECT pg_stat_get_xact_numscans('idx_products_search'::regclass) AS text_before,
       pg_stat_get_xact_numscans('idx_products_name_trgm'::regclass) AS like_before \gset
SELECT count(*) FROM search_products('velvet') \g /dev/null
SELECT t.same(pg_stat_get_xact_numscans('idx_products_search'::regclass) - :text_before, 1::bigint,
              'search_products uses the one'),
       t.same(pg_stat_get_xact_numscans('idx_products_name_trgm'::regclass) - :like_before, 0::bigint,
              'and does not look for likeness when words match');
SELECT count(*) FROM search_products('velvte') \g /dev/null
SELECT t.same(pg_stat_get_xact_numscans('idx_products_name_trgm'::regclass) - :like_before, 1::bigint,
              'and the other');

-- ---- other lists --------------------------------------------------------------------

SELECT t.ok(plan LIKE '%idx_orders_user_created%' AND plan NOT LIKE '%Sort%', 'own orders, newest first: by index, unsorted')
  FROM t.plan($$SELECT id FROM orders WHERE user_id = '00000000-0000-0000-0000-000000000001'
                ORDER BY created_at DESC LIMIT 20$$) AS plan;
SELECT t.ok(plan LIKE '%idx_orders_delivery_schedule_id%', 'the orders of a slot')
  FROM t.plan($$SELECT id FROM orders WHERE delivery_schedule_id = '00000000-0000-0000-0000-000000000001'$$) AS plan;
SELECT t.ok(plan LIKE '%idx_products_stock%', 'what is running out')
  FROM t.plan($$SELECT id, name, stock FROM products WHERE low_stock AND stock <= 3$$) AS plan;
SELECT t.ok(plan LIKE '%idx_products_category%', 'a category')
  FROM t.plan($$SELECT id FROM products WHERE category = 'cakes'$$) AS plan;
SELECT t.ok(plan LIKE '%users_email_key%', 'an account by its e-mail')
  FROM t.plan($$SELECT id FROM users WHERE email = 'john@example.com'$$) AS plan;
SELECT t.ok(plan NOT LIKE '%Seq Scan on orders%' AND plan LIKE '%InitPlan%', 'the role is asked once, lines by index')
  FROM t.plan($$SELECT id FROM order_items WHERE order_id = '20000000-0000-0000-0000-000000000034'$$) AS plan;

ROLLBACK;
