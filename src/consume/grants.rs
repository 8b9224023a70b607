//! Which roles may receive the jobs of all owners from a queue: `grant_consume()`.

use crate::logic::columns::{CONSUMERS, consumer as column};
use crate::pg::catalog::Extension;
use crate::pg::datum::{self, Oid};
use crate::pg::error::Result;
use crate::pg::fmgr::{Call, Execution};
use crate::pg::identity;
use crate::pg::local::Local;
use crate::pg::table::{Compare, Key, Lock, Table};
use crate::pg::{clock, lookup, xact};
use crate::queue::extension;

/// The first column of its key.
const KEY_QUEUE: i16 = 1;

/// Whether a role has the right, by itself or by a role whose rights it has. A row counts while its role has
/// what `grant_consume()` grants besides, which goes with DROP OWNED BY.
pub fn holds(extension: &Extension, caller: Oid, queue: &[u8]) -> Result<bool> {
    let name = datum::text_datum(queue)?;
    let granted = xact::with_latest_snapshot(|| {
        let table = Table::open(
            extension.consumers,
            extension.consumers_key,
            Lock::Read,
            &CONSUMERS,
        )?;
        let row = table.row()?;
        let scan = table.scan(&[Key::text(KEY_QUEUE, Compare::Equal, name)])?;
        let mut granted = Vec::new();
        while scan.next(&row)? {
            granted.extend(row.get(column::ROLE).map(datum::as_oid));
        }
        scan.end()?;
        row.end()?;
        table.close()?;
        Ok(granted)
    })?;
    for role in granted {
        if identity::has_rights_of(caller, role)?
            && lookup::may_reference(extension.consumers, role)?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What one execution of a statement was answered last: it asks for each row.
struct Answered {
    execution: Execution,
    at: crate::pg::datum::Micros,
    role: Oid,
    queue: Vec<u8>,
    answer: bool,
}

static ANSWERED: Local<Option<Answered>> = Local::new(None);

/// For row-level security: whether the role whose rights are in force has the right. One execution of a
/// statement gets one answer for a queue.
pub fn of_caller(call: &Call, queue: &[u8]) -> Result<bool> {
    let (execution, role) = (call.execution(), identity::current_role());
    let at = clock::statement_start();
    let known = ANSWERED.with(|answered| {
        let same = |a: &&Answered| {
            a.execution == execution && a.at == at && a.role == role && a.queue == queue
        };
        answered.as_ref().filter(same).map(|a| a.answer)
    });
    if let Some(answer) = known {
        return Ok(answer);
    }
    let answer = match extension()? {
        extension if extension.consumers != 0 => holds(&extension, role, queue)?,
        _ => false,
    };
    ANSWERED.set(Some(Answered {
        execution,
        at,
        role,
        queue: queue.to_vec(),
        answer,
    }));
    Ok(answer)
}
