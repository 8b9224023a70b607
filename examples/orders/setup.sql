-- Once, as a superuser: roles, rights and queues. All else belongs to the role `shop`, which is no superuser.
\set ON_ERROR_STOP on
CREATE ROLE shop LOGIN;
CREATE ROLE shop_mailer LOGIN;
CREATE SCHEMA shop AUTHORIZATION shop;
SELECT my_worker.grant_usage('shop');
SELECT my_worker.grant_usage('shop_mailer');

-- What could not be done for good waits here, until somebody has mended the cause.
SELECT my_worker.create_queue('shop_dead');

-- Invoices are made one after the other, since they are numbered. Wrong or missing data stays so: it is not tried again.
SELECT my_worker.create_queue('shop_invoices', concurrency := 1, backoff := '1 s',
                              fail_on := '{22,23,P0002}', dead_letter := 'shop_dead');

-- Mail servers come back: tried again for some hours. A mail that takes longer than a minute hangs.
SELECT my_worker.create_queue('shop_mail', max_attempts := 12, backoff := '2 s', backoff_max := '1 h',
                              timeout := '1 min', dead_letter := 'shop_dead');
SELECT my_worker.grant_consume('shop_mail', 'shop_mailer');
