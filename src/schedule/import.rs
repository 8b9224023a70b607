//! Makes jobs of pg_cron schedules of their users, for `import_pg_cron()`.
//!
//! A job is imported if a schedule means the same: `logic::pg_cron` decides that of its text, and of the nights in
//! which the clock of its time zone is set. All else that keeps a job from being imported is said in words.
//! Nothing is replaced: a schedule that is there stays.
//!
//! The caller has read the job with its own rights, and may say anything. So a schedule is made only for a role
//! whose rights the caller has.

use crate::logic::cron::CronExpr;
use crate::logic::limits;
use crate::logic::pg_cron::{self, Entry, Meaning, Refusal};
use crate::logic::{calendar, zone};
use crate::pg::datum::{self, Datum, Oid, ToDatum, types};
use crate::pg::error::Result;
use crate::pg::spi::Statement;
use crate::pg::timezone::Timezone;
use crate::pg::{catalog, guc, identity};
use crate::queue::handler::quoted;
use crate::queue::{admit, as_owner, bar, extension};

static FIND: Statement = Statement::new(
    "SELECT command FROM my_worker._schedules WHERE owner = $1 AND name = $2",
    &[types::REGROLE, types::TEXT],
);

static INSERT: Statement = Statement::new(
    "INSERT INTO my_worker._schedules (name, owner, schedule, timezone, command, overlap, catchup, max_attempts, \
     anchor, next_run_at, active) VALUES ($1, $2, $3, $4, $5, $6, 'none', 1, $7, $8, $8 IS NOT NULL) \
     ON CONFLICT (owner, name) DO NOTHING RETURNING id",
    &[
        types::TEXT,
        types::REGROLE,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TEXT,
        types::TIMESTAMPTZ,
        types::TIMESTAMPTZ,
    ],
);

/// The queue of imported schedules.
const QUEUE: &[u8] = b"default";

/// A job as `cron.job` has it.
pub struct Source {
    /// Its number.
    pub id: i64,
    /// Its name, if it has one.
    pub name: Option<Vec<u8>>,
    /// When it runs.
    pub schedule: Vec<u8>,
    /// What it runs.
    pub command: Vec<u8>,
    /// The host to which pg_cron connects.
    pub host: Vec<u8>,
    /// And the port there.
    pub port: i32,
    /// The database.
    pub database: Vec<u8>,
    /// The user.
    pub role: Vec<u8>,
    /// It is not switched off.
    pub is_active: bool,
}

/// What becomes of a job.
pub struct Verdict {
    /// The schedule's name.
    pub name: Vec<u8>,
    /// In a word or two.
    pub outcome: &'static str,
    /// Why, or how.
    pub detail: Vec<u8>,
}

/// A schedule that means what the job means.
struct Plan {
    owner: Oid,
    text: String,
    overlap: &'static str,
    zone: Timezone,
    now: i64,
    next: i64,
}

/// What keeps a job from being imported.
struct Refused(&'static str, Vec<u8>);

impl Refused {
    fn because(why: impl Into<Vec<u8>>) -> Self {
        Refused("not imported", why.into())
    }
}

/// Imports a job, or says what would become of it if not `write`.
pub fn import(source: &Source, write: bool) -> Result<Verdict> {
    admit::refuse_restricted()?;
    let name = source.schedule_name();
    let (outcome, detail) = match plan(source, &name)? {
        Err(Refused(outcome, why)) => (outcome, why),
        Ok(plan) if write => {
            admit::check_queue(QUEUE)?;
            admit::warn_unserved()?;
            match insert(source, &name, &plan)? {
                true => ("imported", plan.describe(source)),
                false => (
                    "not imported",
                    b"a schedule of that name was made meanwhile".to_vec(),
                ),
            }
        }
        Ok(plan) => ("would be imported", plan.describe(source)),
    };
    Ok(Verdict {
        name,
        outcome,
        detail,
    })
}

impl Source {
    /// Its own name, or one made of its number.
    fn schedule_name(&self) -> Vec<u8> {
        match &self.name {
            Some(name) if !name.is_empty() => name.clone(),
            _ => format!("pg_cron job {}", self.id).into_bytes(),
        }
    }

    /// Whether pg_cron connects to this server.
    fn is_local(&self) -> Result<bool> {
        if is_on(c"cron.use_background_workers", false)? {
            return Ok(true);
        }
        let usual = guc::value(c"cron.host")?.unwrap_or_default();
        let host = self.host.as_slice();
        let is_here = host == usual
            || host.starts_with(b"/")
            || [b"".as_slice(), b"localhost", b"127.0.0.1", b"::1"].contains(&host);
        let port = guc::value(c"port")?.unwrap_or_default();
        Ok(is_here && port == self.port.to_string().as_bytes())
    }
}

/// Whether a setting of pg_cron is on; `default` where pg_cron is not loaded, or does not know it.
fn is_on(name: &'static std::ffi::CStr, default: bool) -> Result<bool> {
    Ok(guc::value(name)?.map_or(default, |value| value == b"on"))
}

fn plan(source: &Source, name: &[u8]) -> Result<std::result::Result<Plan, Refused>> {
    let owner = match owner(source)? {
        Ok(owner) => owner,
        Err(refused) => return Ok(Err(refused)),
    };
    if let Err(refused) = limits::name("schedule name", name) {
        return Ok(Err(Refused::because(refused.to_string())));
    }
    if let Some(refused) = existing(source, owner, name)? {
        return Ok(Err(refused));
    }
    same_meaning(source, owner)
}

/// The job's user, if the job is this database's and the caller may schedule it.
fn owner(source: &Source) -> Result<std::result::Result<Oid, Refused>> {
    let role = source.role.as_slice();
    if source.database != catalog::current_database()? {
        let why = quoted("it runs in database ", &source.database, "");
        return Ok(Err(Refused::because(why)));
    }
    if !source.is_local()? {
        let why = quoted("it runs on the server at ", &source.host, "");
        let port = format!(", port {}", source.port);
        return Ok(Err(Refused::because([why, port.into_bytes()].concat())));
    }
    let Some(owner) = identity::role_named(role)? else {
        return Ok(Err(Refused::because(quoted(
            "role ",
            role,
            " does not exist",
        ))));
    };
    if !identity::has_rights_of(identity::current_role(), owner)? {
        let why = quoted("you do not have the rights of role ", role, "");
        return Ok(Err(Refused::because(why)));
    }
    if identity::role_is_superuser(owner)? && !is_on(c"cron.enable_superuser_jobs", true)? {
        let why = "pg_cron runs no jobs of superusers: \"cron.enable_superuser_jobs\" is off";
        return Ok(Err(Refused::because(why)));
    }
    match bar::bar(owner)? {
        Some(reason) => Ok(Err(Refused::because(reason.message))),
        None => Ok(Ok(owner)),
    }
}

/// What is said where the role has a schedule of that name.
fn existing(source: &Source, owner: Oid, name: &[u8]) -> Result<Option<Refused>> {
    let arguments = [Some(owner.datum()), Some(datum::text_datum(name)?)];
    let found = as_owner(&extension()?, |spi| {
        let rows = spi.run(&FIND, &arguments)?;
        rows.first()
            .map(|row| row.text(1).map(Option::unwrap_or_default))
            .transpose()
    })?;
    Ok(match found {
        None => None,
        Some(command) if command != source.command => Some(Refused::because(quoted(
            "role ",
            &source.role,
            " has another schedule of that name",
        ))),
        Some(_) if source.is_active => Some(Refused(
            "imported before",
            b"both run it: it is active in pg_cron again".to_vec(),
        )),
        Some(_) => Some(Refused("imported before", Vec::new())),
    })
}

fn same_meaning(source: &Source, owner: Oid) -> Result<std::result::Result<Plan, Refused>> {
    let name = guc::value(c"cron.timezone")?.unwrap_or_else(|| b"GMT".to_vec());
    let Some(zone) = Timezone::find(&name)? else {
        let why = quoted("time zone ", &name, " is not known");
        return Ok(Err(Refused::because(why)));
    };
    let original = super::ascii(&source.schedule);
    let now = super::now();
    let match_both = is_on(c"cron.match_dom_and_dow", false)?;
    let (text, overlap) = match pg_cron::read(&source.schedule, match_both) {
        // While a run takes longer, pg_cron keeps one in mind; that one more is left out here.
        Ok(Meaning::Every(seconds)) => (format!("every {seconds} seconds"), "skip"),
        Ok(Meaning::Entry(entry)) => match in_zone(&entry, &original, zone, now) {
            Ok(text) => (text, "queue"),
            Err(why) => return Ok(Err(Refused::because(why))),
        },
        Err(refusal) => return Ok(Err(Refused::because(refusal.to_string()))),
    };
    let rule = super::parse_rule(text.as_bytes(), now)?;
    Ok(match rule.next_after(now, &zone) {
        Some(next) => Ok(Plan {
            owner,
            text,
            overlap,
            zone,
            now,
            next,
        }),
        None => Err(Refused::because("it is never due")),
    })
}

/// The text of ours, if it means the same in that zone.
fn in_zone(
    entry: &Entry,
    original: &str,
    zone: Timezone,
    now: i64,
) -> std::result::Result<String, String> {
    let (text, expr): (String, CronExpr) = entry
        .text(original)
        .map_err(|refusal: Refusal| refusal.to_string())?;
    let Some(at) = entry.differs(&expr, &zone, now) else {
        return Ok(text);
    };
    let date = calendar::civil_from_days(calendar::split(zone::to_local(&zone, at)).0);
    Err(format!(
        "pg_cron leaves out times that the clock jumps over and repeats those that come twice, as on \
         {:04}-{:02}-{:02}; schedule it by hand",
        date.year, date.month, date.day
    ))
}

impl Plan {
    fn describe(&self, source: &Source) -> Vec<u8> {
        let paused = match source.is_active && launches().unwrap_or(true) {
            true => b"".as_slice(),
            false => b", paused",
        };
        let zone = quoted(", ", &self.zone.name(), "");
        let text = quoted("", self.text.as_bytes(), "");
        let role = quoted(" for role ", &source.role, "");
        [text.as_slice(), &zone, &role, paused].concat()
    }
}

/// Whether pg_cron launches anything.
fn launches() -> Result<bool> {
    is_on(c"cron.launch_active_jobs", true)
}

fn insert(source: &Source, name: &[u8], plan: &Plan) -> Result<bool> {
    let text = |value: &[u8]| datum::text_datum(value).map(Some);
    let is_active = source.is_active && launches()?;
    let arguments: [Option<Datum<'_>>; 8] = [
        text(name)?,
        Some(plan.owner.datum()),
        text(plan.text.as_bytes())?,
        text(&plan.zone.name())?,
        text(&source.command)?,
        text(plan.overlap.as_bytes())?,
        Some(plan.now.datum()),
        is_active.then(|| plan.next.datum()),
    ];
    as_owner(&extension()?, |spi| {
        Ok(spi.run(&INSERT, &arguments)?.count() > 0)
    })
}
