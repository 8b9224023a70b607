//! Taking what was found: a lease of each job is published, and then the row is looked at again.

use crate::logic::columns::job as column;
use crate::logic::consumers::lease::{JobKey, Lease, LeaseId, Loss, Published, Stage};
use crate::logic::consumers::sooner;
use crate::logic::keys::KeyId;
use crate::logic::rates::Rate;
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Micros};
use crate::pg::error::{CONFIGURATION_LIMIT_EXCEEDED, PgError, Result};
use crate::pg::fault::fault;
use crate::pg::{bgworker, clock, identity, latch, xact};
use crate::queue::claim::{Job, Jobs};
use crate::queue::permit::{self, channel};
use crate::queue::queues::{self, Queue};
use crate::queue::rates::{self, Lots, Start};
use crate::queue::{keys, lease_row, leases, wake};
use crate::shared::{SHARED, consumers};

/// A job that this session has a lease of.
pub struct Leased {
    /// The job.
    pub job: Job,
    /// The lease's number.
    pub token: i64,
}

/// How many leases are published by one hold of the lock.
const AT_ONCE: usize = 256;

/// What a try to take jobs came to.
pub struct Taken {
    /// What it got.
    pub jobs: Vec<Leased>,
    /// There was no room for a lease of one.
    pub full: bool,
    /// When the queue's rate allows the next; 0: it held none back.
    pub next: Micros,
}

/// Takes what it can get of these jobs: none that somebody else has a lease of, has locked, or has changed, and
/// no more than the queue's rate allows.
/// `lease`: for so long; `None`: for the session.
pub fn take(
    extension: &Extension,
    jobs: &Jobs,
    queue: &Queue,
    mut found: Vec<Job>,
    lease: Option<Micros>,
) -> Result<Taken> {
    leases::begin_session()?;
    let now = clock::now();
    found.retain(|job| !job.is_expired(now));
    let (published, full) = publish(extension, queue, &found, lease.is_some(), now)?;
    for (job, id) in found.iter().zip(&published) {
        if let Some(id) = id {
            leases::received(*id, lease.is_some(), &job.candidate())?;
        }
    }
    fault!(LeasePublished);
    let mut kept = Vec::with_capacity(found.len());
    let mut lost = Vec::new();
    xact::with_latest_snapshot(|| {
        let gives = still_gives(extension, queue)?;
        for (job, id) in found.into_iter().zip(published) {
            let Some(id) = id else { continue };
            let is_free = gives
                && jobs.is_free(&job)?
                && keys::is_turn_of(jobs, queue, &job)?
                && (lease.is_none() || jobs.lock(&job)?);
            match is_free {
                true => kept.push((job, id)),
                false => lost.push(id),
            }
        }
        Ok(())
    })?;
    fault!(LeaseSeen);
    if queue.concurrency.is_some() {
        keep_limit(extension, queue, &mut kept, &mut lost)?;
    }
    let began = begin(queue, &mut kept, &mut lost)?;
    leases::withdraw(&lost);
    let leased: Vec<Leased> = kept
        .into_iter()
        .map(|(job, id)| Leased {
            job,
            token: id.token(),
        })
        .collect();
    match lease {
        Some(length) => write_leases(extension, queue, &leased, began.at, length)?,
        None => tell_of_time_outs(queue, &leased)?,
    }
    fault!(LeaseGiven);
    let next = began.next;
    Ok(Taken {
        jobs: leased,
        full,
        next,
    })
}

/// When jobs that were received began, and when the queue's rate allows the next; 0: it held none back.
struct Began {
    at: Micros,
    next: Micros,
}

/// The jobs begin, now that they have permits and keys and nobody else has them: at a time that is read here, so that none
/// begins before the end of the job whose place it takes. Where a limit makes that a matter, their leases say it, too.
fn begin(queue: &Queue, kept: &mut Vec<(Job, LeaseId)>, lost: &mut Vec<LeaseId>) -> Result<Began> {
    let began = match &queue.rate {
        Some(rate) => keep_pace(queue, rate, kept, lost)?,
        None => {
            let at = clock::now();
            let expired = kept.extract_if(.., |(job, _)| job.is_expired(at));
            lost.extend(expired.map(|(_, id)| id));
            Began { at, next: 0 }
        }
    };
    if queue.rate.is_some() || queue.concurrency.is_some() || queue.by_key.is_some() {
        consumers::write(|consumers| {
            for (_, id) in kept.iter() {
                if let Some(lease) = consumers.get(*id) {
                    lease.since = began.at;
                }
            }
        });
    }
    Ok(began)
}

/// Gives back what the queue's rate does not allow yet. All others begin at the same time, which their leases
/// say; one that may begin in a moment is waited for if it is the first.
fn keep_pace(
    queue: &Queue,
    rate: &Rate,
    kept: &mut Vec<(Job, LeaseId)>,
    lost: &mut Vec<LeaseId>,
) -> Result<Began> {
    let mut began = Began { at: 0, next: 0 };
    let mut lots = Lots::default();
    let mut allowed = Vec::with_capacity(kept.len());
    for (job, id) in kept.drain(..) {
        let (owner, group_key) = (job.owner(), job.value(column::GROUP_KEY));
        let start = match began.at {
            0 => rates::start(queue, rate, owner, group_key)?,
            at => lots.start(queue, rate, owner, group_key, at)?,
        };
        match start {
            Start::At(at) => {
                began.at = at;
                match job.is_expired(at) {
                    true => lost.push(id),
                    false => allowed.push((job, id)),
                }
            }
            Start::Not(next) => {
                began.next = sooner(began.next, next);
                lost.push(id);
            }
        }
    }
    *kept = allowed;
    Ok(began)
}

/// Whether the queue still gives its jobs to consumers. A worker that knows of a handler looks for leases before
/// it takes a job: so either it sees the one that was published, or this sees the handler.
fn still_gives(extension: &Extension, queue: &Queue) -> Result<bool> {
    let name = datum::text_datum(&queue.name)?;
    let now = queues::find(extension, name)?;
    Ok(now.is_some_and(|now| now.id == queue.id && now.handler.is_none() && !now.paused))
}

/// A lease of each, not yet published.
fn prepare(extension: &Extension, queue: &Queue, found: &[Job], now: Micros) -> Result<Vec<Lease>> {
    let tokens = consumers::draw_tokens(found.len())?;
    let (role, pid) = (identity::current_role(), bgworker::my_pid());
    let lease = |(job, token): (&Job, &i64)| Lease {
        token: *token,
        key: JobKey {
            table: extension.jobs,
            job: job.id,
        },
        channel: channel(queue),
        owner: job.owner(),
        role,
        pid,
        stage: Stage::Received,
        is_limited: queue.concurrency.is_some(),
        attempts: job.attempts,
        run_at: job.run_at(),
        due: job.due,
        since: now,
        until: timeout_of(job, queue).map_or(0, |timeout| now.saturating_add(timeout)),
        loss: Loss::None,
        group: keys::number_of(queue, job).unwrap_or(KeyId::NONE),
        ..Lease::NONE
    };
    Ok(found.iter().zip(&tokens).map(lease).collect())
}

/// One lease for each, or `None` where somebody else has one, or the queue's limit is reached; and whether
/// there was no room for more.
fn publish(
    extension: &Extension,
    queue: &Queue,
    found: &[Job],
    is_timed: bool,
    now: Micros,
) -> Result<(Vec<Option<LeaseId>>, bool)> {
    let new = prepare(extension, queue, found, now)?;
    let procno = latch::my_procno();
    let mut ids = Vec::with_capacity(new.len());
    let mut full = false;
    for part in new.chunks(AT_ONCE) {
        consumers::write(|consumers| {
            let mut room = match queue.limit() {
                usize::MAX => usize::MAX,
                limit => {
                    let out = consumers.count(channel(queue));
                    room_beside(queue, limit.saturating_sub(out))
                }
            };
            for lease in part {
                let published = match room {
                    0 => Published::Taken,
                    _ if !keys::has_room(consumers, queue, lease) => Published::Taken,
                    _ => consumers.publish(lease),
                };
                let id = published.id();
                room = room.saturating_sub(usize::from(id.is_some()));
                full |= published == Published::Full;
                if !is_timed {
                    consumers::note(id, lease, procno);
                }
                ids.push(id);
            }
        });
        if full {
            break;
        }
    }
    Ok((ids, full))
}

/// What jobs that run in the pool leave of so many permits. If they leave none, their end is told.
fn room_beside(queue: &Queue, permits: usize) -> usize {
    let database = bgworker::my_database();
    let room = SHARED.write(|state| {
        let running = state.running_in_queue(database, queue.id);
        // Of what consumers hold they tell each other.
        if running > 0 && running >= permits {
            state.refuse_consumer(database);
        }
        permits.saturating_sub(running)
    });
    room.unwrap_or(permits)
}

fn timeout_of(job: &Job, queue: &Queue) -> Option<Micros> {
    job.timeout.or(queue.timeout)
}

/// The error of a call that finds no room for a lease.
pub fn no_room() -> PgError {
    // What was lost in databases that nobody serves is charged by nobody.
    let served: Vec<u32> = SHARED
        .read(|state| state.databases.map(|entry| entry.oid).to_vec())
        .unwrap_or_default();
    consumers::write(|consumers| consumers.drop_lost(|database| served.contains(&database)));
    PgError::new(
        CONFIGURATION_LIMIT_EXCEEDED,
        "too many jobs are held by consumers' sessions",
    )
    .hint("Acknowledge some, or raise \"my_worker.max_leases\" and restart the server.")
}

/// Gives back what is more than the queue's limit, counting the leases that stand in rows.
fn keep_limit(
    extension: &Extension,
    queue: &Queue,
    kept: &mut Vec<(Job, LeaseId)>,
    lost: &mut Vec<LeaseId>,
) -> Result<()> {
    let at_work = permit::at_work(extension, queue)?;
    let mut surplus = at_work.saturating_sub(queue.limit());
    while surplus > 0
        && let Some((_, id)) = kept.pop()
    {
        lost.push(id);
        surplus -= 1;
    }
    Ok(())
}

/// The keeper wakes when the first of these attempts has taken too long.
fn tell_of_time_outs(queue: &Queue, leased: &[Leased]) -> Result<()> {
    let timeouts = leased.iter().filter_map(|l| timeout_of(&l.job, queue));
    match timeouts.min() {
        Some(timeout) => wake::look_at(clock::now().saturating_add(timeout)),
        None => Ok(()),
    }
}

/// Writes the leases into the rows, which this transaction has locked.
fn write_leases(
    extension: &Extension,
    queue: &Queue,
    leased: &[Leased],
    began: Micros,
    length: Micros,
) -> Result<()> {
    if leased.is_empty() {
        return Ok(());
    }
    let jobs: Vec<(i64, i64)> = leased.iter().map(|l| (l.job.id, l.token)).collect();
    let until = lease_row::write(extension, queue, &jobs, began, length)?;
    until.map_or(Ok(()), wake::due_at_commit)
}
