//! The SQL functions of homes and copies.

use super::sql::{Answer, sql_function};
use crate::home;
use crate::pg::birth;
use crate::pg::catalog;
use crate::pg::datum::{self, ToDatum};
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::sys;

sql_function!(mw_home, pg_finfo_mw_home, own_home);
sql_function!(mw_identity, pg_finfo_mw_identity, identity);
sql_function!(mw_why_copy, pg_finfo_mw_why_copy, why_copy);
sql_function!(mw_adopt, pg_finfo_mw_adopt, adopt);
sql_function!(mw_reassign, pg_finfo_mw_reassign, reassign);

fn own_home(_: &Call) -> Answer {
    let found = catalog::extension()?;
    Ok(Some(found.map_or(0, |found| found.birth.home()).datum()))
}

fn identity(_: &Call) -> Answer {
    let text = birth::identity_text()?;
    datum::text_datum(text.as_bytes()).map(Some)
}

fn why_copy(_: &Call) -> Answer {
    let reason = home::why_copy()?.map(str::as_bytes);
    reason.map(datum::text_datum).transpose()
}

fn adopt(call: &Call) -> Answer {
    let said = home::adopt(call.arg(0).is_some_and(datum::as_bool))?;
    datum::text_datum(said.as_bytes()).map(Some)
}

fn reassign(call: &Call) -> Answer {
    let role = |index| call.arg(index).map_or(0, datum::as_oid);
    Ok(Some(home::reassign(role(0), role(1))?.datum()))
}
