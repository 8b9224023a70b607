import type { Client, ClientBase, ClientConfig, Pool } from 'pg';

/** A bigint of the server, as a string: no digit is lost. `BigInt(id)` to calculate with it. */
export type Id = string;
/** Milliseconds. */
export type Milliseconds = number;
/** What takes queries: the caller's client, in the caller's transaction. A pool commits by itself. */
export type Queryable = ClientBase | Client | Pool;

export interface EnqueueOptions {
  priority?: number;
  runAt?: Date | string;
  maxAttempts?: number;
  /** Milliseconds, or an interval as PostgreSQL writes it. */
  timeout?: Milliseconds | string;
  uniqueKey?: string;
  uniqueMode?: 'keep' | 'replace' | 'rerun' | 'error';
  groupKey?: string;
  after?: Id[];
  afterFailed?: 'cancel' | 'run';
  expiresAt?: Date | string;
}

export interface SendOptions extends EnqueueOptions {
  kind?: string;
  headers?: unknown;
}

/** Sends a job to a queue's consumers; resolves to its id. */
export function send(client: Queryable, queue: string, payload?: unknown, options?: SendOptions): Promise<Id>;
/** Sends a job for each payload; resolves to their ids. */
export function sendMany(client: Queryable, queue: string, payloads: unknown[], options?: SendOptions): Promise<Id[]>;
/** Enqueues a call of a function in the server; resolves to the job's id. */
export function enqueue(
  client: Queryable, handler: string, payload?: unknown, options?: EnqueueOptions & { queue?: string },
): Promise<Id>;

/** One attempt of one job. */
export interface Job<Payload = any> {
  readonly id: Id;
  readonly lease: Id;
  readonly queue: string;
  readonly kind: string | null;
  readonly payload: Payload;
  readonly headers: any;
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly priority: number;
  readonly runAt: Date;
  readonly createdAt: Date;
  readonly owner: string;
  readonly groupKey: string | null;
  /** Aborted when the handler should stop: the lease is lost, or the worker's grace has passed. */
  readonly signal: AbortSignal;
  /** Shows in `my_worker.jobs` how far the job is. False: the lease is lost. */
  progress(percent: number, message?: string): Promise<boolean>;
}

/** What it resolves to is the job's result, kept as jsonb. */
export type Handler<Payload = any> = (job: Job<Payload>) => unknown | Promise<unknown>;
/** Works in the transaction of the client, in which the job is then acknowledged. */
export type TransactionalHandler<Payload = any> =
  (job: Job<Payload>, client: ClientBase) => unknown | Promise<unknown>;

export interface Logger {
  info(...message: unknown[]): void;
  warn(...message: unknown[]): void;
  error(...message: unknown[]): void;
}

export interface WorkerOptions {
  /** A connection string or what `new pg.Client()` takes; default: PGHOST and the like. */
  connection?: string | ClientConfig;
  /** Default: 'default'. */
  queues?: string | string[];
  /** So many jobs run at once, of all queues together. Default: 10. */
  concurrency?: number;
  /** null: the session holds the jobs; else a time, extended while a job runs. Default: null. */
  lease?: Milliseconds | null;
  /** So many more jobs are held ready. Default: 0. */
  prefetch?: number;
  /** Time that jobs have to end after a stop. Default: 30 000. */
  grace?: Milliseconds;
  /** Time of one waiting call of `receive`. Default: 5 000. */
  wait?: Milliseconds;
  /** The application_name, which `my_worker.jobs` shows as `consumer`. */
  name?: string;
  /** Whether SIGTERM and SIGINT stop the worker. Default: true. */
  signals?: boolean;
  /** Default: console. */
  log?: Logger;
}

export class Worker {
  constructor(options?: WorkerOptions);
  /** Registers a handler: for a kind, for several, or without a kind for all that have no other. */
  handle<Payload = any>(handler: Handler<Payload>): this;
  handle<Payload = any>(options: { transaction: true }, handler: TransactionalHandler<Payload>): this;
  handle<Payload = any>(kind: string | string[], handler: Handler<Payload>): this;
  handle<Payload = any>(
    kind: string | string[], options: { transaction: true }, handler: TransactionalHandler<Payload>,
  ): this;
  /** Serves until stop(), SIGTERM or SIGINT, once. Rejects if the first `receive` fails. */
  run(): Promise<void>;
  /** Takes no more jobs; run() resolves when those at hand have ended. Called again: at once. */
  stop(): void;
}

/** The attempt failed: try again after so many ms, not after the queue's backoff. */
export class RetryIn extends Error {
  constructor(delay: Milliseconds, reason?: string);
  readonly delay: Milliseconds;
}
/** The job failed for good: no more attempts. */
export class Fail extends Error {}
/** Give the job back, to be taken again after the delay: no attempt is charged. */
export class Release extends Error {
  constructor(delay?: Milliseconds);
  readonly delay: Milliseconds | null;
}
/** The reason of `job.signal` where the job is no longer this worker's. */
export class LeaseLost extends Error {}
