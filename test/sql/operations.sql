-- operations.sql -- outbox, kept answers, newsletter, uploads.

BEGIN;

-- ---- outbox -------------------------------------------------------------------------

SELECT t.app('customer', t.usr(1)::text);
INSERT INTO outbox (topic, aggregate_id, payload) VALUES ('order.created', t.ord(34), '{"n": 1}'), ('order.status_changed', t.ord(34), '{"n": 2}'), ('order.refunded', t.ord(34), '{"n": 3}');
SELECT t.app('system');
SELECT t.same(string_agg(payload ->> 'n', ' ' ORDER BY id), '1 2 3', 'messages of an order are in the order of id')
  FROM outbox WHERE aggregate_id = t.ord(34);
SELECT t.ok(t.plan($$SELECT id FROM outbox WHERE sent_at IS NULL AND failed_at IS NULL AND available_at <= now()
                      ORDER BY available_at, id LIMIT 10 FOR UPDATE SKIP LOCKED$$) ~ 'idx_outbox_waiting.*', 'the waiting ones have an index'),
       t.ok(t.plan($$SELECT 1 FROM outbox WHERE aggregate_id = t.ord(34) AND id < 5 AND sent_at IS NULL$$) ~ 'idx_outbox_aggregate',
            'so have those before one of the same order');
UPDATE outbox SET sent_at = now() WHERE payload ->> 'n' = '1' AND aggregate_id = t.ord(34);
UPDATE outbox SET failed_at = now() WHERE payload ->> 'n' = '3' AND aggregate_id = t.ord(34);
SELECT t.fails($$UPDATE outbox SET failed_at = now() WHERE sent_at IS NOT NULL$$, '23514', 'sent or failed, not both');
SELECT t.fails($$UPDATE outbox SET payload = '{}'$$, '42501', 'a message is not changed');
SELECT t.same(t.attempt('DELETE FROM outbox WHERE aggregate_id = t.ord(34)'), '2', 'only sent ones go, and those given up');

-- ---- kept answers -------------------------------------------------------------------

SELECT t.app('guest');
SELECT t.same(format('%s|%s|%s', claimed, status, body), 't||', 'a key is free') FROM claim_idempotency_key('POST /orders guest', 'k');
INSERT INTO idempotency_keys (scope, key, request_hash, status, body) VALUES ('POST /orders guest', 'k', repeat('a', 64), 201, '{"a": 1}');
SELECT t.same(format('%s|%s|%s|%s', claimed, status, convert_from(body, 'UTF8'), request_hash = repeat('a', 64)), 't|201|{"a": 1}|t',
              'and gives its answer again, byte for byte') FROM claim_idempotency_key('POST /orders guest', 'k');
SELECT t.same(status, NULL, 'in its scope only') FROM claim_idempotency_key('POST /orders somebody', 'k');
SELECT t.same(count(*), 0::bigint, 'nobody reads the table') FROM idempotency_keys;
SELECT t.fails($$INSERT INTO idempotency_keys (scope, key, request_hash, status, body) VALUES ('POST /orders guest', 'k', repeat('b', 64), 201, '')$$,
    '23505', 'a key has one answer');
SELECT t.fails($$INSERT INTO idempotency_keys (scope, key, request_hash, status, body) VALUES ('s', 'k', repeat('b', 64), 409, '')$$,
    '23514', 'a refusal is not kept');
SELECT t.owner();
UPDATE idempotency_keys SET expires_at = now() - interval '1 second' WHERE scope = 'POST /orders guest';
SELECT t.app('guest');
SELECT t.same(status, NULL, 'after 24 hours it is free again') FROM claim_idempotency_key('POST /orders guest', 'k');
SELECT t.same(t.attempt($$INSERT INTO idempotency_keys (scope, key, request_hash, status, body) VALUES ('POST /orders guest', 'k', repeat('b', 64), 201, '')$$),
    '1', 'for another answer');

-- ---- newsletter ---------------------------------------------------------------------

SELECT t.app();
SELECT token, t.same(already, false, 'subscribed') AS line FROM subscribe_newsletter(' New@Example.com ') \gset first_
SELECT t.same(already, true, 'subscribed already'), t.same(token, :'first_token', 'with the same token') FROM subscribe_newsletter('new@example.com');
SELECT t.same(unsubscribe_newsletter('x'), false, 'no such token'), t.same(unsubscribe_newsletter(:'first_token'), true, 'unsubscribed'),
       t.same(unsubscribe_newsletter(:'first_token'), true, 'and again');
SELECT t.same(already, false, 'subscribed anew'), t.same(token, :'first_token', 'with the token of before') FROM subscribe_newsletter('new@example.com');
SELECT t.ok(length(:'first_token') >= 32, 'a token cannot be guessed');
SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(string_agg(email, ' '), 'john@example.com', 'one sees one''s own subscription') FROM newsletter_subscribers;
UPDATE users SET email = 'john@elsewhere.example' WHERE id = t.usr(1);
SELECT t.same(string_agg(email, ' '), 'john@elsewhere.example', 'which follows its reader') FROM newsletter_subscribers;
UPDATE users SET email = 'new@example.com' WHERE id = t.usr(1);
SELECT t.same(string_agg(token, ' '), :'first_token', 'to an address with a subscription of its own, that one stays') FROM newsletter_subscribers;
SELECT t.app('admin', t.usr(3)::text);
SELECT t.same(count(*), 0::bigint, 'and the old address has none') FROM newsletter_subscribers WHERE email LIKE 'john@%';

-- ---- uploads ------------------------------------------------------------------------

SELECT t.app('guest');
INSERT INTO uploads (name, content_type, size) VALUES ('0123abcd.webp', 'image/webp', 10485760);
SELECT t.same(upload_exists('0123abcd.webp'), true, 'a name that is known may be used'), t.same(upload_exists('other.webp'), false, 'others not');
SELECT t.same(count(*), 0::bigint, 'but names are not told') FROM uploads;
SELECT t.same(t.attempt(format('INSERT INTO uploads (name, content_type, size) VALUES (%s)', given)), '23514', 'no upload: ' || given)
  FROM unnest(ARRAY[$$'../etc.png', 'image/png', 1$$, $$'a.svg', 'image/png', 1$$, $$'a.png', 'image/svg+xml', 1$$,
                    $$'a.png', 'image/png', 0$$, $$'a.png', 'image/png', 10485761$$]) AS given;

-- ---- traces -------------------------------------------------------------------------

SELECT t.app('admin', t.usr(3)::text);
INSERT INTO audit_log (action, entity, entity_id, changes) VALUES ('product.update', 'product', t.product(1)::text, '{"price": [1, 2]}');
SELECT t.same(format('%s %s', actor_id, actor_role), format('%s admin', t.usr(3)), 'who and as what')
  FROM audit_log WHERE entity_id = t.product(1)::text;

-- ---- what was kept long enough --------------------------------------------------------

SELECT t.owner();
INSERT INTO audit_log (at, actor_role, action, entity) VALUES
    (now() - interval '400 days', 'admin', 'old', 'keep'), (now() - interval '364 days', 'admin', 'young', 'keep');
INSERT INTO uploads (name, content_type, size, created_at) VALUES
    ('keep-nobody.png', 'image/png', 1, now() - interval '8 days'), ('keep-young.png', 'image/png', 1, now() - interval '1 day'),
    ('keep-product.png', 'image/png', 1, now() - interval '8 days'), ('keep-cake.png', 'image/png', 1, now() - interval '8 days'),
    ('keep-face.png', 'image/png', 1, now() - interval '8 days');
UPDATE products SET image_url = '/uploads/keep-product.png' WHERE id = t.product(1);
UPDATE users SET avatar_url = 'https://example.com/uploads/keep-face.png' WHERE id = t.usr(1);
UPDATE custom_cake_configurations SET image_reference = 'keep-cake.png'
 WHERE id = (SELECT id FROM custom_cake_configurations ORDER BY id LIMIT 1);

SELECT t.app('admin', t.usr(3)::text);
SELECT t.fails('SELECT forget_audit_log(365)', '42501', 'no admin removes traces'),
       t.fails('SELECT forget_uploads(7)', '42501', 'nor pictures');
SELECT t.app('system');
SELECT t.fails('SELECT forget_audit_log(29)', '42501', 'nobody removes young traces'),
       t.fails('SELECT forget_audit_log(NULL)', '42501', 'nor as many as one likes'),
       t.fails('SELECT forget_uploads(1)', '42501', 'nor pictures that a cart may have');
SELECT t.ok(forget_audit_log(365) >= 1, 'old traces go');
SELECT t.same(string_agg(action, ' '), 'young', 'younger ones stay') FROM audit_log WHERE entity = 'keep';
SELECT t.same(string_agg(name, ' '), 'keep-nobody.png', 'a picture that nothing shows goes')
  FROM forget_uploads(7) WHERE name LIKE 'keep-%';
SELECT t.same(count(*), 4::bigint, 'others stay') FROM uploads WHERE name LIKE 'keep-%';

ROLLBACK;
