//! The SQL functions of queues. `sql/parts` declares them.

use super::sql::{Answer, null, required, sql_function, texts};
use crate::pg::datum::{self, ToDatum};
use crate::pg::error::Result;
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::queue::given::Given;
use crate::queue::{define, purge, redrive};
use crate::sys;

sql_function!(
    mw_create_queue_1_1,
    pg_finfo_mw_create_queue_1_1,
    create_queue
);
sql_function!(mw_alter_queue_1_1, pg_finfo_mw_alter_queue_1_1, alter_queue);
sql_function!(mw_reset_queue, pg_finfo_mw_reset_queue, reset_queue);
sql_function!(mw_drop_queue, pg_finfo_mw_drop_queue, drop_queue);
sql_function!(mw_pause_queue, pg_finfo_mw_pause_queue, pause_queue);
sql_function!(mw_resume_queue, pg_finfo_mw_resume_queue, resume_queue);
sql_function!(mw_redrive, pg_finfo_mw_redrive, redrive);
sql_function!(mw_purge_queue, pg_finfo_mw_purge_queue, purge_queue);

/// The arguments of `create_queue()` and `alter_queue()`: the name, and the settings in their order.
fn queue_settings(call: &Call) -> Result<Given<'_>> {
    Ok(Given {
        name: required(call, 0, "name")?,
        values: std::array::from_fn(|index| call.arg(index.saturating_add(1))),
    })
}

fn create_queue(call: &Call) -> Answer {
    define::create_queue(&queue_settings(call)?).map(|()| None)
}

fn alter_queue(call: &Call) -> Answer {
    define::alter_queue(&queue_settings(call)?).map(|()| None)
}

fn reset_queue(call: &Call) -> Answer {
    let name = required(call, 0, "name")?;
    let settings = call.arg(1).ok_or_else(|| null("settings"))?;
    let settings = texts(settings, "settings")?;
    define::reset_queue(&name, &settings).map(|()| None)
}

fn drop_queue(call: &Call) -> Answer {
    let force = call.arg(1).is_some_and(datum::as_bool);
    define::drop_queue(&required(call, 0, "name")?, force).map(|()| None)
}

fn pause_queue(call: &Call) -> Answer {
    define::set_paused(&required(call, 0, "name")?, true).map(|()| None)
}

fn resume_queue(call: &Call) -> Answer {
    define::set_paused(&required(call, 0, "name")?, false).map(|()| None)
}

fn redrive(call: &Call) -> Answer {
    let most = call.arg(1).map(datum::as_i32);
    let count = redrive::redrive(&required(call, 0, "queue")?, most)?;
    Ok(Some(count.datum()))
}

fn purge_queue(call: &Call) -> Answer {
    Ok(Some(
        purge::purge_queue(&required(call, 0, "name")?)?.datum(),
    ))
}
