//! Triggers of others on a table.

use super::datum::{self, Oid};
use super::error::Result;
use super::guard::protect;
use super::{identity, lookup, walk};
use crate::sys;

/// The name of a trigger of a table whose function, or one in its condition, belongs neither to that
/// role nor to a superuser. The server's own triggers do not count. The table stays locked.
pub(super) fn strange(table: Oid, owner: Oid) -> Result<Option<Vec<u8>>> {
    // SAFETY: opens the table and copies what hangs on it (NULL if nothing does): any look at a catalog may free
    // the list of an open table, to make it anew (RelationClearRelation, relcache.c).
    let all = protect(|| unsafe {
        let relation = sys::table_open(table, sys::AccessShareLock as i32);
        let all = sys::CopyTriggerDesc((*relation).trigdesc);
        sys::table_close(relation, sys::NoLock as i32);
        all
    })?;
    // SAFETY: the copy, an array of so many.
    let triggers = unsafe {
        match all.as_ref() {
            Some(all) => {
                let count = usize::try_from(all.numtriggers).unwrap_or(0);
                std::slice::from_raw_parts(all.triggers, count)
            }
            None => &[],
        }
    };
    let mut found = None;
    for trigger in triggers.iter().filter(|trigger| !trigger.tgisinternal) {
        let of = lookup::function_owner(trigger.tgfoid)?.unwrap_or(0);
        // SAFETY: the trigger's condition as the server stores it, or NULL.
        let is_strange = unsafe { walk::is_strange_condition(trigger.tgqual, owner) }?;
        if is_strange || of != owner && !identity::role_is_superuser(of)? {
            found = datum::from_c(trigger.tgname);
            break;
        }
    }
    // SAFETY: made above; NULL is none.
    protect(|| unsafe { sys::FreeTriggerDesc(all) })?;
    Ok(found)
}
