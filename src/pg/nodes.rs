//! Nodes of the server's parser and planner, read in place.
//!
//! A node begins with a tag that says which struct it is. [`Node::cast`] compares the tag before it
//! hands out a reference, so a struct is never taken for another one. Two macros read the pointers
//! of a struct that was cast: `child!` those to nodes, `word!` those to strings. What they answer
//! lives as long as the node that they started from.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use crate::sys;

/// `child!(node, field)`: the [`Node`] that a field of a struct leads to.
macro_rules! child {
    ($node:expr, $field:ident) => {{
        let node = $node;
        // SAFETY: the pointer is read from a field of the struct itself.
        unsafe { $crate::pg::nodes::follow(node, node.$field.cast_const().cast()) }
    }};
}

/// `word!(node, field)`: the string that a field of a struct leads to, if any.
macro_rules! word {
    ($node:expr, $field:ident) => {{
        let node = $node;
        // SAFETY: the pointer is read from a field of the struct itself.
        unsafe { $crate::pg::nodes::read(node, node.$field) }
    }};
}

pub(super) use {child, word};

/// A struct of the server that begins with a tag.
///
/// # Safety
/// A node with this tag is such a struct. Its pointers to nodes and strings are NULL, or valid as
/// long as the struct is.
pub(super) unsafe trait Tagged {
    /// The tag.
    const TAG: sys::NodeTag;
}

macro_rules! node {
    ($($name:ident = $tag:ident),* $(,)?) => {
        $(
            // SAFETY: the names are those of the server (nodes/nodes.h), which keeps this promise
            // for each tree that it passes to a hook.
            unsafe impl Tagged for sys::$name {
                const TAG: sys::NodeTag = sys::$tag;
            }
        )*
    };
}

node! {
    AlterDatabaseStmt = T_AlterDatabaseStmt,
    AlterExtensionContentsStmt = T_AlterExtensionContentsStmt,
    AlterObjectDependsStmt = T_AlterObjectDependsStmt,
    AlterPublicationStmt = T_AlterPublicationStmt,
    AlterTableCmd = T_AlterTableCmd,
    AlterTableStmt = T_AlterTableStmt,
    CallStmt = T_CallStmt,
    ColumnDef = T_ColumnDef,
    CommentStmt = T_CommentStmt,
    Const = T_Const,
    ConstraintsSetStmt = T_ConstraintsSetStmt,
    Constraint = T_Constraint,
    CopyStmt = T_CopyStmt,
    CreateForeignTableStmt = T_CreateForeignTableStmt,
    CreatePublicationStmt = T_CreatePublicationStmt,
    CreateStatsStmt = T_CreateStatsStmt,
    CreateStmt = T_CreateStmt,
    CreateTrigStmt = T_CreateTrigStmt,
    CreatedbStmt = T_CreatedbStmt,
    DefElem = T_DefElem,
    DiscardStmt = T_DiscardStmt,
    DropStmt = T_DropStmt,
    DropdbStmt = T_DropdbStmt,
    List = T_List,
    EState = T_EState,
    LockStmt = T_LockStmt,
    ModifyTableState = T_ModifyTableState,
    NullTest = T_NullTest,
    OpExpr = T_OpExpr,
    PartitionCmd = T_PartitionCmd,
    PlanRowMark = T_PlanRowMark,
    PlannedStmt = T_PlannedStmt,
    PublicationObjSpec = T_PublicationObjSpec,
    PublicationTable = T_PublicationTable,
    Query = T_Query,
    RangeTblEntry = T_RangeTblEntry,
    RangeVar = T_RangeVar,
    RawStmt = T_RawStmt,
    RenameStmt = T_RenameStmt,
    RuleStmt = T_RuleStmt,
    SecLabelStmt = T_SecLabelStmt,
    String = T_String,
    TransactionStmt = T_TransactionStmt,
    TriggerData = T_TriggerData,
    Var = T_Var,
    VariableSetStmt = T_VariableSetStmt,
    VariableShowStmt = T_VariableShowStmt,
}

/// A place where a node may stand.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pointer: *const sys::Node,
    tree: PhantomData<&'a ()>,
}

impl<'a> Node<'a> {
    /// A pointer to a node.
    ///
    /// # Safety
    /// It is NULL, or leads to a node of the server that lives for `'a`.
    pub unsafe fn new(pointer: *const c_void) -> Self {
        Node {
            pointer: pointer.cast(),
            tree: PhantomData,
        }
    }

    /// The struct, if there is a node here and it is of that kind.
    pub fn cast<T: Tagged>(self) -> Option<&'a T> {
        // SAFETY: a node of the server, as `new` demands; with this tag it is a T.
        unsafe {
            let node = self.pointer.as_ref()?;
            (node.type_ == T::TAG).then(|| &*self.pointer.cast::<T>())
        }
    }

    /// The text of a string node.
    pub fn text(self) -> Option<&'a CStr> {
        word!(self.cast::<sys::String>()?, sval)
    }

    fn cells(self, tag: sys::NodeTag) -> &'a [sys::ListCell] {
        // SAFETY: as above; a list has `length` cells.
        unsafe {
            match self.pointer.as_ref() {
                Some(node) if node.type_ == tag => {
                    let list = &*self.pointer.cast::<sys::List>();
                    let length = usize::try_from(list.length).unwrap_or(0);
                    std::slice::from_raw_parts(list.elements, length)
                }
                _ => &[],
            }
        }
    }

    /// The members of a list of pointers, which need not lead to nodes; none if it is no such list.
    pub fn pointers(self) -> impl Iterator<Item = *const c_void> {
        // SAFETY: the cells of such a list are pointers.
        let one = |cell: &sys::ListCell| unsafe { cell.ptr_value.cast_const() };
        self.cells(sys::T_List).iter().map(one)
    }

    /// The members of a list of nodes.
    pub fn members(self) -> impl Iterator<Item = Node<'a>> {
        // SAFETY: the members of a list in a tree of the parser or planner are nodes of that tree.
        self.pointers().map(|pointer| unsafe { Node::new(pointer) })
    }

    /// The members of a list that are of one kind.
    pub fn all<T: Tagged + 'a>(self) -> impl Iterator<Item = &'a T> {
        self.members().filter_map(Node::cast::<T>)
    }

    /// The members of a list of OIDs; none if it is no such list.
    pub fn oids(self) -> impl Iterator<Item = sys::Oid> {
        // SAFETY: the cells of such a list are OIDs.
        let one = |cell: &sys::ListCell| unsafe { cell.oid_value };
        self.cells(sys::T_OidList).iter().map(one)
    }
}

/// The tables that a statement is to change, as indexes from 0 on into its `rtable`.
pub(super) fn changed(plan: &sys::PlannedStmt) -> impl Iterator<Item = usize> {
    let mut position = 0;
    std::iter::from_fn(move || {
        // SAFETY: reads the statement.
        let place = unsafe { sys::mw_next_changed(plan, &raw mut position) };
        usize::try_from(place).ok()?.checked_sub(1)
    })
}

/// Follows a pointer of a struct. For `child!` alone.
///
/// # Safety
/// The pointer is one of the struct's pointers to nodes.
pub(super) unsafe fn follow<T: Tagged>(_: &T, pointer: *const c_void) -> Node<'_> {
    // SAFETY: NULL, or valid as long as the struct, as `Tagged` promises.
    unsafe { Node::new(pointer) }
}

/// Reads a string of a struct. For `word!` alone.
///
/// # Safety
/// The pointer is one of the struct's pointers to strings.
pub(super) unsafe fn read<T: Tagged>(_: &T, pointer: *const c_char) -> Option<&CStr> {
    // SAFETY: as above; the server's strings are terminated.
    (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) })
}
