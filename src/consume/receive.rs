//! `receive()`: takes due jobs of a queue, and waits for some if there are none.

use super::admitted;
use super::leased::{self, Leased};
use super::seek::Search;
use std::rc::Rc;

use crate::logic::consumers::waiting::Group;
use crate::logic::consumers::{Channel, sooner};
use crate::pg::catalog::Extension;
use crate::pg::datum::Micros;
use crate::pg::error::{INVALID_PARAMETER_VALUE, PgError, Result};
use crate::pg::{bgworker, clock, guc, identity, latch, wait_event};
use crate::queue::claim::Jobs;
use crate::queue::home;
use crate::queue::queues::{self, Queue};
use crate::queue::rates::Pace;
use crate::settings;
use crate::shared::{self, consumers};

/// The most jobs of a call.
const MOST: i32 = 10_000;
/// A call that waits longer may answer with nothing: its snapshot holds up vacuum.
const LONGEST_WAIT: Micros = 5_000_000;
/// How long a lease for a time may be.
const LEASE: std::ops::RangeInclusive<Micros> = 1_000_000..=86_400_000_000;
/// How often a session looks that found no place among those that wait.
const POLL: Micros = 100_000;
/// So often a session looks again that was slower than another one.
const LOOKS: usize = 3;

/// What a call asks for.
pub struct Request {
    /// The queue's name.
    pub queue: Vec<u8>,
    /// At most so many jobs.
    pub count: i32,
    /// How long to wait for the first.
    pub wait: Micros,
    /// For how long; `None`: for the session.
    pub lease: Option<Micros>,
    /// Of these kinds; empty: of any.
    pub kinds: Vec<Vec<u8>>,
}

impl Request {
    fn check(&self) -> Result<()> {
        let wrong = |message: &str| Err(PgError::new(INVALID_PARAMETER_VALUE, message));
        if !(1..=MOST).contains(&self.count) {
            return wrong("n must be between 1 and 10000");
        }
        if self.wait < 0 {
            return wrong("wait must not be negative");
        }
        if self.lease.is_some_and(|lease| !LEASE.contains(&lease)) {
            return wrong("lease must be between 1 second and 1 day");
        }
        Ok(())
    }
}

/// Receives jobs, as many as there are, at most as many as are asked for; the queue's settings go with
/// them.
pub fn receive(request: &Request) -> Result<(Rc<Queue>, Vec<Leased>)> {
    request.check()?;
    let extension = admitted(c"my_worker.receive()", request.lease.is_some())?;
    home::refuse_copy()?;
    queues::check_name(&request.queue)?;
    let mut session = Session {
        search: Search::new(&extension, &request.queue, request.kinds.clone())?,
        queue: queues::kept(&extension, &request.queue)?,
        extension,
        request,
    };
    let (leased, next) = session.look()?;
    if !leased.is_empty() || request.wait == 0 {
        return Ok((session.queue, leased));
    }
    let deadline = clock::now().saturating_add(request.wait.min(LONGEST_WAIT));
    let has_place = session.enter(next)?;
    let leased = session.wait_until(deadline, has_place);
    session.leave();
    Ok((session.queue, leased?))
}

struct Session<'a> {
    extension: Extension,
    search: Search,
    queue: Rc<Queue>,
    request: &'a Request,
}

impl Session<'_> {
    /// Takes what there is now; also when the next job is due, as far as it was seen.
    fn look(&mut self) -> Result<(Vec<Leased>, Micros)> {
        let kept = queues::kept_as_told(&self.extension, &self.request.queue)?;
        self.queue = kept.queue;
        if self.queue.paused || self.queue.handler.is_some() || !settings::ENABLED.get() {
            return Ok((Vec::new(), 0));
        }
        let wanted = usize::try_from(self.request.count).unwrap_or(1);
        let mut pace = Pace::new(&self.queue, self.search.caller);
        let (limit, _) = pace.most(wanted.min(self.queue.limit()));
        if limit == 0 {
            return Ok((Vec::new(), pace.next));
        }
        let jobs = match self.request.lease {
            None => Jobs::open_to_read(&self.extension)?,
            Some(_) => Jobs::open(&self.extension)?,
        };
        jobs.prepare_keys(&self.queue)?;
        let (mut leased, mut next) = (Vec::new(), 0);
        for _ in 0..LOOKS {
            let rest = limit.saturating_sub(leased.len());
            let offer = self
                .search
                .look(&self.extension, &jobs, &self.queue, rest)?;
            next = offer.next;
            let found = offer.jobs.len();
            if found == 0 {
                break;
            }
            let lease = self.request.lease;
            let more = leased::take(&self.extension, &jobs, &self.queue, offer.jobs, lease)?;
            next = sooner(next, more.next);
            let got = more.jobs.len();
            leased.extend(more.jobs);
            if more.full && leased.is_empty() {
                return Err(leased::no_room());
            }
            let is_limited = more.next != 0;
            if more.full || got == found || leased.len() == limit || is_limited {
                break;
            }
        }
        jobs.close()?;
        Ok((leased, next))
    }

    fn group(&self) -> Group {
        Group {
            channel: Channel {
                database: bgworker::my_database(),
                queue: self.queue.id,
            },
            scope: self.search.scope,
            kinds: self.search.kinds(),
        }
    }

    /// Takes a place among the sessions that wait; false if there is none.
    fn enter(&self, next: Micros) -> Result<bool> {
        crate::queue::leases::begin_session()?;
        let (pid, procno) = (bgworker::my_pid(), latch::my_procno());
        let (role, group) = (identity::current_role(), self.group());
        let most = self.request.count.unsigned_abs();
        let entered = consumers::write(|consumers| {
            let waiting = &mut consumers.head.waiting;
            let entered = waiting.enter(pid, procno, role, group, most);
            waiting.rest(pid, next);
            entered
        });
        Ok(entered == Some(true))
    }

    fn leave(&self) {
        let pid = bgworker::my_pid();
        let told = consumers::write(|consumers| consumers.head.waiting.leave(pid));
        told.into_iter().flatten().for_each(shared::wake);
    }

    /// Looks until there are jobs, or the time is up. What came between the first look and the place is
    /// seen by the look that this begins with.
    fn wait_until(&mut self, deadline: Micros, has_place: bool) -> Result<Vec<Leased>> {
        let pid = bgworker::my_pid();
        loop {
            consumers::write(|consumers| consumers.head.waiting.begin_look(pid));
            let (leased, next) = self.look()?;
            if !leased.is_empty() || clock::now() >= deadline {
                return Ok(leased);
            }
            if !self.sleep(next, deadline, has_place)? {
                return Ok(Vec::new());
            }
        }
    }

    /// Sleeps until there may be a job; false if the time is up.
    fn sleep(&self, next: Micros, deadline: Micros, has_place: bool) -> Result<bool> {
        let pid = bgworker::my_pid();
        let mut due = next;
        loop {
            let rest = consumers::write(|consumers| consumers.head.waiting.rest(pid, due));
            due = 0;
            let now = clock::now();
            let Some(rest) = rest else { return Ok(false) };
            if rest.is_told || (rest.until != 0 && rest.until <= now) {
                return Ok(true);
            }
            if now >= deadline {
                return Ok(false);
            }
            let mut until = deadline;
            if rest.until != 0 {
                until = until.min(rest.until);
            }
            if !has_place {
                until = until.min(now.saturating_add(POLL));
            }
            let ms = until.saturating_sub(now).max(0).saturating_add(999) / 1000;
            latch::wait_for_client(ms, wait_event::consumer_wait())?;
            if guc::reload_if_asked()? || !has_place {
                return Ok(true);
            }
        }
    }
}
