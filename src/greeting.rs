//! What the log says when the launcher starts: what is served, and with how many workers.

use crate::pg::error::Result;
use crate::pg::log::{self, Level};
use crate::settings::{self, Served};

/// Logs it.
pub fn log() -> Result<()> {
    let what = match settings::served() {
        Served::All => "every database that has the extension".to_string(),
        Served::Named(names) => match names.as_slice() {
            [] => "no database".to_string(),
            [only] => format!("database \"{}\"", String::from_utf8_lossy(only)),
            names => {
                let names = names.join(b"\", \"".as_slice());
                format!("databases \"{}\"", String::from_utf8_lossy(&names))
            }
        },
    };
    let most = settings::MAX_WORKERS.get();
    let workers = if most == 1 { "worker" } else { "workers" };
    let off = if settings::ENABLED.get() {
        ""
    } else {
        ", disabled"
    };
    let version = env!("CARGO_PKG_VERSION");
    let text = format!("my_worker {version} serves {what} with up to {most} {workers}{off}");
    log::report(Level::Log, &text)
}
