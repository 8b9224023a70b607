//! The SQL function by which messages of another queue system come in.

use super::sql::{Answer, null, sql_function};
use crate::pg::fmgr::Call;
use crate::pg::guard;
use crate::queue::messages::{self, Messages};
use crate::sys;

sql_function!(mw_take_over, pg_finfo_mw_take_over, take_over);

fn take_over(call: &Call) -> Answer {
    let argument = |index: usize, name: &str| call.arg(index).ok_or_else(|| null(name));
    let jobs = messages::take_over(&Messages {
        queue: argument(0, "queue")?,
        payloads: argument(1, "payloads")?,
        headers: argument(2, "headers")?,
        run_at: argument(3, "run_at")?,
        created_at: argument(4, "created_at")?,
        attempts: argument(5, "attempts")?,
    })?;
    messages::ids(&jobs).map(Some)
}
