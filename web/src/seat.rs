//! A role's seat: its one connection to the server, made when it is needed and made again when it
//! was lost. Whatever a viewer sees or does goes through the seat of the role that logged in.
//!
//! The session is read only; an action opens a transaction that says otherwise. So a read of ours
//! cannot write, whatever function stands behind a view.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex as Short};
use std::time::{Duration, Instant};

use futures_util::future::poll_fn;
use tokio::sync::{Mutex, MutexGuard};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Connection, Row, Socket, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::fault::Fault;
use crate::live::Live;
use crate::pgenv::Server;

/// A connection over TLS, or without it where the server has none.
type OverTls = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;
pub type Param<'a> = (&'a (dyn ToSql + Sync), Type);

const LIMIT: &str = "SELECT set_config('statement_timeout', $1, true)";
const ABILITIES: &str = include_str!("sql/abilities.sql");

/// How long what the role may do is believed: a grant shows so much later.
const ABILITIES_LAST: Duration = Duration::from_secs(10);

pub struct Seat {
    server: Server,
    pub read_only: bool,
    statement_timeout: Duration,
    link: Mutex<Option<Link>>,
    pub live: Live,
}

/// An open connection.
struct Link {
    client: Client,
    notices: Arc<Short<Vec<String>>>,
    prepared: HashMap<&'static str, Statement>,
    abilities: Option<(Instant, Arc<Abilities>)>,
}

/// Who the role is, and what it may do.
#[derive(Debug, Default)]
pub struct Abilities {
    pub role: String,
    pub database: String,
    pub server: String,
    pub standby: bool,
    /// The extension's version, if it is there.
    pub extension: Option<String>,
    /// Names of functions of the schema my_worker that the role may execute, and of its views and
    /// tables that it may read.
    may: HashSet<String>,
}

impl Abilities {
    pub fn may(&self, name: &str) -> bool {
        self.may.contains(name)
    }

    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Abilities {
            role: row.try_get(0)?,
            database: row.try_get(1)?,
            server: row.try_get(2)?,
            standby: row.try_get(3)?,
            extension: row.try_get(4)?,
            may: row.try_get::<_, Vec<String>>(5)?.into_iter().collect(),
        })
    }
}

impl Seat {
    pub fn new(server: Server, read_only: bool, statement_timeout: Duration) -> Arc<Self> {
        Arc::new(Seat {
            server,
            read_only,
            statement_timeout,
            link: Mutex::new(None),
            live: Live::new(),
        })
    }

    pub fn role(&self) -> &str {
        self.server.config.get_user().unwrap_or_default()
    }

    pub fn has_password(&self, password: &str) -> bool {
        self.server
            .config
            .get_password()
            .is_some_and(|own| own == password.as_bytes())
    }

    /// Takes the connection for some statements; others wait. Connects first if need be.
    pub async fn open(&self) -> Result<Session<'_>, Fault> {
        let mut guard = self.link.lock().await;
        if guard.as_ref().is_some_and(|link| link.client.is_closed()) {
            *guard = None;
        }
        if guard.is_none() {
            *guard = Some(Link::make(&self.server, self.statement_timeout).await?);
        }
        Ok(Session {
            guard,
            read_only: self.read_only,
        })
    }

    /// What the role may do; the answer may be some seconds old.
    pub async fn abilities(&self) -> Result<Arc<Abilities>, Fault> {
        self.open().await?.abilities().await
    }

    /// Connects, if it is not connected yet: whether the server lets the role in.
    pub async fn check(&self) -> Result<(), Fault> {
        self.open().await.map(|_| ())
    }
}

impl Link {
    async fn make(server: &Server, timeout: Duration) -> Result<Self, Fault> {
        let mut config = server.config.clone();
        config.application_name("my_worker_web");
        let (client, connection) = config.connect(server.tls.connect.clone()).await?;
        let notices = Arc::new(Short::new(Vec::new()));
        tokio::spawn(follow(connection, notices.clone()));
        // What the role's own settings and PGOPTIONS say comes before these.
        let settings = format!(
            "SET search_path = pg_catalog, pg_temp; SET default_transaction_read_only = on; \
             SET statement_timeout = {}; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = '10s'; \
             SET client_min_messages = warning; SET datestyle = 'ISO'; SET intervalstyle = 'postgres'; \
             SET bytea_output = 'hex'; SET jit = off",
            timeout.as_millis()
        );
        client.batch_execute(&settings).await?;
        Ok(Link {
            client,
            notices,
            prepared: HashMap::new(),
            abilities: None,
        })
    }
}

impl Link {
    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, Fault> {
        if let Some(known) = self.prepared.get(sql) {
            return Ok(known.clone());
        }
        let new = self.client.prepare(sql).await?;
        self.prepared.insert(sql, new.clone());
        Ok(new)
    }
}

/// Drives the connection until it ends, and keeps what the server says beside its answers.
async fn follow(mut connection: OverTls, notices: Arc<Short<Vec<String>>>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notice(notice) = message
            && let Ok(mut kept) = notices.lock()
            && kept.len() < 20
        {
            kept.push(notice.message().to_owned());
        }
    }
}

/// The connection, taken.
pub struct Session<'a> {
    guard: MutexGuard<'a, Option<Link>>,
    read_only: bool,
}

impl Session<'_> {
    fn link(&mut self) -> Result<&mut Link, Fault> {
        self.guard
            .as_mut()
            .ok_or_else(|| Fault::Away("not connected".to_owned()))
    }

    /// A statement that is planned for these values.
    pub async fn rows(&mut self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Fault> {
        Ok(self.link()?.client.query_typed(sql, params).await?)
    }

    /// A statement that is asked again and again: prepared once for the connection.
    pub async fn often(
        &mut self,
        sql: &'static str,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        let link = self.link()?;
        let statement = link.prepare(sql).await?;
        let answer = link.client.query(&statement, params).await;
        // A view that was replaced meanwhile makes the plan's row type a stale one.
        if answer.is_err() {
            link.prepared.remove(sql);
        }
        Ok(answer?)
    }

    /// The same, which may take so long and no longer.
    pub async fn often_within(
        &mut self,
        limit: Duration,
        sql: &'static str,
    ) -> Result<Vec<Row>, Fault> {
        let link = self.link()?;
        let statement = link.prepare(sql).await?;
        let inside = link.client.transaction().await?;
        let ms = limit.as_millis().max(1).to_string();
        inside.query_typed(LIMIT, &[(&ms, Type::TEXT)]).await?;
        let answer = inside.query(&statement, &[]).await;
        match answer {
            Ok(rows) => {
                inside.commit().await?;
                Ok(rows)
            }
            Err(error) => {
                drop(inside);
                link.prepared.remove(sql);
                Err(error.into())
            }
        }
    }

    /// Reads that may take so long and no longer; one that did not end fails alone.
    pub async fn rows_within(
        &mut self,
        limit: Duration,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, Fault> {
        let client = &mut self.link()?.client;
        let inside = client.transaction().await?;
        let ms = limit.as_millis().max(1).to_string();
        inside.query_typed(LIMIT, &[(&ms, Type::TEXT)]).await?;
        let rows = inside.query_typed(sql, params).await?;
        inside.commit().await?;
        Ok(rows)
    }

    /// An action: one statement in a transaction of its own that may write. Returns its only value
    /// as text, and what the server said beside it.
    pub async fn act(
        &mut self,
        sql: &str,
        params: &[Param<'_>],
    ) -> Result<(Option<String>, Vec<String>), Fault> {
        if self.read_only {
            return Err(Fault::own("this dashboard was started with --read-only"));
        }
        let link = self.link()?;
        if let Ok(mut kept) = link.notices.lock() {
            kept.clear();
        }
        let inside = link
            .client
            .build_transaction()
            .read_only(false)
            .start()
            .await?;
        inside
            .batch_execute("SET LOCAL statement_timeout = '10s'")
            .await?;
        let row = inside.query_typed(sql, params).await?.into_iter().next();
        let value = row
            .map(|row| row.try_get::<_, Option<String>>(0))
            .transpose()?
            .flatten();
        inside.commit().await?;
        let said = link
            .notices
            .lock()
            .map(|mut kept| std::mem::take(&mut *kept))
            .unwrap_or_default();
        Ok((value, said))
    }

    pub async fn abilities(&mut self) -> Result<Arc<Abilities>, Fault> {
        if let Some((at, known)) = &self.link()?.abilities
            && at.elapsed() < ABILITIES_LAST
        {
            return Ok(known.clone());
        }
        let rows = self.often(ABILITIES, &[]).await?;
        let row = rows
            .first()
            .ok_or_else(|| Fault::own("the server gave no answer"))?;
        let found = Arc::new(Abilities::read(row)?);
        self.link()?.abilities = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}
