-- A shop. Every order sends a job in its own transaction: no order without its mail, no mail without its order.
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL, item text NOT NULL);

SELECT my_worker.create_queue('mail', backoff := '1 s');

CREATE FUNCTION order_placed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM my_worker.send('mail', to_jsonb(NEW), kind := 'order placed');
    RETURN NULL;
END
$$;
CREATE TRIGGER order_placed AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION order_placed();
