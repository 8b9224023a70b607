-- The shop: tables, the order, the invoice. As the role `shop`.
\set ON_ERROR_STOP on
SET ROLE shop;

CREATE TABLE shop.products (
    sku text PRIMARY KEY,
    price numeric(10,2) NOT NULL,
    stock integer NOT NULL CHECK (stock >= 0)
);
CREATE TABLE shop.vat (country text PRIMARY KEY, rate numeric(4,3) NOT NULL);
CREATE TABLE shop.orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    request uuid NOT NULL UNIQUE,           -- by which a request that is sent twice is known
    email text NOT NULL,
    country text NOT NULL,
    net numeric(10,2) NOT NULL,
    placed_at timestamptz NOT NULL DEFAULT now(),
    invoice_job bigint
);
CREATE TABLE shop.invoices (
    number integer PRIMARY KEY,
    order_id bigint NOT NULL UNIQUE REFERENCES shop.orders,
    total numeric(10,2) NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now()
);
-- A sequence leaves gaps where a transaction is rolled back; a row does not.
CREATE TABLE shop.last_invoice (number integer NOT NULL);
INSERT INTO shop.last_invoice VALUES (0);

-- One transaction: the order, less stock, the job that makes the invoice, the mail that says thank you.
-- Called again with the same request it answers with what it did the first time.
CREATE FUNCTION shop.place_order(request uuid, email text, country text, sku text, OUT order_id bigint, OUT invoice_job bigint)
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    price numeric;
BEGIN
    SELECT o.id, o.invoice_job INTO order_id, invoice_job FROM shop.orders AS o WHERE o.request = place_order.request;
    IF FOUND THEN
        RETURN;
    END IF;
    UPDATE shop.products AS p SET stock = p.stock - 1 WHERE p.sku = place_order.sku AND p.stock > 0 RETURNING p.price INTO price;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is sold out', sku;
    END IF;
    INSERT INTO shop.orders (request, email, country, net) VALUES (request, email, country, price) RETURNING id INTO order_id;
    invoice_job := my_worker.enqueue('shop.make_invoice', jsonb_build_object('order', order_id), 'shop_invoices',
                                     unique_key := 'order ' || order_id);
    UPDATE shop.orders SET invoice_job = place_order.invoice_job WHERE id = order_id;
    PERFORM my_worker.send('shop_mail', jsonb_build_object('to', email, 'order', order_id), kind := 'order placed');
END
$$;

-- Invoice, number, job's end and the mail that brings the invoice are one transaction, too.
CREATE FUNCTION shop.make_invoice(job jsonb) RETURNS jsonb
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    o shop.orders;
    rate numeric;
    invoice shop.invoices;
BEGIN
    SELECT * INTO STRICT o FROM shop.orders WHERE id = (job->>'order')::bigint;
    SELECT v.rate INTO rate FROM shop.vat AS v WHERE v.country = o.country;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no VAT rate for country %', o.country USING ERRCODE = 'no_data_found';
    END IF;
    UPDATE shop.last_invoice SET number = number + 1 RETURNING number INTO invoice.number;
    INSERT INTO shop.invoices VALUES (invoice.number, o.id, o.net * (1 + rate)) RETURNING * INTO invoice;
    PERFORM my_worker.send('shop_mail', jsonb_build_object('to', o.email, 'order', o.id, 'number', invoice.number, 'total', invoice.total),
                           kind := 'invoice', unique_key := 'invoice ' || invoice.number);
    RETURN jsonb_build_object('number', invoice.number, 'total', invoice.total);
END
$$;

-- "Send it again": pressed five times, it sends one mail, as long as that one has not gone out.
CREATE FUNCTION shop.send_invoice_again(number integer) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT my_worker.send('shop_mail', jsonb_build_object('to', o.email, 'order', o.id, 'number', i.number, 'total', i.total),
                          kind := 'invoice', unique_key := 'invoice ' || i.number)
      FROM shop.invoices AS i JOIN shop.orders AS o ON o.id = i.order_id
     WHERE i.number = send_invoice_again.number
$$;

INSERT INTO shop.products VALUES ('book', 20, 100000), ('last one', 99, 1);
INSERT INTO shop.vat VALUES ('DE', 0.19), ('FR', 0.2);
