-- sample_data.sql -- a bakery that looks alive: development only.
--
-- Everybody's password is Bakery!2026 .  Run by the owner, in one transaction, as often
-- as one likes: what is there already is left as it is.  Days count from today, so the
-- shop has slots, orders and valid codes whenever it is loaded; a run on a later day adds
-- the slots of the days that came since.
--
-- Ids: 00000000-... users, 10000000-... products, 20000000-... orders, 30000000-... slots
-- (with date and hour), 40000000-... reviews, 50000000-... order lines (with order and
-- line), 60000000-... cakes, 80000000-... refunds.


-- ---- people -------------------------------------------------------------------------

INSERT INTO users (id, name, email, password_hash, role, phone, created_at, updated_at)
SELECT
    ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
    name, email, password_hash, role, phone,
    now() - days * interval '1 day',
    now() - days * interval '1 day'
FROM (VALUES
    ( 1, 240, 'customer', '+1234567890', 'john@example.com', 'John Doe',
     '$2b$12$HVHTRMTpbtDgwKk9ZQNekOkSAuEGYQxDwhe2x6/Z1NhKJzYALgnQS'),
    ( 2, 220, 'customer', '+1234567891', 'jane@example.com', 'Jane Smith',
     '$2b$12$VHS/cLTboCy7v6x82h/saeGk2/Prpf2PsoMGhiQhAS2.ZtC9haAmq'),
    ( 3, 400, 'admin', '+1234567892', 'admin@omadecravings.com', 'Admin User',
     '$2b$12$54vpq1K5OBksDNXsn8InPeBbIdbuZgEc2f/HP7AAtz/ec.eExJMX2'),
    ( 4, 390, 'staff', '+1234567893', 'sofia@omadecravings.com', 'Sofia Marchetti',
     '$2b$12$zVEdK9XZW9f9.6nK/4mvPOeLfFm1kA1151OgAtP1jEJtOof10ghBO'),
    ( 5, 310, 'staff', '+1234567894', 'tom@omadecravings.com', 'Tom Becker',
     '$2b$12$.yO8s4wt5ECx9TLeByTd8uPeu2PR8F6zhYtn5FOupHlMDuKL0EdNC'),
    ( 6, 300, 'rider', '+1234567895', 'marco@omadecravings.com', 'Marco Silva',
     '$2b$12$t9AwaabLAuU0IIImVl05WeymsrEd1ckyLLpPKTidg2rRvMeJQ1Y4.'),
    ( 7, 180, 'rider', '+1234567896', 'aisha@omadecravings.com', 'Aisha Khan',
     '$2b$12$2BSOob0oHOmRkmxA6pm1i.xyuOBwa1/ETxoNe2pGk2kK/Xh5bMHQ.'),
    ( 8, 200, 'customer', '+1234567901', 'emily.carter@example.com', 'Emily Carter',
     '$2b$12$zA/9HWByvifu5uIjctjzI.ibOQ3DxVKWUcMG26vnw3oSYYd.fE3A.'),
    ( 9, 190, 'customer', '+1234567902', 'liam.obrien@example.com', 'Liam O''Brien',
     '$2b$12$WvTE/kq7hvMsSQPfIw6icOQARv3uiYEdWm.C9L1O6AiDAllzTEEOe'),
    (10, 175, 'customer', '+1234567903', 'chidinma.okafor@example.com', 'Chidinma Okafor',
     '$2b$12$8LBMrE2I7IkKuzhJkTCVKOCxnj8ZVvjCl76/iXF0kc3lwBs94kQaW'),
    (11, 160, 'customer', '+1234567904', 'noah.williams@example.com', 'Noah Williams',
     '$2b$12$xbU5pnt3GtLp/9WCxWFRwu5ONExlK4r3Wkt/.PoyX2HHCgrY368c.'),
    (12, 150, 'customer', '+1234567905', 'yuki.tanaka@example.com', 'Yuki Tanaka',
     '$2b$12$s5h5q17O1RIxIiLmDdGsTOuhgUWtYXw.ZJcDuYvGaMFkxU6u4jZnq'),
    (13, 130, 'customer', '+1234567906', 'zoe.laurent@example.com', 'Zoë Laurent',
     '$2b$12$KXzCPhSNICSln9ZRayaSxOHY0csq1xEha0ZHgEQA5MBtzyso4rvwC'),
    (14, 120, 'customer', '+1234567907', 'mateo.garcia@example.com', 'Mateo García',
     '$2b$12$WrbKINFw0oOl6Qv.Cn34JO6z5zevWgRr4m2KnAyH3duVHe02hZ0KC'),
    (15,  95, 'customer', '+1234567908', 'priya.patel@example.com', 'Priya Patel',
     '$2b$12$pJb2TCi0xVjvD5ylyU6G1OL3iDtX0h1I5JWz5SfOyn32urYeHSrYq'),
    (16,  80, 'customer', '+1234567909', 'hannah.schmidt@example.com', 'Hannah Schmidt',
     '$2b$12$F10nPn9aVA8ugSPqRNyofO1r9RkxII8CN93XFtaR8g/haVsMinw/S'),
    (17,  60, 'customer', '+1234567910', 'olu.adeyemi@example.com', 'Olu Adeyemi',
     '$2b$12$9ZAHXs6jF41v.vMB1h.d4uLAZFb8.WTvA6Yx.o9HQ5ktRp/DFFi/y'),
    (18,  45, 'customer', '+1234567911', 'grace.kim@example.com', 'Grace Kim',
     '$2b$12$BCs4SQSHj0woRfgLK93uA.kaNZpOhuOncokmubpZZPgZamliKD0g.'),
    (19,  10, 'customer', NULL, 'daniel.novak@example.com', 'Daniel Novak',
     '$2b$12$97EdfV/GyyOsnkzpY3OXienFPiQVFBsQWXW/SXPj8k4XiHClbG6OS')
) AS person (n, days, role, phone, email, name, password_hash)
ON CONFLICT DO NOTHING;


-- ---- catalogue ----------------------------------------------------------------------

INSERT INTO products (id, name, description, price, category, stock, is_customizable,
    allergens, created_at, updated_at)
SELECT
    ('10000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
    name, description, price, category, stock, is_customizable, allergens::text[],
    now() - n * interval '1 day',
    now() - n * interval '1 day'
FROM (VALUES
    -- cakes
    ( 1, 25.99, 20, 'cakes', true, '{gluten,eggs,milk,soybeans}', 'Chocolate Cake',
     'Rich chocolate cake with ganache'),
    ( 3, 28.99, 15, 'cakes', true, '{gluten,eggs,milk}', 'Red Velvet Cake',
     'Traditional red velvet with cream cheese frosting'),
    ( 4, 22.50, 12, 'cakes', true, '{gluten,eggs,milk}', 'Lemon Drizzle Cake',
     'Moist lemon sponge soaked in syrup, with a crackling sugar crust'),
    ( 5, 24.00, 10, 'cakes', true, '{gluten,eggs,milk,nuts}', 'Carrot Cake',
     'Spiced carrot layers with walnuts and orange cream cheese'),
    ( 6, 32.00,  4, 'cakes', false, '{gluten,eggs,milk,sulphites}', 'Black Forest Gateau',
     'Cocoa sponge, whipped cream and morello cherries in kirsch'),
    -- cupcakes
    ( 2, 12.99, 50, 'cupcakes', false, '{gluten,eggs,milk}', 'Vanilla Cupcakes',
     'Classic vanilla cupcakes (6 pack)'),
    ( 7, 14.50, 36, 'cupcakes', false, '{gluten,eggs,milk}', 'Salted Caramel Cupcakes',
     'Brown sugar sponge with a soft caramel heart and sea salt (6 pack)'),
    ( 8, 13.50, 40, 'cupcakes', false, '{gluten,eggs,milk}', 'Strawberry Cupcakes',
     'Pink buttercream made with real strawberries (6 pack)'),
    ( 9, 15.00, 24, 'cupcakes', false, '{gluten,eggs,milk,nuts}', 'Pistachio Rose Cupcakes',
     'Ground Sicilian pistachios, rose water and dried petals (6 pack)'),
    (10, 13.99, 30, 'cupcakes', false, '{gluten,soybeans}', 'Vegan Cocoa Cupcakes',
     'Dark cocoa cupcakes with oat milk frosting, no eggs and no dairy (6 pack)'),
    -- cookies
    (11,  2.25, 120, 'cookies', false, '{gluten,eggs,milk,soybeans}', 'Chocolate Chip Cookie',
     'Crisp edge, soft middle, three kinds of chocolate'),
    (12,  2.10, 90, 'cookies', false, '{gluten,eggs,milk}', 'Oatmeal Raisin Cookie',
     'Rolled oats, plump raisins and a little cinnamon'),
    (13,  2.50, 80, 'cookies', false, '{gluten,eggs,milk,nuts}', 'White Macadamia Cookie',
     'White chocolate and roasted macadamia nuts'),
    (14,  1.95, 100, 'cookies', false, '{gluten,eggs,milk}', 'Ginger Snap',
     'Thin, dark and spicy, baked until it snaps'),
    (15,  2.75, 60, 'cookies', false, '{eggs,peanuts}', 'Peanut Butter Cookie',
     'Made without flour: peanuts, eggs, sugar and salt'),
    -- breads
    (16,  6.50, 25, 'breads', false, '{gluten}', 'Country Sourdough',
     'Naturally leavened wheat and rye, proved for 24 hours'),
    (17,  3.20, 40, 'breads', false, '{gluten}', 'French Baguette',
     'Thin crust, open crumb, baked four times a day'),
    (18,  5.80, 18, 'breads', false, '{gluten,sesame}', 'Seeded Rye Loaf',
     'Dense rye with sunflower, flax and sesame seeds'),
    (19,  4.90, 22, 'breads', false, '{gluten,milk}', 'Rosemary Focaccia',
     'Olive oil, rosemary and flakes of salt'),
    (20,  7.20,  0, 'breads', false, '{gluten,eggs,milk}', 'Brioche Loaf',
     'Golden, buttery and made for Sunday mornings'),
    -- pastries
    (21,  2.95, 70, 'pastries', false, '{gluten,eggs,milk}', 'Butter Croissant',
     'Twenty-seven layers of French butter'),
    (22,  3.60, 45, 'pastries', false, '{gluten,eggs,milk,nuts}', 'Almond Croissant',
     'Twice baked, filled with almond cream'),
    (23,  3.40, 50, 'pastries', false, '{gluten,eggs,milk,soybeans}', 'Pain au Chocolat',
     'Croissant dough around two sticks of dark chocolate'),
    (24,  3.75, 35, 'pastries', false, '{gluten,eggs,milk}', 'Cinnamon Roll',
     'Soft roll with cinnamon sugar and vanilla icing'),
    (25,  4.20,  5, 'pastries', false, '{gluten,eggs,milk}', 'Raspberry Danish',
     'Vanilla custard and raspberries on flaky pastry'),
    -- pies
    (26, 18.50, 14, 'pies', false, '{gluten,milk}', 'Apple Pie',
     'Bramley apples under a lattice crust'),
    (27, 19.90,  9, 'pies', false, '{gluten,eggs,milk,nuts}', 'Pecan Pie',
     'Toasted pecans in maple syrup'),
    (28, 17.50, 11, 'pies', false, '{gluten,eggs,milk}', 'Key Lime Pie',
     'Sharp lime cream on a biscuit base'),
    (29, 16.90,  2, 'pies', false, '{gluten,eggs,milk}', 'Pumpkin Pie',
     'Roasted pumpkin with nutmeg and clove'),
    (30, 21.00, 13, 'pies', false, '{gluten,eggs,milk}', 'Cherry Pie',
     'Sour cherries, a hint of vanilla, an all-butter crust')
) AS article (n, price, stock, category, is_customizable, allergens, name, description)
ON CONFLICT DO NOTHING;


-- ---- promotions ---------------------------------------------------------------------

INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to, usage_limit)
VALUES
    ('WELCOME10', 'percent', 10.00, now() - interval '30 days', now() + interval '1 year', 1000),
    ('SAVE5', 'fixed', 5.00, now() - interval '30 days', now() + interval '6 months', 500)
ON CONFLICT DO NOTHING;

INSERT INTO promo_codes (code, discount_type, amount, valid_from, valid_to, per_user_limit,
    minimum_order)
VALUES
    ('BIRTHDAY20', 'percent', 20.00, now() - interval '30 days', now() + interval '1 year', 1, 30.00)
ON CONFLICT DO NOTHING;


-- ---- delivery slots -----------------------------------------------------------------

-- Four a day from two weeks back to two weeks ahead.  The riders take turns; what is
-- past is completed, today and tomorrow morning are assigned.
INSERT INTO delivery_schedules (id, delivery_date, delivery_time, rider_id, status)
SELECT
    ('30000000-0000-0000-' || to_char(today + day, 'YYYY-MMDD')
        || to_char(hour, 'FM00') || '000000')::uuid,
    today + day,
    to_char(hour, 'FM00') || ':00-' || to_char(hour + 2, 'FM00') || ':00',
    CASE WHEN day <= 0 OR (day = 1 AND hour < 12)
         THEN ('00000000-0000-0000-0000-00000000000' || 6 + (day & 1))::uuid END,
    CASE WHEN day < 0 THEN 'completed'
         WHEN day = 0 OR (day = 1 AND hour < 12) THEN 'assigned'
         ELSE 'available' END
FROM (SELECT (now() AT TIME ZONE shop_timezone())::date AS today) AS shop,
     generate_series(-14, 14) AS day,
     unnest(ARRAY[9, 11, 14, 16]) AS hour
ON CONFLICT DO NOTHING;


-- ---- orders -------------------------------------------------------------------------

-- day: how many days ago it was placed; slot_day, slot_hour: the delivery slot, none for
-- pickup; refund: given back of a delivered order; lines: product number and quantity.
-- Lines come in with their order, never later, so that a second run changes nothing.
-- The last three are of guests.  Numbers up to 100 are theirs.
SELECT setval('order_number_seq', 100) FROM order_number_seq WHERE last_value < 100;

WITH plan (n, buyer, day, clock, status, payment_status, slot_day, slot_hour, refund, lines) AS (
    VALUES
        ( 1,  1, 58, '08:27', 'delivered', 'paid',     NULL, NULL,  NULL, '{"9": 2, "17": 6}'),
        ( 2,  2, 57, '08:48', 'delivered', 'paid',     NULL, NULL,  NULL, '{"5": 1, "8": 2}'),
        ( 3,  8, 54, '11:27', 'delivered', 'paid',     NULL, NULL,  NULL, '{"3": 1, "8": 3, "18": 2, "29": 1}'),
        ( 4,  9, 51, '13:20', 'delivered', 'paid',     NULL, NULL,  NULL, '{"6": 2}'),
        ( 5, 10, 49, '13:12', 'delivered', 'paid',     NULL, NULL,  NULL, '{"21": 1, "24": 1}'),
        ( 6, 11, 49, '17:12', 'refunded',  'refunded', NULL, NULL,  NULL, '{"1": 1, "2": 2}'),
        ( 7, 12, 38, '11:05', 'delivered', 'paid',     NULL, NULL,  NULL, '{"2": 6, "13": 2}'),
        ( 8, 13, 35, '08:33', 'delivered', 'paid',     NULL, NULL,  NULL, '{"11": 1}'),
        ( 9, 14, 33, '12:56', 'delivered', 'paid',     NULL, NULL,  NULL, '{"4": 1, "11": 1, "17": 1}'),
        (10, 13, 33, '14:27', 'cancelled', 'pending',  NULL, NULL,  NULL, '{"1": 1, "10": 1}'),
        (11, 15, 31, '08:33', 'delivered', 'paid',     NULL, NULL,  5.00, '{"4": 1, "13": 1, "23": 2}'),
        (12, 16, 30, '12:41', 'delivered', 'paid',     NULL, NULL,  NULL, '{"17": 3, "18": 1}'),
        (13,  1, 27, '13:56', 'delivered', 'paid',     NULL, NULL,  NULL, '{"11": 2, "12": 1, "15": 3, "30": 1}'),
        (14, 17, 27, '15:27', 'delivered', 'paid',     NULL, NULL,  NULL, '{"30": 1}'),
        (15,  2, 24, '14:56', 'delivered', 'paid',     NULL, NULL,  NULL, '{"15": 1, "18": 2, "21": 6, "28": 1}'),
        (16,  8, 24, '16:33', 'delivered', 'paid',     NULL, NULL,  NULL, '{"14": 3}'),
        (17,  9, 22, '10:56', 'delivered', 'paid',     NULL, NULL,  NULL, '{"12": 1, "13": 2}'),
        (18, 10, 20, '17:27', 'delivered', 'paid',     NULL, NULL,  NULL, '{"18": 1}'),
        (19, 11, 19, '09:41', 'delivered', 'paid',     NULL, NULL,  NULL, '{"11": 2, "21": 2}'),
        (20,  8, 19, '13:12', 'cancelled', 'failed',   NULL, NULL,  NULL, '{"4": 1, "7": 6, "22": 1, "24": 2}'),
        (21, 12, 14, '12:56', 'delivered', 'paid',     NULL, NULL,  NULL, '{"13": 3}'),
        (22, 15, 12, '08:05', 'delivered', 'paid',     NULL, NULL,  NULL, '{"2": 2, "17": 6, "27": 1}'),
        (23, 16, 12, '12:12', 'delivered', 'paid',      -11,   14,  NULL, '{"15": 2, "16": 2, "22": 1}'),
        (24, 17, 12, '13:05', 'delivered', 'paid',      -11,   11,  NULL, '{"6": 1, "22": 6}'),
        (25, 13, 12, '15:20', 'delivered', 'paid',      -11,   11,  NULL, '{"26": 1, "29": 1}'),
        (26, 14, 12, '15:56', 'refunded',  'refunded',  -11,    9,  NULL, '{"6": 2, "22": 2}'),
        (27,  2, 11, '10:41', 'delivered', 'paid',      -10,   16,  NULL, '{"11": 2, "23": 1, "24": 3}'),
        (28,  8, 11, '10:56', 'delivered', 'paid',      -10,   16,  NULL, '{"1": 1, "5": 1}'),
        (29,  1, 11, '17:05', 'delivered', 'paid',     NULL, NULL,  NULL, '{"10": 2}'),
        (30,  9, 10, '15:48', 'delivered', 'paid',     NULL, NULL,  NULL, '{"10": 2, "15": 2, "18": 3}'),
        (31, 18,  9, '11:41', 'cancelled', 'pending',  NULL, NULL,  NULL, '{"3": 1, "22": 1}'),
        (32, 10,  9, '15:33', 'delivered', 'paid',       -8,   16,  NULL, '{"11": 6, "13": 2}'),
        (33, 11,  8, '14:41', 'delivered', 'paid',       -7,   16,  NULL, '{"5": 1, "11": 2, "14": 3, "26": 1}'),
        (34,  1,  6, '09:20', 'delivered', 'paid',       -4,   14,  NULL, '{"1": 1}'),
        (35,  2,  5, '11:05', 'delivered', 'paid',       -3,   11,  NULL, '{"2": 2, "3": 1}'),
        (36, 12,  4, '12:41', 'delivered', 'paid',     NULL, NULL,  NULL, '{"10": 2, "26": 1}'),
        (37, 13,  4, '15:27', 'delivered', 'paid',       -3,   11,  NULL, '{"17": 2}'),
        (38, 14,  4, '16:56', 'delivered', 'paid',       -3,    9,  NULL, '{"5": 1, "19": 1, "23": 1, "24": 1}'),
        (39, 15,  3, '10:05', 'delivered', 'paid',     NULL, NULL,  NULL, '{"1": 1, "25": 2}'),
        (40, 16,  3, '11:33', 'delivered', 'paid',       -2,   16,  NULL, '{"9": 3, "29": 1}'),
        (41,  8,  3, '12:41', 'cancelled', 'failed',   NULL, NULL,  NULL, '{"17": 3, "21": 6}'),
        (42, 17,  3, '12:48', 'delivered', 'paid',       -2,    9,  NULL, '{"11": 2, "19": 2}'),
        (43,  1,  3, '14:41', 'delivered', 'paid',     NULL, NULL,  NULL, '{"1": 1, "3": 1, "19": 6}'),
        (44,  9,  1, '08:20', 'confirmed', 'pending',     2,    9,  NULL, '{"22": 1}'),
        (45, 17,  1, '09:56', 'preparing', 'paid',        1,    9,  NULL, '{"1": 1, "3": 1, "18": 1, "21": 2}'),
        (46, 16,  1, '10:05', 'preparing', 'paid',        0,   16,  NULL, '{"10": 6, "26": 1}'),
        (47, 16,  1, '10:27', 'dispatched', 'paid',        0,   14,  NULL, '{"30": 1}'),
        (48, 12,  1, '10:48', 'confirmed', 'paid',     NULL, NULL,  NULL, '{"8": 2, "24": 2}'),
        (49,  8,  1, '13:48', 'dispatched', 'pending',     0,    9,  NULL, '{"19": 3}'),
        (50, 17,  1, '14:27', 'confirmed', 'pending',  NULL, NULL,  NULL, '{"11": 1, "21": 3}'),
        (51, 18,  1, '14:41', 'preparing', 'paid',     NULL, NULL,  NULL, '{"8": 1, "21": 1}'),
        (52,  8,  1, '15:56', 'dispatched', 'paid',        0,   11,  NULL, '{"17": 1}'),
        (53, 15,  1, '15:56', 'preparing', 'paid',     NULL, NULL,  NULL, '{"8": 1, "24": 1}'),
        (54, 16,  0, '08:05', 'pending',   'pending',     3,   11,  NULL, '{"6": 1}'),
        (55, 18,  0, '08:20', 'pending',   'pending',     5,    9,  NULL, '{"1": 1, "21": 4}'),
        (56, 12,  0, '10:56', 'confirmed', 'paid',        2,   14,  NULL, '{"1": 1, "13": 1}'),
        (57,  1,  0, '15:20', 'pending',   'pending',     2,   16,  NULL, '{"2": 3, "15": 6, "16": 6}'),
        (58, 10,  0, '16:20', 'pending',   'pending',  NULL, NULL,  NULL, '{"1": 1, "16": 6}'),
        (59, 16,  0, '16:48', 'confirmed', 'paid',        1,   11,  NULL, '{"18": 3}'),
        (60, 16,  0, '16:56', 'pending',   'pending',  NULL, NULL,  NULL, '{"13": 2, "16": 2, "19": 6}'),
        (61, 14,  0, '17:12', 'pending',   'failed',      4,   14,  NULL, '{"4": 1, "22": 1}'),
        (62, NULL, 7, '12:30', 'delivered', 'paid',    NULL, NULL,  NULL, '{"16": 1, "21": 2}'),
        (63, NULL, 2, '11:10', 'delivered', 'paid',      -1,   11,  NULL, '{"1": 1, "2": 1}'),
        (64, NULL, 0, '09:15', 'ready',    'pending',  NULL, NULL,  NULL, '{"23": 2, "26": 1}')
), extra (n, promo, points, tip, notes) AS (
    VALUES
        (20, NULL,        100, 0.00, NULL),
        (24, 'WELCOME10',   0, 2.00, NULL),
        (30, 'SAVE5',       0, 0.00, NULL),
        (35, NULL,          0, 3.50, 'Please ring twice'),
        (36, 'SAVE5',       0, 0.00, NULL),
        (41, 'WELCOME10',   0, 0.00, NULL),
        (43, NULL,        100, 0.00, 'For a party: not sliced, please'),
        (45, 'WELCOME10',   0, 5.00, NULL),
        (49, NULL,          0, 1.00, NULL),
        (56, 'WELCOME10',  50, 0.00, NULL),
        (63, 'WELCOME10',   0, 0.00, NULL)
), guest (n, name, email, phone) AS (
    VALUES
        (62, 'Ben Foster', 'ben.foster@example.com', NULL),
        (63, 'Nadia Haddad', 'nadia.haddad@example.com', '+1234567920'),
        (64, 'Pedro Alves', NULL, '+1234567921')
), street (k, line1, line2, city, postal_code) AS (
    VALUES
        (0, '12 Mill Lane', NULL, 'Springfield', '10115'),
        (1, '48 Harbour Street', 'Flat 3', 'Springfield', '10117'),
        (2, '7 Orchard Close', NULL, 'Springfield', '10119'),
        (3, '153 Station Road', '2nd floor', 'Springfield', '10178'),
        (4, '21 Church Row', NULL, 'Springfield', '10179')
), moment AS (
    SELECT
        plan.*,
        CASE WHEN slot_day IS NULL THEN 'pickup' ELSE 'delivery' END AS fulfilment,
        CASE WHEN payment_status = 'failed' OR n % 3 = 0 THEN 'online'
             WHEN slot_day IS NOT NULL AND n % 3 = 1 THEN 'card_on_delivery'
             WHEN payment_status = 'paid' AND status NOT IN ('delivered', 'refunded') THEN 'bank_transfer'
             ELSE 'cash' END AS payment_method,
        ('20000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid AS id,
        LEAST((today - day + clock::time) AT TIME ZONE shop_timezone(),
              now() - interval '10 minutes') AS created_at,
        (today - day + clock::time + interval '5 hours') AT TIME ZONE shop_timezone() AS picked_up_at,
        today + slot_day AS slot_date,
        (today + slot_day + make_time(slot_hour + 1, 5 * (n % 12), 0))
            AT TIME ZONE shop_timezone() AS brought_at
    FROM plan, (SELECT (now() AT TIME ZONE shop_timezone())::date AS today) AS shop
), line AS (
    SELECT
        m.id AS order_id, m.n,
        row_number() OVER (PARTITION BY m.n ORDER BY p.id) AS line_no,
        p.id AS product_id, p.name,
        wanted.value::integer AS quantity,
        p.price,
        wanted.value::integer * p.price AS subtotal,
        sum(wanted.value::integer * p.price) OVER (PARTITION BY m.n ORDER BY p.id) AS so_far
    FROM moment m
    CROSS JOIN LATERAL jsonb_each_text(m.lines::jsonb) AS wanted
    JOIN products p
      ON p.id = ('10000000-0000-0000-0000-' || lpad(wanted.key, 12, '0'))::uuid
), price AS (
    SELECT
        sums.n, sums.subtotal, c.id AS promo_code_id, c.code,
        COALESCE(CASE c.discount_type WHEN 'percent' THEN round(sums.subtotal * c.amount / 100, 2)
                                      WHEN 'fixed' THEN LEAST(c.amount, sums.subtotal) END, 0) AS discount,
        COALESCE(e.points, 0) AS points,
        COALESCE(e.tip, 0) AS tip,
        e.notes
    FROM (SELECT n, sum(subtotal) AS subtotal FROM line GROUP BY n) AS sums
    LEFT JOIN extra e ON e.n = sums.n
    LEFT JOIN promo_codes c ON c.code = e.promo
), sum AS (
    SELECT
        price.*,
        CASE WHEN m.fulfilment = 'delivery' AND price.subtotal - price.discount < 50
             THEN 5.99 ELSE 0 END AS fee
    FROM price JOIN moment m ON m.n = price.n
), placed AS (
    INSERT INTO orders (id, order_number, user_id, guest_name, guest_email, guest_phone,
        subtotal, discount_amount, points_redeemed, points_amount, delivery_fee, tip_amount,
        total_amount, refunded_amount, promo_code, promo_code_id, status, payment_status,
        payment_method, payment_reference, fulfilment, delivery_schedule_id, address, pickup_at,
        delivered_at, notes, created_at, updated_at)
    SELECT
        m.id,
        'ORD' || to_char(m.created_at AT TIME ZONE shop_timezone(), 'YYYYMMDD') || lpad(m.n::text, 3, '0'),
        ('00000000-0000-0000-0000-' || lpad(m.buyer::text, 12, '0'))::uuid,
        g.name, g.email, g.phone,
        s.subtotal, s.discount, s.points, s.points / 100.0, s.fee, s.tip,
        paid.total,
        CASE m.status WHEN 'refunded' THEN paid.total ELSE COALESCE(m.refund, 0) END,
        s.code, s.promo_code_id,
        m.status,
        m.payment_status,
        m.payment_method,
        CASE WHEN m.payment_status IN ('paid', 'refunded')
             THEN 'demo-' || to_char(m.n, 'FM0000') END,
        m.fulfilment,
        ('30000000-0000-0000-' || to_char(m.slot_date, 'YYYY-MMDD')
            || to_char(m.slot_hour, 'FM00') || '000000')::uuid,
        CASE m.fulfilment WHEN 'delivery' THEN jsonb_strip_nulls(jsonb_build_object(
            'line1', a.line1, 'line2', a.line2, 'city', a.city, 'postal_code', a.postal_code)) END,
        CASE m.fulfilment WHEN 'pickup' THEN m.picked_up_at END,
        done.at,
        s.notes,
        m.created_at,
        COALESCE(done.at, m.created_at)
    FROM moment m
    JOIN sum s ON s.n = m.n
    LEFT JOIN guest g ON g.n = m.n
    JOIN street a ON a.k = COALESCE(m.buyer, m.n) % 5
    CROSS JOIN LATERAL (SELECT s.subtotal - s.discount - s.points / 100.0 + s.fee + s.tip AS total) AS paid
    CROSS JOIN LATERAL (SELECT CASE WHEN m.status IN ('delivered', 'refunded')
                                    THEN COALESCE(m.brought_at, m.picked_up_at) END AS at) AS done
    ON CONFLICT DO NOTHING
    RETURNING id
)
INSERT INTO order_items (id, order_id, line_no, product_id, product_name, quantity, unit_price,
    subtotal, discount_amount)
SELECT
    ('50000000-0000-0000-' || to_char(l.n, 'FM0000') || '-' || lpad(l.line_no::text, 12, '0'))::uuid,
    l.order_id, l.line_no, l.product_id, l.name, l.quantity, l.price, l.subtotal,
    -- shares of the discount: differences of running totals, rounded down to cents
    trunc(s.discount * l.so_far / s.subtotal, 2)
        - trunc(s.discount * (l.so_far - l.subtotal) / s.subtotal, 2)
FROM line l
JOIN placed ON placed.id = l.order_id
JOIN sum s ON s.n = l.n
ON CONFLICT DO NOTHING;

INSERT INTO promo_redemptions (promo_code_id, order_id, user_id, guest_identity, amount,
    created_at, returned_at)
SELECT
    promo_code_id, id, user_id,
    CASE WHEN user_id IS NULL THEN COALESCE(guest_email, guest_phone) END,
    discount_amount, created_at,
    CASE status WHEN 'cancelled' THEN created_at + interval '20 minutes' END
FROM orders
WHERE id::text LIKE '20000000-0000-0000-0000-%' AND promo_code_id IS NOT NULL
ON CONFLICT (order_id) DO NOTHING;

-- How each came to its status: evenly spaced from the order to its end.
INSERT INTO order_status_history (order_id, status, at, by_role, by_user, note)
SELECT
    o.id, step.status,
    o.created_at + (o.ended_at - o.created_at) * (step.k - 1) / GREATEST(cardinality(o.steps) - 1, 1),
    CASE WHEN step.status = 'refunded' THEN 'admin'
         WHEN step.status <> 'pending' AND o.rider_id IS NOT NULL
              AND step.status IN ('dispatched', 'delivered') THEN 'rider'
         WHEN step.status <> 'pending' THEN 'staff'
         WHEN o.user_id IS NULL THEN 'guest'
         ELSE 'customer' END,
    CASE WHEN step.status = 'refunded' THEN '00000000-0000-0000-0000-000000000003'::uuid
         WHEN step.status <> 'pending' AND o.rider_id IS NOT NULL
              AND step.status IN ('dispatched', 'delivered') THEN o.rider_id
         WHEN step.status <> 'pending' THEN '00000000-0000-0000-0000-000000000004'::uuid
         ELSE o.user_id END,
    CASE step.status WHEN 'cancelled' THEN 'Changed their mind'
                     WHEN 'refunded' THEN 'Arrived damaged' END
FROM (
    SELECT
        orders.id, orders.user_id, orders.created_at, d.rider_id,
        COALESCE(delivered_at, LEAST(orders.created_at + interval '90 minutes', now())) AS ended_at,
        CASE orders.status
            WHEN 'pending' THEN ARRAY['pending']
            WHEN 'cancelled' THEN ARRAY['pending', 'cancelled']
            WHEN 'confirmed' THEN ARRAY['pending', 'confirmed']
            WHEN 'preparing' THEN ARRAY['pending', 'confirmed', 'preparing']
            WHEN 'ready' THEN ARRAY['pending', 'confirmed', 'preparing', 'ready']
            WHEN 'dispatched' THEN ARRAY['pending', 'confirmed', 'preparing', 'dispatched']
            ELSE ARRAY['pending', 'confirmed', 'preparing',
                       CASE fulfilment WHEN 'pickup' THEN 'ready' ELSE 'dispatched' END, 'delivered']
                 || CASE orders.status WHEN 'refunded' THEN ARRAY['refunded'] ELSE '{}' END
        END AS steps
    FROM orders LEFT JOIN delivery_schedules d ON d.id = orders.delivery_schedule_id
    WHERE orders.id::text LIKE '20000000-0000-0000-0000-%'
) AS o
CROSS JOIN LATERAL unnest(o.steps) WITH ORDINALITY AS step(status, k)
WHERE NOT EXISTS (SELECT FROM order_status_history h WHERE h.order_id = o.id)
ORDER BY o.id, step.k;

INSERT INTO payments (provider, event_id, type, order_id, amount, currency, reference, raw,
    occurred_at, created_at)
SELECT
    'generic', 'demo-' || right(id::text, 4),
    CASE payment_status WHEN 'failed' THEN 'payment.failed' ELSE 'payment.succeeded' END,
    id, total_amount, 'USD', payment_reference, '{"demo": true}',
    created_at + interval '3 minutes', created_at + interval '3 minutes'
FROM orders
WHERE id::text LIKE '20000000-0000-0000-0000-%' AND payment_method = 'online'
  AND payment_status <> 'pending'
ON CONFLICT (provider, event_id) DO NOTHING;

INSERT INTO refunds (id, order_id, amount, reason, by_user, created_at)
SELECT
    ('80000000' || right(id::text, 28))::uuid, id, refunded_amount, 'Arrived damaged',
    '00000000-0000-0000-0000-000000000003', delivered_at + interval '1 hour'
FROM orders o
WHERE id::text LIKE '20000000-0000-0000-0000-%' AND refunded_amount > 0
  AND NOT EXISTS (SELECT FROM refunds r WHERE r.order_id = o.id);

INSERT INTO custom_cake_configurations (id, order_id, order_item_id, unit_price, flavor, size,
    frosting, message, extra_details)
SELECT
    ('60000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
    line.order_id, line.id, line.unit_price,
    flavor, size, frosting, message, extra_details::jsonb
FROM (VALUES
    ( 3, 'red_velvet', 'medium_8', 'cream_cheese', 'Happy 40th, Sam!',
     '{"layers": 2, "decorations": [{"id": "piped_borders", "quantity": 1}], "dietary": []}'),
    ( 9, 'lemon', 'small_6', 'buttercream', 'Congratulations Ana & Luis',
     '{"layers": 1, "decorations": [{"id": "fresh_flowers", "quantity": 3}], "dietary": []}'),
    (28, 'chocolate', 'large_10', 'chocolate_ganache', 'Well done, team',
     '{"layers": 3, "decorations": [{"id": "chocolate_drip", "quantity": 1}], "dietary": []}'),
    (34, 'chocolate', 'medium_8', 'buttercream', 'Happy Birthday Mia',
     '{"layers": 2, "decorations": [{"id": "themed_toppers", "quantity": 1}], "dietary": [], "instructions": "Dinosaur topper, please"}'),
    (39, 'chocolate', 'small_6', 'whipped_cream', NULL,
     '{"layers": 1, "decorations": [], "dietary": ["sugar_free"]}'),
    (45, 'chocolate', 'xlarge_12', 'fondant', 'Olu & Temi',
     '{"layers": 4, "decorations": [{"id": "fresh_flowers", "quantity": 8}, {"id": "custom_writing", "quantity": 1}], "dietary": []}'),
    (55, 'chocolate', 'medium_8', 'buttercream', 'Welcome home',
     '{"layers": 1, "decorations": [{"id": "custom_writing", "quantity": 1}], "dietary": ["gluten_free"]}')
) AS cake (n, flavor, size, frosting, message, extra_details)
CROSS JOIN LATERAL (
    SELECT i.order_id, i.id, i.unit_price
    FROM order_items i JOIN products p ON p.id = i.product_id AND p.is_customizable
    WHERE i.order_id = ('20000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid
    ORDER BY i.line_no LIMIT 1) AS line
ON CONFLICT DO NOTHING;


-- ---- reviews ------------------------------------------------------------------------

-- Only of what was delivered to the reviewer before.
INSERT INTO reviews (id, user_id, product_id, rating, comment, created_at)
SELECT
    ('40000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid,
    ('00000000-0000-0000-0000-' || lpad(reviewer::text, 12, '0'))::uuid,
    ('10000000-0000-0000-0000-' || lpad(product::text, 12, '0'))::uuid,
    rating, comment,
    now() - days * interval '1 day'
FROM (VALUES
    ( 1,  8,  1,  8, 5, 'The ganache is unreal. We fought over the last slice.'),
    ( 2,  1,  1,  3, 5, 'Arrived on the minute, and the birthday child was speechless.'),
    ( 3, 15,  1,  1, 4, 'Very good, a little sweeter than I expected.'),
    ( 4, 12,  2, 36, 4, 'Light sponge. Six were gone in ten minutes.'),
    ( 5, 15,  2,  9, 5, NULL),
    ( 6,  2,  2,  1, 3, 'Nice, but the icing had slipped on two of them.'),
    ( 7,  8,  3, 50, 5, 'Exactly like my grandmother''s. The message was piped beautifully.'),
    ( 8,  2,  3,  1, 5, 'Moist, tangy frosting, perfect colour.'),
    ( 9, 14,  4, 30, 5, 'The crust crackles! Our new family cake.'),
    (10, 15,  4, 28, 2, 'Too dry this time, but they gave me part of the money back at once.'),
    (11,  2,  5, 55, 4, 'Plenty of walnuts, not too sweet.'),
    (12, 11,  5,  5, 5, 'Best carrot cake in town.'),
    (13,  9,  6, 48, 4, 'Boozy and wonderful.'),
    (14,  8,  8, 50, 5, 'You taste real strawberries.'),
    (15,  1,  9, 55, 5, 'Elegant. I served them at a wedding shower.'),
    (16, 12, 10,  2, 4, 'Nobody noticed that they were vegan.'),
    (17, 13, 11, 33, 5, 'Still warm when I got it.'),
    (18, 14, 11, 30, 4, NULL),
    (19, 10, 11,  6, 5, 'Six for the office, none reached my desk.'),
    (20,  9, 12, 20, 3, 'Decent, could use more raisins.'),
    (21, 12, 13, 35, 4, 'Generous with the nuts.'),
    (22,  8, 14, 22, 5, 'They really snap.'),
    (23,  2, 15, 20, 4, 'Great for my gluten-free friend.'),
    (24, 16, 16,  9, 5, 'A crust to dream of; keeps for days.'),
    (25,  1, 17, 55, 4, 'As in Lyon, nearly.'),
    (26, 16, 18, 26, 5, 'Hearty. With butter and nothing else.'),
    (27, 10, 18, 18, 4, NULL),
    (28, 17, 19,  1, 5, 'The salt flakes make it.'),
    (29, 10, 21, 45, 5, 'Layers upon layers.'),
    (30, 11, 21, 17, 4, 'Very buttery, as it should be.'),
    (31, 14, 24,  2, 5, 'Huge and sticky.'),
    (32, 13, 26,  9, 4, 'Good crust, nicely tart apples.'),
    (33, 17, 30, 24, 3, 'Tasty, but the filling was runny.')
) AS opinion (n, reviewer, product, days, rating, comment)
ON CONFLICT DO NOTHING;


-- ---- loyalty ------------------------------------------------------------------------

-- The accounts come with their users, the balances with the ledger: a point for each whole
-- 1.00 of the goods that were delivered and paid, less what was given back.
INSERT INTO loyalty_ledger (user_id, points, reason, order_id, refund_id, created_at)
SELECT user_id, points, reason, order_id, refund_id, at
FROM (
    SELECT user_id, -points_redeemed AS points, 'redeemed' AS reason, id AS order_id,
           NULL::uuid AS refund_id, created_at AS at
    FROM orders
    UNION ALL
    SELECT user_id, points_redeemed, 'returned', id, NULL, created_at + interval '20 minutes'
    FROM orders WHERE status = 'cancelled'
    UNION ALL
    SELECT user_id, floor(total_amount - delivery_fee - tip_amount - tax_amount)::integer, 'earned',
           id, NULL, delivered_at
    FROM orders WHERE status IN ('delivered', 'refunded')
    UNION ALL
    SELECT o.user_id,
           floor(GREATEST(o.total_amount - o.delivery_fee - o.tip_amount - o.tax_amount - r.amount, 0))::integer
           - floor(o.total_amount - o.delivery_fee - o.tip_amount - o.tax_amount)::integer,
           'clawed_back', o.id, r.id, r.created_at
    FROM orders o JOIN refunds r ON r.order_id = o.id
) AS entry
WHERE order_id::text LIKE '20000000-0000-0000-0000-%' AND points <> 0
  AND user_id IS NOT NULL
  AND NOT EXISTS (SELECT FROM loyalty_ledger l WHERE l.user_id = entry.user_id)
ORDER BY at, order_id;


-- ---- newsletter, social sign-in -----------------------------------------------------

INSERT INTO newsletter_subscribers (email, subscribed_at, unsubscribed_at) VALUES
    ('john@example.com', now() - interval '200 days', NULL),
    ('emily.carter@example.com', now() - interval '150 days', NULL),
    ('ben.foster@example.com', now() - interval '7 days', NULL),
    ('liam.obrien@example.com', now() - interval '90 days', now() - interval '20 days')
ON CONFLICT DO NOTHING;

INSERT INTO user_identities (user_id, provider, subject, email)
SELECT id, 'google', 'demo-google-0018', email FROM users
WHERE id = '00000000-0000-0000-0000-000000000018'
ON CONFLICT DO NOTHING;
