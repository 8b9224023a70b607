// The same in JavaScript. Both take from one queue: run either, or both.
import { spawn } from 'node:child_process';
import { Fail, Worker } from 'my-worker';

const SENDMAIL = process.env.SENDMAIL ?? '/usr/sbin/sendmail';
const NEVER = { 65: 'bad data', 67: 'no such user', 68: 'no such host' };

const worker = new Worker({ queues: 'shop_mail', concurrency: 4, name: 'mailer.mjs' });

async function send(job, subject, text) {
  const child = spawn(SENDMAIL, ['-t', '-i'], { stdio: ['pipe', 'ignore', 'inherit'], signal: job.signal });
  const ended = new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  child.stdin.on('error', () => {}); // it did not read on: its exit status tells
  child.stdin.end([
    `Message-ID: <${job.id}@shop.example>`, 'From: shop@shop.example', `To: ${job.payload.to}`,
    `Subject: ${subject}`, 'X-Mailer: Node', '', text, '',
  ].join('\n'));
  const status = await ended;
  if (NEVER[status]) throw new Fail(NEVER[status]);
  if (status !== 0) throw new Error(`sendmail ended with ${status}`);
}

worker.handle('order placed', (job) =>
  send(job, `Your order ${job.payload.order}`, 'Thank you! The invoice follows.'));
worker.handle('invoice', (job) =>
  send(job, `Invoice ${job.payload.number}`, `Please pay ${job.payload.total} for order ${job.payload.order}.`));

await worker.run();
