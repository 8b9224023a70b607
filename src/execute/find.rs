//! Finding a batch's handlers: each is looked up once a batch, by the name in the job.

use super::Batch;
use crate::pg::catalog;
use crate::pg::datum::Oid;
use crate::pg::error::{PgError, Result};
use crate::pg::fmgr::Function;
use crate::pg::xact;
use crate::queue::claim::Job;
use crate::queue::handler::{self, Handler, Shape};

/// A handler that was looked up for this batch, by the name in the job.
pub(super) struct Known {
    pub(super) name: Vec<u8>,
    pub(super) handler: Handler,
    pub(super) function: Function,
    /// As of that many changes of functions it was there: see [`catalog::name_changes`].
    seen: u64,
}

impl Batch<'_> {
    pub(super) fn shape(&self, index: usize) -> Option<Shape> {
        self.functions.get(index).map(|known| known.handler.shape)
    }

    /// Whether a function that was looked up earlier in this batch has not been dropped since, as far as
    /// this process has heard.
    pub(super) fn is_there(&mut self, index: usize) -> Result<bool> {
        let Some(known) = self.functions.get_mut(index) else {
            return Ok(false);
        };
        let now = catalog::name_changes();
        if known.seen == now {
            return Ok(true);
        }
        known.seen = now;
        catalog::function_exists(known.handler.function)
    }

    /// The function of the job's handler, looked up once a batch.
    pub(super) fn find_function(&mut self, job: &Job) -> Result<usize> {
        let Some(name) = job.handler.as_ref().or(self.queue.handler.as_ref()) else {
            return Err(PgError::internal("a job without a handler was taken"));
        };
        let known = self.functions.iter().position(|known| known.name == *name);
        if let Some(index) = known {
            if self.is_there(index)? {
                return Ok(index);
            }
            self.functions.clear();
        }
        let role = self.role;
        let seen = catalog::name_changes();
        let look_up = |handler: Handler| {
            let function = handler::callable(&handler)?;
            Ok((handler, function))
        };
        let recalled = match handler::recall(name) {
            Some(handler) if handler::may_execute(&handler, role)? => Some(handler),
            _ => None,
        };
        let (handler, function) = match recalled {
            Some(handler) => look_up(handler)?,
            None => xact::subtransaction(|| {
                let handler = handler::resolve_stored(name)?;
                handler::check_rights(&handler, role)?;
                let found = look_up(handler)?;
                handler::remember(name, &found.0);
                Ok(found)
            })?,
        };
        self.functions.push(Known {
            name: name.clone(),
            handler,
            function,
            seen,
        });
        Ok(self.functions.len() - 1)
    }

    /// Refuses a function that came into other hands since the job's handler was named.
    pub(super) fn check_author(&self, job: &Job, index: usize) -> Result<usize> {
        let recorded = self.recorded_owner(job);
        if let Some(known) = self.functions.get(index) {
            handler::check_author(&known.handler, recorded, self.role)?;
        }
        Ok(index)
    }

    /// Who owned the job's handler when the job, or its queue, named it.
    pub(super) fn recorded_owner(&self, job: &Job) -> Option<Oid> {
        match job.handler {
            Some(_) => job.handler_owner,
            None => self.queue.handler_owner,
        }
    }
}
