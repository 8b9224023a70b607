-- Consumers: jobs that something outside of the server does. Here psql is the consumer.

SELECT my_worker.create_queue('mail', backoff => '50 ms');

-- A job without a handler, in a queue without one, waits for a consumer.
SELECT my_worker.send('mail', '{"to": "ann"}', kind => 'welcome', headers => '{"trace": "4bf9"}') AS ann,
       my_worker.send('mail', '{"to": "bob"}', kind => 'welcome') AS bob \gset

-- receive() takes it, with a lease: the right to one attempt, which ends with the session at the latest.
SELECT id, lease, kind, payload, headers, attempt FROM my_worker.receive('mail') \gset ann_
SELECT :'ann_kind' AS kind, :'ann_payload' AS payload, :'ann_headers' AS headers, :ann_attempt AS attempt;
SELECT status, consumer = current_setting('application_name') AS mine FROM my_worker.jobs WHERE id = :ann;

-- The effect and the end of the job commit together.
CREATE TABLE sent (job bigint, recipient text);
BEGIN;
INSERT INTO sent VALUES (:ann_id, :'ann_payload'::jsonb->>'to');
SELECT my_worker.ack(:ann_id, :ann_lease, '{"smtp": 250}');
COMMIT;
SELECT status, result FROM my_worker.jobs WHERE id = :ann;

-- A lease that is over has no effect any more.
SELECT my_worker.ack(:ann_id, :ann_lease) AS again;

-- A failed attempt is tried again after the queue's backoff; receive() waits until then.
SELECT id, lease FROM my_worker.receive('mail') \gset bob_
SELECT my_worker.nack(:bob_id, :bob_lease, 'mailbox is full');
SELECT id, lease, attempt FROM my_worker.receive('mail', wait => '5 s', lease => '1 min') \gset bob_
SELECT :bob_attempt AS attempt, status, lease_until > now() AS held, last_error FROM my_worker.jobs WHERE id = :bob;
SELECT my_worker.release(:bob_id, :bob_lease);
SELECT status, attempts FROM my_worker.jobs WHERE id = :bob;

SELECT my_worker.drop_queue('mail', force => true);
DROP TABLE sent;
