//! Who asks. Without --login there is one seat for all: that of the role that the environment names.
//! With it, each viewer shows a role's password to the server, and gets a session of some hours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Form;
use axum::extract::{FromRequestParts, Query, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;

use crate::App;
use crate::args::Args;
use crate::fault::Fault;
use crate::fmt::encode;
use crate::pgenv::Server;
use crate::seat::Seat;
use crate::views;

const SESSION_LASTS: Duration = Duration::from_secs(12 * 3600);
const SESSION_RESTS: Duration = Duration::from_secs(2 * 3600);
/// More than these are not kept: the one that has rested longest goes.
const MOST_SESSIONS: usize = 1000;
/// A wrong password costs that much, one after the other.
const WRONG_PASSWORD: Duration = Duration::from_secs(1);

/// What the client says where the server asks for a password and there is none. A server that says
/// anything else lets nobody in.
const PASSWORD_MISSING: &str = "password missing";

pub struct Door {
    server: Server,
    read_only: bool,
    statement_timeout: Duration,
    cookie: &'static str,
    secure: &'static str,
    /// The seat for all, if nobody is asked who he is.
    open: Option<(Arc<Seat>, String)>,
    sessions: Mutex<HashMap<String, Session>>,
    said: Mutex<HashMap<String, Said>>,
    one_at_a_time: tokio::sync::Mutex<()>,
}

struct Session {
    seat: Arc<Seat>,
    token: String,
    begun: Instant,
    used: Instant,
}

/// What became of an action, for the next page that its viewer sees.
#[derive(Clone, Debug)]
pub struct Said {
    token: String,
    at: Instant,
    pub good: bool,
    pub text: String,
}

/// Someone who may see pages: a seat, and the token that his forms carry.
pub struct Viewer {
    pub seat: Arc<Seat>,
    pub token: String,
    /// He can log out.
    pub by_login: bool,
    pub said: Option<Said>,
    /// The page that he asked for, query included.
    pub here: String,
}

impl Viewer {
    /// The same at that page: forms in a piece of it lead back there, not to its events.
    pub fn at(&self, here: String) -> Viewer {
        Viewer {
            seat: self.seat.clone(),
            token: self.token.clone(),
            by_login: self.by_login,
            said: None,
            here,
        }
    }
}

impl Door {
    pub fn new(args: &Args, server: Server) -> Result<Self, String> {
        let open = match args.login {
            true => None,
            false => Some((
                Seat::new(server.clone(), args.read_only, args.statement_timeout),
                random()?,
            )),
        };
        Ok(Door {
            server,
            read_only: args.read_only,
            statement_timeout: args.statement_timeout,
            cookie: if args.behind_tls {
                "__Host-my_worker"
            } else {
                "my_worker"
            },
            secure: if args.behind_tls { "; Secure" } else { "" },
            open,
            sessions: Mutex::default(),
            said: Mutex::default(),
            one_at_a_time: tokio::sync::Mutex::default(),
        })
    }

    pub fn asks(&self) -> bool {
        self.open.is_none()
    }

    pub fn role(&self) -> &str {
        self.server.config.get_user().unwrap_or_default()
    }

    /// The seat and token of whoever has that cookie.
    pub fn seat_of(&self, headers: &HeaderMap) -> Option<(Arc<Seat>, String)> {
        if let Some(open) = &self.open {
            return Some(open.clone());
        }
        let id = cookie(headers, self.cookie)?;
        let mut sessions = lock(&self.sessions);
        let session = sessions.get_mut(id)?;
        if session.begun.elapsed() > SESSION_LASTS || session.used.elapsed() > SESSION_RESTS {
            sessions.remove(id);
            return None;
        }
        session.used = Instant::now();
        Some((session.seat.clone(), session.token.clone()))
    }

    /// Remembers what to say on the next page; returns the page's address with a number of it.
    pub fn say(&self, viewer: &Viewer, back: &str, good: bool, text: String) -> String {
        let Ok(id) = random() else {
            return back.to_owned();
        };
        let mut said = lock(&self.said);
        said.retain(|_, said| said.at.elapsed() < Duration::from_secs(60));
        let joint = if back.contains('?') { '&' } else { '?' };
        let back = format!("{back}{joint}said={id}");
        said.insert(
            id,
            Said {
                token: viewer.token.clone(),
                at: Instant::now(),
                good,
                text,
            },
        );
        back
    }

    fn said(&self, token: &str, query: &str) -> Option<Said> {
        let id = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("said="))?;
        let mut all = lock(&self.said);
        (all.get(id)?.token == token)
            .then(|| all.remove(id))
            .flatten()
    }

    /// Has the server check a password: a connection that it lets in without one proves nothing.
    async fn admit(&self, role: &str, password: &str) -> Result<Arc<Seat>, Fault> {
        let mut server = self.server.clone();
        server.config.user(role);
        let without = Seat::new(server.clone(), true, self.statement_timeout);
        match without.check().await {
            Ok(()) => {
                eprintln!(
                    "my_worker_web: a login was refused: pg_hba.conf lets its role in without a password"
                );
                return Err(Fault::own(
                    "the server asks this role for no password here, so it cannot log in",
                ));
            }
            Err(Fault::Away(text)) if text.contains(PASSWORD_MISSING) => {}
            Err(fault) => return Err(fault),
        }
        server.config.password(password);
        let seat = Seat::new(server, self.read_only, self.statement_timeout);
        seat.check().await?;
        let sessions = lock(&self.sessions);
        let known = sessions
            .values()
            .map(|s| &s.seat)
            .find(|s| s.role() == role && s.has_password(password));
        Ok(known.cloned().unwrap_or(seat))
    }

    fn begin(&self, seat: Arc<Seat>) -> Result<String, String> {
        let (id, token, now) = (random()?, random()?, Instant::now());
        let mut sessions = lock(&self.sessions);
        sessions
            .retain(|_, s| s.begun.elapsed() < SESSION_LASTS && s.used.elapsed() < SESSION_RESTS);
        if sessions.len() >= MOST_SESSIONS
            && let Some(oldest) = sessions
                .iter()
                .min_by_key(|(_, s)| s.used)
                .map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(
            id.clone(),
            Session {
                seat,
                token,
                begun: now,
                used: now,
            },
        );
        Ok(format!(
            "{}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{}",
            self.cookie,
            SESSION_LASTS.as_secs(),
            self.secure
        ))
    }

    fn end(&self, headers: &HeaderMap) {
        if let Some(id) = cookie(headers, self.cookie) {
            lock(&self.sessions).remove(id);
        }
    }
}

impl Viewer {
    /// Whether a form is one of his own pages'. As long for a wrong token as for the right one.
    pub fn has_token(&self, given: &str) -> bool {
        let own = self.token.as_bytes();
        own.len() == given.len()
            && own
                .iter()
                .zip(given.bytes())
                .fold(0, |differ, (a, b)| differ | (a ^ b))
                == 0
    }
}

impl FromRequestParts<Arc<App>> for Viewer {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Response> {
        let here = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let query = parts.uri.query().unwrap_or_default();
        let Some((seat, token)) = app.door.seat_of(&parts.headers) else {
            return Err(match parts.uri.path() {
                "/live" => StatusCode::UNAUTHORIZED.into_response(),
                _ => Redirect::to(&format!("/login?next={}", encode(here))).into_response(),
            });
        };
        let said = app.door.said(&token, query);
        let here = without_said(here);
        Ok(Viewer {
            seat,
            token,
            by_login: app.door.asks(),
            said,
            here,
        })
    }
}

fn without_said(here: &str) -> String {
    let Some((path, query)) = here.split_once('?') else {
        return here.to_owned();
    };
    let rest: Vec<_> = query
        .split('&')
        .filter(|pair| !pair.starts_with("said=") && !pair.is_empty())
        .collect();
    if rest.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", rest.join("&"))
    }
}

/// A page of ours to go to, and never another site's.
pub fn local(address: &str) -> &str {
    let is_path = address.starts_with('/')
        && !address.starts_with("//")
        && !address.contains(['\\', '\r', '\n']);
    if is_path { address } else { "/" }
}

#[derive(Deserialize)]
pub struct Next {
    next: Option<String>,
}

#[derive(Deserialize)]
pub struct Login {
    role: String,
    password: String,
    next: Option<String>,
}

pub async fn login_page(State(app): State<Arc<App>>, Query(query): Query<Next>) -> Response {
    if !app.door.asks() {
        return Redirect::to("/").into_response();
    }
    views::login::page(query.next.as_deref().map_or("/", local), "", None).into_response()
}

pub async fn login(State(app): State<Arc<App>>, Form(form): Form<Login>) -> Response {
    if !app.door.asks() {
        return Redirect::to("/").into_response();
    }
    let _turn = app.door.one_at_a_time.lock().await;
    let next = form.next.as_deref().map_or("/", local);
    match app
        .door
        .admit(&form.role, &form.password)
        .await
        .map(|seat| app.door.begin(seat))
    {
        Ok(Ok(cookie)) => ([(header::SET_COOKIE, cookie)], Redirect::to(next)).into_response(),
        Ok(Err(text)) => (StatusCode::INTERNAL_SERVER_ERROR, text).into_response(),
        Err(fault) => {
            tokio::time::sleep(WRONG_PASSWORD).await;
            (
                StatusCode::FORBIDDEN,
                views::login::page(next, &form.role, Some(&fault)),
            )
                .into_response()
        }
    }
}

#[derive(Deserialize)]
pub struct Token {
    token: String,
}

pub async fn logout(
    State(app): State<Arc<App>>,
    viewer: Viewer,
    headers: HeaderMap,
    Form(form): Form<Token>,
) -> Response {
    if viewer.has_token(&form.token) {
        app.door.end(&headers);
    }
    let gone = format!(
        "{}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0{}",
        app.door.cookie, app.door.secure
    );
    ([(header::SET_COOKIE, gone)], Redirect::to("/login")).into_response()
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let all = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok());
    all.flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// 256 bits from the system.
fn random() -> Result<String, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|broken| broken.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_page_is_one_of_ours() {
        assert_eq!(local("/jobs?a=b"), "/jobs?a=b");
        for address in [
            "//evil.com",
            "https://evil.com",
            "/\\evil.com",
            "",
            "/a\r\nSet-Cookie: x",
        ] {
            assert_eq!(local(address), "/");
        }
    }

    #[test]
    fn what_was_said_is_not_asked_for_again() {
        assert_eq!(without_said("/jobs?a=b&said=12"), "/jobs?a=b");
        assert_eq!(without_said("/jobs?said=12"), "/jobs");
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        headers.insert(
            header::COOKIE,
            "xmy_worker=no; my_worker=yes".parse().unwrap(),
        );
        assert_eq!(cookie(&headers, "my_worker"), Some("yes"));
    }
}
