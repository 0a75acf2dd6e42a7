-- 005_order_total_locks.sql -- two statements that add lines to one order at the same time.
--
-- The order is locked before anything is compared.  Compared first, a total that happened to
-- be right for the lines that one statement saw was left alone, and the lines that the other
-- was about to commit were never added to it.  An order whose total is right is still not
-- written.

CREATE OR REPLACE FUNCTION calculate_order_total() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    touched uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM new_lines);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM old_lines);
    ELSE
        touched := ARRAY(SELECT order_id FROM old_lines UNION SELECT order_id FROM new_lines);
    END IF;

    PERFORM FROM public.orders o WHERE o.id = ANY (touched) ORDER BY o.id FOR NO KEY UPDATE;

    UPDATE public.orders o
       SET subtotal = lines.subtotal,
           total_amount = public.order_total(lines.subtotal, o.discount_amount,
               o.points_amount, o.delivery_fee, o.tip_amount, o.tax_amount)
      FROM (SELECT w.id, COALESCE(sum(i.subtotal), 0) AS subtotal
              FROM unnest(touched) AS w(id)
              LEFT JOIN public.order_items i ON i.order_id = w.id
             GROUP BY w.id) AS lines
     WHERE o.id = lines.id
       AND (o.subtotal, o.total_amount) <> (lines.subtotal,
           public.order_total(lines.subtotal, o.discount_amount, o.points_amount,
                              o.delivery_fee, o.tip_amount, o.tax_amount));
    RETURN NULL;
END
$$;

-- down

CREATE OR REPLACE FUNCTION calculate_order_total() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
DECLARE
    touched uuid[];
    wrong uuid[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM new_lines);
    ELSIF TG_OP = 'DELETE' THEN
        touched := ARRAY(SELECT DISTINCT order_id FROM old_lines);
    ELSE
        touched := ARRAY(SELECT order_id FROM old_lines UNION SELECT order_id FROM new_lines);
    END IF;

    wrong := ARRAY(
        SELECT o.id
          FROM public.orders o
          CROSS JOIN LATERAL (SELECT COALESCE(sum(i.subtotal), 0) AS subtotal
                                FROM public.order_items i WHERE i.order_id = o.id) AS lines
         WHERE o.id = ANY (touched)
           AND (o.subtotal, o.total_amount) <> (lines.subtotal,
               public.order_total(lines.subtotal, o.discount_amount, o.points_amount,
                                  o.delivery_fee, o.tip_amount, o.tax_amount)));
    IF wrong = '{}' THEN
        RETURN NULL;
    END IF;

    PERFORM FROM public.orders o WHERE o.id = ANY (wrong) ORDER BY o.id FOR NO KEY UPDATE;

    UPDATE public.orders o
       SET subtotal = lines.subtotal,
           total_amount = public.order_total(lines.subtotal, o.discount_amount,
               o.points_amount, o.delivery_fee, o.tip_amount, o.tax_amount)
      FROM (SELECT w.id, COALESCE(sum(i.subtotal), 0) AS subtotal
              FROM unnest(wrong) AS w(id)
              LEFT JOIN public.order_items i ON i.order_id = w.id
             GROUP BY w.id) AS lines
     WHERE o.id = lines.id;
    RETURN NULL;
END
$$;
