-- 012_unassigned_slots.sql -- a slot is completed by the last of its orders also when nobody
-- assigned it to a rider, because staff brought them.

-- Locked before it looks: of two last deliveries, the second sees the first.  Orders that were
-- only cancelled complete nothing: the slot may still be booked.
CREATE OR REPLACE FUNCTION complete_slot(slot uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.delivery_schedules d
      WHERE d.id = slot AND d.status <> 'completed' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    UPDATE public.delivery_schedules d SET status = 'completed'
     WHERE d.id = slot
       AND EXISTS (SELECT FROM public.orders o
                    WHERE o.delivery_schedule_id = slot AND o.status = 'delivered')
       AND NOT EXISTS (SELECT FROM public.orders o
                        WHERE o.delivery_schedule_id = slot
                          AND o.status NOT IN ('delivered', 'cancelled', 'refunded'));
END
$$;

-- down

CREATE OR REPLACE FUNCTION complete_slot(slot uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
    PERFORM FROM public.delivery_schedules d
      WHERE d.id = slot AND d.status = 'assigned' FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    UPDATE public.delivery_schedules d SET status = 'completed'
     WHERE d.id = slot
       AND EXISTS (SELECT FROM public.orders o
                    WHERE o.delivery_schedule_id = slot AND o.status = 'delivered')
       AND NOT EXISTS (SELECT FROM public.orders o
                        WHERE o.delivery_schedule_id = slot
                          AND o.status NOT IN ('delivered', 'cancelled', 'refunded'));
END
$$;
