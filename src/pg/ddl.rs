//! Definitions that concern our relations: utility statements that lock them, or point a foreign key at
//! them, are told of before they run; objects that hang on a relation, right after they are made.
//!
//! The first is for statements that wait for a lock before they look whether their author may: they
//! would stall all others meanwhile. The second (object_access_hook, catalog/objectaccess.h) is for
//! what counts, since it knows relations by OID: a trigger, rule, policy or foreign key that is
//! refused there is rolled back with its statement, whatever names led to it.

use std::ffi::CStr;

use once_cell::sync::OnceCell;

use super::datum::Oid;
use super::error::Result;
use super::guard::{self, protect};
use super::nodes::{Node, child, word};
use super::syscache::{self, Scanned, Sees};
use super::{lookup, owed, walk};
use crate::sys::{self, PlannedStmt};

/// A relation that a utility statement names.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its OID.
    pub relation: Oid,
    /// A foreign key is to point at it.
    pub is_foreign_key: bool,
}

/// The relations that a utility statement locks before it looks whether its author may, and those
/// that it points foreign keys at. Names are looked up without a lock, as of this moment; relations
/// that are not there do not matter here. May raise for names that cannot be looked up.
pub(super) fn targets(planned: &PlannedStmt) -> Result<Vec<Target>> {
    let mut targets = Targets(Vec::new());
    targets.add_statement(child!(planned, utilityStmt))?;
    Ok(targets.0)
}

struct Targets(Vec<Target>);

impl Targets {
    fn add_statement(&mut self, statement: Node) -> Result<()> {
        if let Some(made) = statement.cast::<sys::CreateTrigStmt>() {
            self.add_name(child!(made, relation))?;
            self.add_name(child!(made, constrrel))
        } else if let Some(made) = statement.cast::<sys::RuleStmt>() {
            self.add_name(child!(made, relation))
        } else if let Some(made) = statement.cast::<sys::CreateStatsStmt>() {
            self.add_names(child!(made, relations))
        } else if let Some(made) = statement.cast::<sys::CreateStmt>() {
            self.add_table(made)
        } else if let Some(made) = statement.cast::<sys::CreateForeignTableStmt>() {
            self.add_table(&made.base)
        } else if let Some(changed) = statement.cast::<sys::AlterTableStmt>() {
            let mut commands = child!(changed, cmds).all();
            commands.try_for_each(|command| self.add_command(command))
        } else if let Some(made) = statement.cast::<sys::CreatePublicationStmt>() {
            self.add_published(child!(made, pubobjects))
        } else if let Some(changed) = statement.cast::<sys::AlterPublicationStmt>() {
            self.add_published(child!(changed, pubobjects))
        } else if let Some(lock) = statement.cast::<sys::LockStmt>() {
            self.add_locked(lock)
        } else if let Some(changed) = statement.cast::<sys::AlterExtensionContentsStmt>() {
            self.add_object(changed.objtype, child!(changed, object))
        } else if let Some(comment) = statement.cast::<sys::CommentStmt>() {
            self.add_object(comment.objtype, child!(comment, object))
        } else if let Some(label) = statement.cast::<sys::SecLabelStmt>() {
            self.add_object(label.objtype, child!(label, object))
        } else if let Some(changed) = statement.cast::<sys::AlterObjectDependsStmt>() {
            self.add_name(child!(changed, relation))
        } else {
            Ok(())
        }
    }

    fn add(&mut self, relation: Oid, is_foreign_key: bool) {
        if relation != 0 {
            self.0.push(Target {
                relation,
                is_foreign_key,
            });
        }
    }

    /// A relation by its name, if there is a name here and it is none of another database.
    fn add_name(&mut self, name: Node) -> Result<()> {
        self.add_if_named(name, false)
    }

    fn add_if_named(&mut self, name: Node, is_foreign_key: bool) -> Result<()> {
        let name = name.cast::<sys::RangeVar>();
        match name {
            Some(name) if is_here(name)? => self.add(look_up(name, sys::NoLock)?, is_foreign_key),
            _ => {}
        }
        Ok(())
    }

    fn add_names(&mut self, names: Node) -> Result<()> {
        names.members().try_for_each(|name| self.add_name(name))
    }

    /// CREATE TABLE: its parents, and what its foreign keys point at.
    fn add_table(&mut self, made: &sys::CreateStmt) -> Result<()> {
        self.add_names(child!(made, inhRelations))?;
        let elements = child!(made, tableElts);
        elements.members().try_for_each(|one| self.add_element(one))
    }

    /// A column or a constraint of CREATE TABLE and ALTER TABLE.
    fn add_element(&mut self, element: Node) -> Result<()> {
        if let Some(column) = element.cast::<sys::ColumnDef>() {
            let mut constraints = child!(column, constraints).all();
            return constraints.try_for_each(|constraint| self.add_constraint(constraint));
        }
        let constraint = element.cast::<sys::Constraint>();
        constraint.map_or(Ok(()), |constraint| self.add_constraint(constraint))
    }

    fn add_constraint(&mut self, constraint: &sys::Constraint) -> Result<()> {
        if constraint.contype != sys::CONSTR_FOREIGN {
            return Ok(());
        }
        self.add_if_named(child!(constraint, pktable), true)
    }

    /// One command of ALTER TABLE.
    fn add_command(&mut self, command: &sys::AlterTableCmd) -> Result<()> {
        let definition = child!(command, def);
        if let Some(partition) = definition.cast::<sys::PartitionCmd>() {
            return self.add_name(child!(partition, name));
        }
        self.add_name(definition)?;
        self.add_element(definition)
    }

    fn add_published(&mut self, objects: Node) -> Result<()> {
        objects
            .all::<sys::PublicationObjSpec>()
            .try_for_each(
                |object| match child!(object, pubtable).cast::<sys::PublicationTable>() {
                    Some(table) => self.add_name(child!(table, relation)),
                    None => Ok(()),
                },
            )
    }

    /// LOCK TABLE goes on to the tables behind a view. A mode that INSERT and UPDATE take, or a
    /// weaker one, stalls nobody.
    fn add_locked(&mut self, lock: &sys::LockStmt) -> Result<()> {
        if lock.mode <= sys::RowExclusiveLock as i32 {
            return Ok(());
        }
        for name in child!(lock, relations).all::<sys::RangeVar>() {
            self.add_with_views(look_up(name, sys::NoLock)?)?;
        }
        Ok(())
    }

    /// The relation, and what is behind it if it is a view: each once.
    fn add_with_views(&mut self, relation: Oid) -> Result<()> {
        let mut next = vec![relation];
        while let Some(relation) = next.pop() {
            if self.0.iter().any(|known| known.relation == relation) {
                continue;
            }
            self.add(relation, false);
            next.extend(walk::behind_view(relation)?);
        }
        Ok(())
    }

    /// A relation that COMMENT, SECURITY LABEL or ALTER EXTENSION .. ADD names.
    fn add_object(&mut self, kind: sys::ObjectType, object: Node) -> Result<()> {
        let relations = [
            sys::OBJECT_TABLE,
            sys::OBJECT_VIEW,
            sys::OBJECT_MATVIEW,
            sys::OBJECT_INDEX,
            sys::OBJECT_SEQUENCE,
            sys::OBJECT_FOREIGN_TABLE,
        ];
        let Some(names) = object
            .cast::<sys::List>()
            .filter(|_| relations.contains(&kind))
        else {
            return Ok(());
        };
        let names = std::ptr::from_ref(names).cast_mut();
        // SAFETY: a list of strings; raises if it is too long for a relation's name.
        let name = protect(|| unsafe { sys::makeRangeVarFromNameList(names) })?;
        // SAFETY: a node in the current memory, used at once.
        self.add_name(unsafe { Node::new(name.cast_const().cast()) })
    }
}

/// Whether a name is one of this database: it may begin with the database's own.
fn is_here(name: &sys::RangeVar) -> Result<bool> {
    let Some(database) = word!(name, catalogname) else {
        return Ok(true);
    };
    Ok(lookup::current_database()? == database.to_bytes())
}

/// Looks a relation up by the name in a statement, and locks it; 0 if it is not there.
pub(super) fn look_up(name: &sys::RangeVar, lock: u32) -> Result<Oid> {
    let name = std::ptr::from_ref(name);
    // SAFETY: a node of the server; a catalog look-up in an open transaction.
    protect(|| unsafe {
        let (lock, options) = (lock as i32, sys::RVR_MISSING_OK);
        sys::RangeVarGetRelidExtended(name, lock, options, None, std::ptr::null_mut())
    })
}

/// Whether a utility statement locks that extension against everybody: DROP EXTENSION, among others, and
/// ALTER .. DEPENDS ON EXTENSION, which looks only whether the object is its author's.
pub(super) fn locks_extension(planned: &PlannedStmt, name: &CStr) -> bool {
    let statement = child!(planned, utilityStmt);
    if let Some(changed) = statement.cast::<sys::AlterObjectDependsStmt>() {
        return child!(changed, extname).text() == Some(name);
    }
    let drop = statement.cast::<sys::DropStmt>();
    drop.filter(|drop| drop.removeType == sys::OBJECT_EXTENSION)
        .is_some_and(|drop| {
            let mut names = child!(drop, objects).members();
            names.any(|object| object.text() == Some(name))
        })
}

/// What was just made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// A trigger on a relation.
    Trigger,
    /// A rule on it.
    Rule,
    /// A policy on it.
    Policy,
    /// A foreign key that refers to it.
    ForeignKey,
    /// Nothing was made: it is about to be truncated.
    Truncate,
}

/// Told of it. An error takes it back.
pub type MadeHook = fn(Made, Oid) -> Result<()>;

static PREVIOUS: OnceCell<sys::object_access_hook_type> = OnceCell::new();
static HOOK: OnceCell<MadeHook> = OnceCell::new();

/// Chains into the server's hook. From `_PG_init`.
pub fn install(hook: MadeHook) {
    let _ = HOOK.set(hook);
    // SAFETY: a variable of this process, which has one thread.
    unsafe {
        let _ = PREVIOUS.set(sys::object_access_hook);
        sys::object_access_hook = Some(on_access);
    }
}

unsafe extern "C-unwind" fn on_access(
    access: sys::ObjectAccessType,
    class: Oid,
    object: Oid,
    column: i32,
    argument: *mut libc::c_void,
) {
    if let Some(previous) = PREVIOUS.get().copied().flatten() {
        // SAFETY: the hook of another library, called as the server would.
        unsafe { previous(access, class, object, column, argument) };
    }
    // Functions pass here each time they are called: nothing before this costs anything.
    if access == sys::OAT_FUNCTION_EXECUTE {
        let outcome = guard::enter((), || owed::before_function(object));
        // SAFETY: this frame owns nothing.
        return unsafe { guard::raise(outcome) };
    }
    let Some(made) = kind_of(access, class) else {
        return;
    };
    let outcome = guard::enter((), || {
        let relation = relation_of(made, object)?;
        match HOOK.get().copied().filter(|_| relation != 0) {
            Some(hook) => hook(made, relation),
            None => Ok(()),
        }
    });
    // SAFETY: this frame owns nothing.
    unsafe { guard::raise(outcome) }
}

fn kind_of(access: sys::ObjectAccessType, class: Oid) -> Option<Made> {
    match (access, class) {
        (sys::OAT_TRUNCATE, _) => Some(Made::Truncate),
        (sys::OAT_POST_CREATE, sys::TriggerRelationId) => Some(Made::Trigger),
        (sys::OAT_POST_CREATE, sys::RewriteRelationId) => Some(Made::Rule),
        (sys::OAT_POST_CREATE, sys::PolicyRelationId) => Some(Made::Policy),
        (sys::OAT_POST_CREATE, sys::ConstraintRelationId) => Some(Made::ForeignKey),
        _ => None,
    }
}

/// The relation that a new object hangs on, or that a new foreign key refers to; 0 if it is no object
/// of that kind.
fn relation_of(made: Made, object: Oid) -> Result<Oid> {
    // The row of a new object was written by the command that runs.
    let found = match made {
        Made::Truncate => return Ok(object),
        Made::Trigger => find_new(object, |row: &sys::FormData_pg_trigger| row.tgrelid),
        Made::Rule => find_new(object, |row: &sys::FormData_pg_rewrite| row.ev_class),
        Made::Policy => find_new(object, |row: &sys::FormData_pg_policy| row.polrelid),
        Made::ForeignKey => find_new(object, |row: &sys::FormData_pg_constraint| row.confrelid),
    }?;
    Ok(found.unwrap_or(0))
}

fn find_new<Form: Scanned>(object: Oid, read: fn(&Form) -> Oid) -> Result<Option<Oid>> {
    syscache::find(object, Sees::Running, read)
}
