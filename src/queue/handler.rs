//! Handlers: finding the function that a job calls, and which of the accepted signatures it has.

use crate::pg::catalog::{self, SearchState};
use crate::pg::datum::{Oid, types};
use crate::pg::error::{
    FEATURE_NOT_SUPPORTED, INSUFFICIENT_PRIVILEGE, INTERNAL_ERROR, INVALID_NAME,
    INVALID_TEXT_REPRESENTATION, PgError, Result, SYNTAX_ERROR, UNDEFINED_FUNCTION,
    UNDEFINED_OBJECT, UNDEFINED_SCHEMA,
};
use crate::pg::fault::fault;
use crate::pg::fmgr::Function;
use crate::pg::identity;
use crate::pg::local::Local;

/// The accepted signatures.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `f(bigint, jsonb)`: job id and payload.
    IdAndPayload,
    /// `f(jsonb)`: payload.
    Payload,
    /// `f()`
    Nothing,
    /// `f(bigint[], jsonb[])`: several jobs in one call.
    Batch,
}

/// A signature, the types of its arguments, and their names as they are stored.
type ShapeOf = (Shape, &'static [Oid], &'static str);

/// In the order in which they are looked for.
const SHAPES: [ShapeOf; 4] = [
    (
        Shape::IdAndPayload,
        &[types::INT8, types::JSONB],
        "bigint, jsonb",
    ),
    (Shape::Payload, &[types::JSONB], "jsonb"),
    (Shape::Nothing, &[], ""),
    (
        Shape::Batch,
        &[types::INT8_ARRAY, types::JSONB_ARRAY],
        "bigint[], jsonb[]",
    ),
];

const HINT: &str = "A handler is a function f(bigint, jsonb), f(jsonb), f() or \
                    f(bigint[], jsonb[]); give its name, qualified or with argument types if need \
                    be.";

/// The most functions of one name that an error lists.
const MAX_LISTED: i32 = 3;

/// The most handlers that a process remembers.
const MAX_REMEMBERED: usize = 64;

/// A handler that was found.
#[derive(Clone)]
pub struct Handler {
    /// The function.
    pub function: Oid,
    /// Its signature.
    pub shape: Shape,
    /// The type of its result.
    pub result: Oid,
    /// Its name, qualified and quoted, with argument types.
    pub name: Vec<u8>,
    /// The role that owns the function.
    pub owner: Oid,
}

/// A handler as jobs, queues and schedules keep it.
#[derive(Clone)]
pub struct Named {
    /// Schema, name and argument types, which name one function.
    pub name: Vec<u8>,
    /// Who owned the function then, if that was neither the role that named it nor a superuser.
    pub owner: Option<Oid>,
}

/// What a name stood for.
struct Remembered {
    name: Vec<u8>,
    found_by: SearchState,
    handler: Handler,
}

static REMEMBERED: Local<Vec<Remembered>> = Local::new(Vec::new());

/// What was remembered for that name, if [`resolve`] would find it again; rights are not looked at.
pub fn recall(name: &[u8]) -> Option<Handler> {
    let now = catalog::search_state();
    REMEMBERED.with(|all| {
        let found = all.iter().find(|one| one.name == name)?;
        (found.found_by == now).then(|| found.handler.clone())
    })
}

/// Remembers what a name stands for, once it has proved to be callable.
pub fn remember(name: &[u8], handler: &Handler) {
    let found_by = catalog::search_state();
    REMEMBERED.with(|all| {
        all.retain(|one| one.name != name);
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.push(Remembered {
            name: name.to_vec(),
            found_by,
            handler: handler.clone(),
        });
    });
}

/// Finds a handler by its name, with or without schema and argument types, by the search path in
/// force. 42883 with a hint if no function of an accepted signature has that name; 0A000 for a
/// temporary function, which other sessions cannot name.
pub fn resolve(name: &[u8]) -> Result<Handler> {
    if let Some((shape, bare)) = stored_form(name) {
        let function = catalog::function(bare, shape.1).map_err(|error| no_name(name, error))?;
        let Some(function) = function else {
            return Err(not_found(name, bare));
        };
        return found(function, shape, name);
    }
    if has_types(name) {
        resolve_with_types(name)
    } else {
        resolve_by_shape(name)
    }
}

/// Whether argument types follow the name: a parenthesis, but not of a quoted name.
fn has_types(name: &[u8]) -> bool {
    without_types(name).len() < name.len()
}

/// The name up to that parenthesis.
fn without_types(name: &[u8]) -> &[u8] {
    let mut quoted = false;
    let end = name.iter().position(|byte| {
        quoted ^= *byte == b'"';
        *byte == b'(' && !quoted
    });
    end.and_then(|end| name.get(..end)).unwrap_or(name)
}

/// Finds the handler of a job that is about to run, by its name as it is stored. A name that an
/// earlier version has stored, or a restored dump, may lack the argument types: it has to be one
/// function's alone.
pub fn resolve_stored(name: &[u8]) -> Result<Handler> {
    if has_types(name) {
        return resolve(name);
    }
    let mut only = None;
    for shape in &SHAPES {
        let function = catalog::function(name, shape.1).map_err(|error| no_name(name, error))?;
        if let Some(function) = function
            && only.replace((function, shape)).is_some()
        {
            let detail =
                "There are several functions of that name, and the job does not say which.";
            return Err(unknown(name).detail(detail));
        }
    }
    let (function, shape) = only.ok_or_else(|| unknown(name))?;
    found(function, shape, name)
}

/// Takes a name apart that ends with the argument types of a signature as they are stored.
fn stored_form(name: &[u8]) -> Option<(&'static ShapeOf, &[u8])> {
    SHAPES.iter().find_map(|shape| {
        let types = name.strip_suffix(b")")?.strip_suffix(shape.2.as_bytes())?;
        let bare = types.strip_suffix(b"(")?;
        (!has_types(bare)).then_some((shape, bare))
    })
}

/// The first function of that name with an accepted signature.
fn resolve_by_shape(name: &[u8]) -> Result<Handler> {
    for shape in &SHAPES {
        let function = catalog::function(name, shape.1).map_err(|error| no_name(name, error))?;
        if let Some(function) = function {
            return found(function, shape, name);
        }
    }
    Err(not_found(name, name))
}

fn resolve_with_types(name: &[u8]) -> Result<Handler> {
    let function = catalog::function_with_types(name).map_err(|error| no_name(name, error))?;
    let Some(function) = function else {
        return Err(not_found(name, without_types(name)));
    };
    let arguments = catalog::signature(function)?.arguments;
    match SHAPES.iter().find(|shape| shape.1 == arguments.as_slice()) {
        Some(shape) => found(function, shape, name),
        None => Err(unknown(name).detail(there_is(&catalog::describe_routine(function)?))),
    }
}

/// The error for a name that no handler has; with what else has it, with other arguments or of
/// another kind.
fn not_found(asked: &[u8], name: &[u8]) -> PgError {
    let list = match catalog::routines_named(name, MAX_LISTED) {
        Ok(list) => list,
        Err(error) => return no_name(asked, error),
    };
    // Types that cannot be read are said to be so.
    if has_types(asked)
        && let Err(error) = catalog::why_no_function(asked)
        && error.sqlstate != UNDEFINED_FUNCTION
    {
        return no_name(asked, error);
    }
    match list {
        Some(list) => unknown(asked).detail(there_is(&list)),
        None => unknown(asked),
    }
}

fn there_is(list: &[u8]) -> Vec<u8> {
    [b"There is ", list, b"."].concat()
}

/// What the server says of a name that it cannot read, or that can be no function's here.
fn no_name(name: &[u8], error: PgError) -> PgError {
    match error.sqlstate {
        UNDEFINED_FUNCTION | UNDEFINED_SCHEMA => unknown(name),
        // a type of the arguments, or no name at all
        UNDEFINED_OBJECT
        | INVALID_NAME
        | SYNTAX_ERROR
        | INVALID_TEXT_REPRESENTATION
        | FEATURE_NOT_SUPPORTED => unknown(name).detail(error.message),
        _ => error,
    }
}

fn found(function: Oid, (shape, _, types): &ShapeOf, asked: &[u8]) -> Result<Handler> {
    let signature = catalog::signature(function)?;
    if !signature.is_function || signature.returns_set {
        let set = if signature.returns_set {
            ", which returns a set"
        } else {
            ""
        };
        let what = catalog::describe_routine(function)?;
        return Err(unknown(asked).detail(there_is(&[&what, set.as_bytes()].concat())));
    }
    if catalog::is_for_the_server(signature.result)? {
        let what = catalog::describe_routine(function)?;
        let rest = b", which is for the server to call";
        return Err(unknown(asked).detail(there_is(&[what.as_slice(), rest].concat())));
    }
    if signature.is_temporary {
        let message = quoted("handler function ", asked, " is temporary");
        return Err(PgError::new(FEATURE_NOT_SUPPORTED, message)
            .detail("A job runs in another session, which cannot see it."));
    }
    let mut name = catalog::function_name(function)?;
    name.extend_from_slice(format!("({types})").as_bytes());
    Ok(Handler {
        function,
        shape: *shape,
        result: signature.result,
        name,
        owner: signature.owner,
    })
}

/// What this session named last: an answer of [`name`], and what it rests on. Kept apart from
/// [`REMEMBERED`]: a stored name must be one function's alone, of one that is asked for the first wins.
struct LastNamed {
    asked: Vec<u8>,
    role: Oid,
    found_by: SearchState,
    function: Oid,
    named: Named,
}

static LAST_NAMED: Local<Option<LastNamed>> = Local::new(None);

/// Finds a handler that the current role names, checks its right to execute it, and answers what to
/// keep. The same name is looked up once, until this session hears of a change of the catalogs.
pub fn name(asked: &[u8]) -> Result<Named> {
    let role = identity::current_role();
    // From here on this session counts changes of the catalogs.
    catalog::extension()?;
    let found_by = catalog::search_state();
    let last = LAST_NAMED.with(|last| {
        let same = |l: &&LastNamed| l.role == role && l.asked == asked && l.found_by == found_by;
        last.as_ref()
            .filter(same)
            .map(|l| (l.function, l.named.clone()))
    });
    if let Some((function, named)) = last
        && catalog::may_execute(function, role)?
    {
        return Ok(named);
    }
    let handler = resolve(asked)?;
    check_rights(&handler, role)?;
    let known = handler.owner == role || identity::role_is_superuser(handler.owner)?;
    let named = Named {
        name: handler.name,
        owner: (!known).then_some(handler.owner),
    };
    LAST_NAMED.set(Some(LastNamed {
        asked: asked.to_vec(),
        role,
        found_by,
        function: handler.function,
        named: named.clone(),
    }));
    Ok(named)
}

/// A superuser's job runs no function that came into other hands since it was named: 42501 if its
/// owner is neither a superuser nor `recorded`, who owned it then.
pub fn check_author(handler: &Handler, recorded: Option<Oid>, role: Oid) -> Result<()> {
    let author = handler.owner;
    if author == role
        || !identity::role_is_superuser(role)?
        || recorded == Some(author)
        || identity::role_is_superuser(author)?
    {
        return Ok(());
    }
    let message = quoted("permission denied for function ", &handler.name, "");
    Err(PgError::new(INSUFFICIENT_PRIVILEGE, message)
        .detail(format!(
            "A superuser's job runs it only if its owner is the one it had when it was named; it is \"{}\" now.",
            identity::role_name(author)?
        ))
        .hint("Enqueue the job again if the function is to be trusted."))
}

/// The error for a name that no handler has.
pub fn unknown(name: &[u8]) -> PgError {
    PgError::new(
        UNDEFINED_FUNCTION,
        quoted("handler function ", name, " does not exist"),
    )
    .hint(HINT)
}

/// A message around a name of the user's, in the database's encoding.
pub fn quoted(before: &str, name: &[u8], after: &str) -> Vec<u8> {
    [before.as_bytes(), b"\"", name, b"\"", after.as_bytes()].concat()
}

/// Refuses a handler that the role may not execute.
pub fn check_rights(handler: &Handler, role: Oid) -> Result<()> {
    if may_execute(handler, role)? {
        return Ok(());
    }
    let message = quoted("permission denied for function ", &handler.name, "");
    Err(PgError::new(INSUFFICIENT_PRIVILEGE, message))
}

/// Whether the role may execute it.
pub fn may_execute(handler: &Handler, role: Oid) -> Result<bool> {
    unless_dropped(handler, catalog::may_execute(handler.function, role))
}

/// What is needed to call it. The caller has checked the right to execute it.
pub fn callable(handler: &Handler) -> Result<Function> {
    fault!(Found);
    unless_dropped(handler, Function::new(handler.function, handler.result))
}

/// Of a function that somebody has dropped since it was found, which the server calls an internal error: that there is none.
fn unless_dropped<T>(handler: &Handler, looked_up: Result<T>) -> Result<T> {
    match looked_up {
        Err(error)
            if error.sqlstate == INTERNAL_ERROR && !catalog::function_exists(handler.function)? =>
        {
            Err(unknown(&handler.name))
        }
        looked_up => looked_up,
    }
}
