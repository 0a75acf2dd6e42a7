-- people.sql -- accounts: how they are told apart, sign in, and go.

BEGIN;

-- ---- users --------------------------------------------------------------------------

SELECT t.app('system');
SELECT t.same(t.attempt(format('INSERT INTO users (name, role, %s) VALUES (''N'', ''customer'', %s)', columns, given)), wanted, label)
  FROM (VALUES
    ('email, password_hash', $$'new@example.com', 'x'$$, '1', 'an account with a password'),
    ('email, password_hash', $$'New@Example.com', 'x'$$, '23514', 'e-mail addresses are in lower case'),
    ('email, password_hash', $$'john@example.com', 'x'$$, '23505', 'an e-mail address is one person''s'),
    ('email, password_hash, phone', $$'new@example.com', 'x', '+1234567890'$$, '23505', 'so is a phone number'),
    ('email, password_hash, phone', $$'new@example.com', 'x', NULL$$, '1', 'many have none'),
    ('email, password_hash', $$'new@example.com', NULL$$, '23514', 'nobody is without a way to sign in'),
    ('email, password_hash', $$'new@example.com', ''$$, '23514', 'an empty hash is none'),
    ('email, social_provider', $$'new@example.com', 'google'$$, '1', 'but by a provider'),
    ('email, social_provider', $$'new@example.com', 'orkut'$$, '23514', 'one of the three'),
    ('email, invited_at', $$'new@example.com', now()$$, '1', 'or by an invitation')) AS v(columns, given, wanted, label);

INSERT INTO users (id, name, email, password_hash, role) VALUES
    (t.usr(901), 'Ann One', 'ann@example.com', 'x', 'customer'), (t.usr(902), 'Ben Two', 'ben@example.com', 'x', 'rider');
SELECT t.same(string_agg(points::text, ' '), '0 0', 'everybody has a loyalty account')
  FROM loyalty_points WHERE user_id IN (t.usr(901), t.usr(902));

SELECT t.ok(t.plan('SELECT id FROM users WHERE email = ''john@example.com''') ~ 'users_email_key',
            'the e-mail address is found by its index, under row-level security');

-- ---- identities and tokens ----------------------------------------------------------

INSERT INTO user_identities (user_id, provider, subject) VALUES (t.usr(901), 'google', '42');
SELECT t.fails($$INSERT INTO user_identities (user_id, provider, subject) VALUES (t.usr(902), 'google', '42')$$, '23505',
    'a provider''s subject is one person');
SELECT t.same(t.attempt($$INSERT INTO user_identities (user_id, provider, subject) VALUES (t.usr(902), 'apple', '42')$$), '1',
    'another provider''s is another');

SELECT t.same(t.attempt(format('INSERT INTO password_resets (user_id, expires_at, %s) VALUES (t.usr(901), now() + interval ''30 min'', %s)',
                               columns, given)), wanted, label)
  FROM (VALUES
    ('token_sha256', $$repeat('a', 64)$$, '1', 'a reset'),
    ('token_sha256', $$'a token'$$, '23514', 'keeps no token, but its hash'),
    ('token_sha256, purpose', $$repeat('a', 64), 'set_password'$$, '1', 'for an invitation'),
    ('token_sha256, purpose, new_email', $$repeat('a', 64), 'change_email', 'new@example.com'$$, '1', 'for a new address'),
    ('token_sha256, purpose', $$repeat('a', 64), 'change_email'$$, '23514', 'which is named'),
    ('token_sha256, new_email', $$repeat('a', 64), 'new@example.com'$$, '23514', 'then only'),
    ('token_sha256, purpose, new_email', $$repeat('a', 64), 'change_email', 'New@example.com'$$, '23514', 'in lower case'))
    AS v(columns, given, wanted, label);

-- ---- functions across accounts ------------------------------------------------------

SELECT t.same(id, t.usr(1), 'find_sign_in: whatever the case'), t.ok(password_hash LIKE '$2b$%', 'with the hash')
  FROM find_sign_in(' John@EXAMPLE.com ');
SELECT t.same(count(*), 0::bigint, 'find_sign_in: nobody') FROM find_sign_in('nobody@example.com');
SELECT t.app(r, t.usr(3)::text), t.same((SELECT count(*) FROM find_sign_in('john@example.com')), 0::bigint,
              'find_sign_in is not for ' || COALESCE(NULLIF(r, ''), 'nobody'))
  FROM unnest(ARRAY['', 'guest', 'customer', 'rider', 'staff', 'admin']) AS r;

SELECT t.app('staff', t.usr(4)::text);
SELECT t.same((SELECT string_agg(u.name, ', ' ORDER BY u.name) FROM search_customers(query) s JOIN users u ON u.id = s.user_id),
              wanted, 'search_customers: ' || query)
  FROM (VALUES ('jane', 'Jane Smith'), ('O''BRI', 'Liam O''Brien'), ('  smith ', 'Jane Smith'), ('+1234567903', 'Chidinma Okafor'),
               ('zoe.laurent', 'Zoë Laurent'), ('%', NULL), ('_', NULL), ('\', NULL), ('nobody at all', NULL)) AS v(query, wanted);
SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(count(*), 0::bigint, 'search_customers is for staff') FROM search_customers('j');

-- ---- an account goes ----------------------------------------------------------------

SELECT t.owner();
UPDATE orders SET notes = 'My name is John', address = '{"line1": "At John''s"}' WHERE user_id = t.usr(1) AND fulfilment = 'delivery';
INSERT INTO user_identities (user_id, provider, subject) VALUES (t.usr(1), 'google', 'john');
INSERT INTO password_resets (user_id, token_sha256, expires_at) VALUES (t.usr(1), repeat('c', 64), now() + interval '1 hour');

SELECT t.app('customer', t.usr(2)::text);
SELECT t.same(anonymise_user(t.usr(1)), false, 'anonymise_user: not by somebody else');
SELECT t.app('staff', t.usr(4)::text);
SELECT t.same(anonymise_user(t.usr(1)), false, 'nor by staff');
SELECT t.app();
SELECT t.same(anonymise_user(t.usr(1)), false, 'nor by nobody');
SELECT t.app('customer', t.usr(1)::text);
SELECT t.same(anonymise_user(t.usr(1)), true, 'by its owner'), t.same(anonymise_user(t.usr(1)), false, 'once');

SELECT t.owner();
SELECT t.same(format('%s|%s|%s|%s|%s|%s', name, email, password_hash, phone, avatar_url, session_epoch),
              format('Deleted user|deleted-%s@deleted.invalid||||1', id), 'nothing tells who it was')
  FROM users WHERE id = t.usr(1);
SELECT t.ok(count(*) > 3, 'orders stay'), t.same(count(address) + count(notes), 0::bigint, 'without address and notes')
  FROM orders WHERE user_id = t.usr(1);
SELECT t.same(count(message) + count(image_reference), 0::bigint, 'cakes without their messages'),
       t.same(bool_or(extra_details ? 'instructions'), false, 'and instructions')
  FROM custom_cake_configurations WHERE order_id IN (SELECT id FROM orders WHERE user_id = t.usr(1));
SELECT t.same((SELECT count(*) FROM user_identities WHERE user_id = t.usr(1))
              + (SELECT count(*) FROM password_resets WHERE user_id = t.usr(1))
              + (SELECT count(*) FROM newsletter_subscribers WHERE email = 'john@example.com'), 0::bigint,
              'no identity, no token, no newsletter');
SELECT t.same(name, 'Deleted u.', 'nor do reviews') FROM public_profiles WHERE id = t.usr(1);
SELECT t.app('system');
SELECT t.same(count(*), 0::bigint, 'nobody signs in with it') FROM find_sign_in('deleted-' || t.usr(1) || '@deleted.invalid');
SELECT t.app('admin', t.usr(3)::text);
SELECT t.same(anonymise_user(t.usr(2)), true, 'by an admin');

ROLLBACK;
