//! Walks over the server's trees: the relations behind a view, and the authors of what a condition calls.
//!
//! The server's walkers call the functions here, and may raise through them: these own nothing.

use std::ffi::{c_char, c_void};
use std::ptr;

use super::datum::Oid;
use super::error::Result;
use super::guard::{self, protect};
use super::nodes::{Node, child};
use super::{identity, lookup};
use crate::sys;

/// The relations that a view reads, in subqueries of FROM, WITH and expressions, too, as LOCK TABLE finds
/// them (LockViewRecurse_walker, lockcmds.c); none if it is no view, or gone. It stays locked.
pub(super) fn behind_view(view: Oid) -> Result<Vec<Oid>> {
    // SAFETY: a catalog look-up, and the view's own tree, which is read while the view is open; the list lies
    // in the current memory.
    let found = protect(|| unsafe {
        let mut found: *mut sys::List = ptr::null_mut();
        if view == 0 || sys::get_rel_relkind(view) as u8 != sys::RELKIND_VIEW {
            return found;
        }
        let rel = sys::try_relation_open(view, sys::AccessShareLock as i32);
        if !rel.is_null() {
            let query = sys::get_view_query(rel).cast();
            find_relations(query, (&raw mut found).cast());
            sys::relation_close(rel, sys::NoLock as i32);
        }
        found
    })?;
    // SAFETY: NULL, or a list that was made above.
    let found = unsafe { Node::new(found.cast_const().cast()) };
    Ok(found.oids().collect())
}

/// # Safety
/// A node of the server or NULL, and the address of a list of OIDs.
unsafe extern "C-unwind" fn find_relations(node: *mut sys::Node, found: *mut c_void) -> bool {
    // SAFETY: as the caller says.
    let query = unsafe { Node::new(node.cast_const().cast()) }.cast::<sys::Query>();
    let Some(query) = query else {
        // SAFETY: as above.
        return !node.is_null() && unsafe { sys::mw_walk(node, Some(find_relations), found) };
    };
    // SAFETY: looks at the stack.
    unsafe { sys::check_stack_depth() };
    let list = found.cast::<*mut sys::List>();
    for entry in child!(query, rtable).all::<sys::RangeTblEntry>() {
        if entry.rtekind == sys::RTE_RELATION {
            // SAFETY: as the caller says; the list grows in the current memory.
            unsafe { *list = sys::list_append_unique_oid(*list, entry.relid) };
        }
    }
    // SAFETY: as above.
    unsafe { sys::mw_walk_query(node.cast(), Some(find_relations), found) }
}

/// Whether the condition of a trigger, as the server stores it, evaluates what neither that role nor a
/// superuser has made; so may the checks of any domain. NULL is no condition.
///
/// # Safety
/// It is one, or NULL.
pub(super) unsafe fn is_strange_condition(condition: *const c_char, owner: Oid) -> Result<bool> {
    if condition.is_null() {
        return Ok(false);
    }
    let mut owner = owner;
    let owner = (&raw mut owner).cast();
    // SAFETY: as the caller says; the walk has ended before the owner's place is gone.
    protect(|| unsafe { is_strange_node(sys::stringToNode(condition).cast(), owner) })
}

/// # Safety
/// A node of the server or NULL, and the address of a role.
unsafe extern "C-unwind" fn is_strange_node(node: *mut sys::Node, owner: *mut c_void) -> bool {
    // SAFETY: as the caller says.
    unsafe {
        if node.is_null() {
            return false;
        }
        (*node).type_ == sys::T_CoerceToDomain
            || sys::check_functions_in_node(node, Some(is_strange), owner)
            || sys::mw_walk(node, Some(is_strange_node), owner)
    }
}

/// # Safety
/// The address of a role.
unsafe extern "C-unwind" fn is_strange(function: Oid, owner: *mut c_void) -> bool {
    // SAFETY: as the caller says.
    let owner = unsafe { *owner.cast::<Oid>() };
    let outcome = guard::enter(true, || {
        let of = lookup::function_owner(function)?.unwrap_or(0);
        Ok(of != owner && !identity::role_is_superuser(of)?)
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}
