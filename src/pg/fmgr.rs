//! Calls by the function manager: the arguments of our SQL functions and their results, and calls
//! of users' functions.

use super::call;
use super::datum::{self, Datum, Oid};
use super::error::{OBJECT_NOT_IN_PREREQUISITE_STATE, PgError, Result};
use super::guard::{self, protect};
use super::local::Local;
use super::nodes::Node;
pub use super::trigger_row::TriggerRow;
use crate::sys;

/// One call of an SQL function of ours.
#[derive(Clone, Copy)]
pub struct Call(sys::FunctionCallInfo);

impl Call {
    /// Wraps what the server passes.
    ///
    /// # Safety
    /// `info` is the argument of a version-1 function that is running.
    pub unsafe fn new(info: sys::FunctionCallInfo) -> Self {
        Call(info)
    }

    /// An argument, counted from 0; `None` for NULL.
    pub fn arg(&self, index: usize) -> Option<Datum<'_>> {
        // SAFETY: the call info is alive while the function runs, and has `nargs` arguments.
        unsafe {
            if index >= (*self.0).nargs as usize {
                return None;
            }
            let argument = &*(*self.0).args.as_ptr().add(index);
            (!argument.isnull).then(|| Datum::new(argument.value, self.type_of(index)))
        }
    }

    /// The type of an argument; 0 if nobody knows.
    fn type_of(&self, index: usize) -> Oid {
        // SAFETY: the expression that calls the function, if any, is there while it runs. A call from
        // the protocol has none; it is as the catalog declares it.
        unsafe {
            let function = (*self.0).flinfo;
            match sys::get_fn_expr_argtype(function, index as i32) {
                0 => declared_type((*function).fn_oid, index).unwrap_or(0),
                of => of,
            }
        }
    }

    /// Hands the result to the server.
    pub fn give(&self, value: Option<Datum<'_>>) -> sys::Datum {
        // SAFETY: as above.
        unsafe { (*self.0).isnull = value.is_none() };
        datum::raw(value)
    }

    /// The execution of a statement that this call is part of: the same for all calls in it, of
    /// whatever functions.
    pub fn execution(&self) -> Execution {
        // SAFETY: the executor prepares functions in the memory of the execution, and keeps both
        // while they run.
        Execution(unsafe { (*(*self.0).flinfo).fn_mcxt })
    }

    /// A composite result, for functions with OUT parameters.
    pub fn row(&self, values: &[Option<Datum<'_>>]) -> Result<Datum<'static>> {
        // SAFETY: the call is running; NULL if the function is not declared so.
        let description = protect(|| unsafe {
            let mut desc = std::ptr::null_mut();
            match sys::get_call_result_type(self.0, std::ptr::null_mut(), &mut desc) {
                sys::TYPEFUNC_COMPOSITE => desc,
                _ => std::ptr::null_mut(),
            }
        })?;
        if description.is_null() {
            return Err(PgError::internal(
                "a function is not declared to return a row",
            ));
        }
        check_columns(description, values)?;
        let (data, nulls) = split(values);
        let (data, nulls) = (data.as_ptr().cast_mut(), nulls.as_ptr().cast_mut());
        // SAFETY: as many values as the description has columns.
        protect(|| unsafe {
            let tuple = sys::heap_form_tuple(sys::BlessTupleDesc(description), data, nulls);
            let row = sys::HeapTupleHeaderGetDatum((*tuple).t_data);
            Datum::new(row, sys::RECORDOID)
        })
    }

    /// Prepares to return a set; rows follow by [`Call::add_row`], and the result is NULL.
    pub fn begin_set(&self, single_column: bool) -> Result<()> {
        let flags = if single_column {
            sys::MAT_SRF_USE_EXPECTED_DESC
        } else {
            0
        };
        // SAFETY: raises where a set is not accepted.
        protect(|| unsafe { sys::InitMaterializedSRF(self.0, flags) })
    }

    /// Adds a row to the set.
    pub fn add_row(&self, values: &[Option<Datum<'_>>]) -> Result<()> {
        // SAFETY: begin_set made the store and its description.
        let (store, description) = unsafe {
            let result = (*self.0).resultinfo.cast::<sys::ReturnSetInfo>();
            ((*result).setResult, (*result).setDesc)
        };
        check_columns(description, values)?;
        let (data, nulls) = split(values);
        let (data, nulls) = (data.as_ptr().cast_mut(), nulls.as_ptr().cast_mut());
        // SAFETY: as many values as the description has columns.
        protect(|| unsafe { sys::tuplestore_putvalues(store, description, data, nulls) })
    }

    fn trigger(&self) -> Option<&sys::TriggerData> {
        // SAFETY: NULL, or a node that lives as long as the call.
        let context = unsafe { Node::new((*self.0).context.cast_const().cast()) };
        context.cast()
    }

    /// The table whose trigger this is.
    pub fn trigger_table(&self) -> Result<Oid> {
        let data = self
            .trigger()
            .ok_or_else(|| PgError::internal("a trigger function was not called as a trigger"))?;
        // SAFETY: the table is open while its trigger runs.
        Ok(unsafe { (*data.tg_relation).rd_id })
    }

    /// The row of a BEFORE ROW trigger.
    pub fn trigger_row(&self) -> Result<TriggerRow> {
        let before_row = sys::TRIGGER_EVENT_BEFORE | sys::TRIGGER_EVENT_ROW;
        let mask = sys::TRIGGER_EVENT_TIMINGMASK | sys::TRIGGER_EVENT_ROW;
        let data = self
            .trigger()
            .filter(|data| data.tg_event & mask == before_row);
        let data = data.ok_or_else(|| {
            PgError::internal("a trigger function was not called as a row trigger")
        })?;
        TriggerRow::new(data)
    }
}

/// Values as the server takes them: two arrays.
fn split(values: &[Option<Datum<'_>>]) -> (Vec<sys::Datum>, Vec<bool>) {
    (
        values.iter().map(|value| datum::raw(*value)).collect(),
        values.iter().map(Option::is_none).collect(),
    )
}

/// The SQL script of another version may declare a function with more columns than this library has
/// values for, or with fewer.
fn check_columns(description: sys::TupleDesc, values: &[Option<Datum<'_>>]) -> Result<()> {
    // SAFETY: the description of a function's result.
    let declared = unsafe { (*description).natts };
    if usize::try_from(declared) == Ok(values.len()) {
        for (value, column) in values.iter().zip(1..) {
            // SAFETY: as above.
            let of = unsafe { sys::mw_column_type(description, column) };
            value.map_or(Ok(()), |value| value.check(of))?;
        }
        return Ok(());
    }
    let given = values.len();
    Err(other_version().detail(format!(
        "The function is declared with {declared} columns, the library has {given}."
    )))
}

/// The type of an argument, as the catalog has it. Raises if the function is gone.
fn declared_type(function: Oid, index: usize) -> Result<Oid> {
    // SAFETY: a catalog look-up; the array has `count` types.
    protect(|| unsafe {
        let (mut types, mut count) = (std::ptr::null_mut(), 0);
        sys::get_func_signature(function, &mut types, &mut count);
        if index < count as usize {
            *types.add(index)
        } else {
            0
        }
    })
}

/// What is declared in SQL is not what this library works with.
fn other_version() -> PgError {
    PgError::new(
        OBJECT_NOT_IN_PREREQUISITE_STATE,
        "the library and the extension \"my_worker\" have different versions",
    )
    .hint("Use ALTER EXTENSION my_worker UPDATE, or install the library that fits.")
}

/// One execution of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Execution(sys::MemoryContext);

static ENDED: Local<Option<fn(Execution)>> = Local::new(None);

impl Execution {
    /// Has `ended` called when it has ended, well or not. There is one such function. It cannot fail:
    /// the memory is about to be freed, and a panic in it is dropped.
    pub fn at_end(self, ended: fn(Execution)) -> Result<()> {
        ENDED.set(Some(ended));
        // SAFETY: the context is alive, and its callback lives in it.
        protect(|| unsafe {
            let size = size_of::<sys::MemoryContextCallback>();
            let callback = sys::MemoryContextAllocZero(self.0, size);
            let callback = callback.cast::<sys::MemoryContextCallback>();
            (*callback).func = Some(on_end);
            (*callback).arg = self.0.cast();
            sys::MemoryContextRegisterResetCallback(self.0, callback);
        })
    }
}

unsafe extern "C-unwind" fn on_end(context: *mut std::ffi::c_void) {
    let _ = guard::enter((), || {
        if let Some(ended) = ENDED.get() {
            ended(Execution(context.cast()));
        }
        Ok(())
    });
}

/// A user's function, looked up and ready for calls until the transaction ends or a call fails:
/// an error leaves what the function's language keeps between calls cut short.
#[derive(Clone, Copy)]
pub struct Function {
    info: *mut sys::FmgrInfo,
    result: Oid,
    /// The types of its first arguments.
    arguments: [Oid; MOST_ARGUMENTS],
    count: usize,
    in_query: bool,
}

/// So many arguments [`Function::call`] passes at most.
const MOST_ARGUMENTS: usize = 2;

impl Function {
    /// Looks it up. The caller has checked the right to execute it.
    pub fn new(oid: Oid, result: Oid) -> Result<Self> {
        let size = size_of::<sys::FmgrInfo>();
        // SAFETY: lives, with all that look-up and calls hang on it, as long as the transaction. The
        // array has `count` types.
        let (info, arguments, count) = protect(|| unsafe {
            let context = sys::TopTransactionContext;
            let info = sys::MemoryContextAllocZero(context, size).cast::<sys::FmgrInfo>();
            sys::fmgr_info_cxt(oid, info, context);
            let (mut types, mut count) = (std::ptr::null_mut(), 0);
            sys::get_func_signature(oid, &mut types, &mut count);
            let mut arguments = [0; MOST_ARGUMENTS];
            let first = (count as usize).min(MOST_ARGUMENTS);
            std::ptr::copy_nonoverlapping(types, arguments.as_mut_ptr(), first);
            (info, arguments, count as usize)
        })?;
        Ok(Function {
            info,
            result,
            arguments,
            count,
            in_query: false,
        })
    }

    /// The same for a call within a query: the triggers that it defers wait for the end of the transaction.
    pub fn within_query(self) -> Self {
        Function {
            in_query: true,
            ..self
        }
    }

    /// Calls it, outside of any query, and fires the triggers that it deferred; the result is `None` for
    /// NULL and for `void`. Before it, `xact::fire_deferred` has to fire those of other statements.
    pub fn call<const COUNT: usize>(
        &self,
        arguments: [Datum<'_>; COUNT],
    ) -> Result<Option<Datum<'static>>> {
        if COUNT != self.count
            || !arguments
                .iter()
                .zip(self.arguments)
                .all(|(a, of)| a.fits(of))
        {
            return Err(PgError::internal("a handler takes other arguments"));
        }
        let (info, arguments) = (self.info, arguments.map(Datum::raw));
        let in_query = self.in_query;
        // SAFETY: a snapshot is active; the arguments fit the function's signature, as was checked. No event
        // of an outer transaction level waits: AfterTriggerFireDeferred() frees events, which a rollback to
        // that level would bring back (trigger.c).
        let (value, null) = protect(|| unsafe {
            let result = call::call((*info).fn_addr, info, &arguments);
            if !in_query {
                sys::AfterTriggerFireDeferred();
            }
            result
        })?;
        // SAFETY: what it returned, in the memory context that is current.
        let value = unsafe { Datum::new(value, self.result) };
        Ok((!null && self.result != sys::VOIDOID).then_some(value))
    }

    /// The result of a call as `jsonb`, as `to_jsonb()` makes it.
    pub fn to_jsonb(self, value: Datum<'static>) -> Result<Datum<'static>> {
        value.check(self.result)?;
        if self.result == sys::JSONBOID {
            return Ok(value);
        }
        let (result, value) = (self.result, value.raw());
        // SAFETY: the value is of that type, as was checked. to_jsonb() looks the type up in the expression that calls
        // it, so there is one, with a constant of the type as its argument.
        protect(|| unsafe {
            let argument = sys::makeNullConst(result, -1, 0);
            let arguments = sys::lappend(std::ptr::null_mut(), argument.cast());
            let kind = sys::COERCE_EXPLICIT_CALL;
            let call = sys::makeFuncExpr(sys::F_TO_JSONB, sys::JSONBOID, arguments, 0, 0, kind);
            let mut function: sys::FmgrInfo = std::mem::zeroed();
            sys::fmgr_info(sys::F_TO_JSONB, &mut function);
            function.fn_expr = call.cast();
            let json = sys::FunctionCall1Coll(&mut function, 0, value);
            Datum::new(json, sys::JSONBOID)
        })
    }
}
