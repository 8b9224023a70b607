//! my_worker_web: a dashboard for my_worker. One binary, a client of PostgreSQL like any other.
//!
//! A browser asks; `guard` looks at the request, `door` at who asks; a page of `views` is drawn from
//! a `snapshot`, which the viewer's `seat` takes over its one connection. An open page hangs on
//! `events`, which `live` feeds once a second. `actions` is the only way to change anything.

mod actions;
mod args;
mod assets;
mod columns;
mod door;
mod events;
mod fault;
mod fmt;
mod guard;
mod live;
mod minutes;
mod pace;
mod pages;
mod pgenv;
mod search;
mod seat;
mod snapshot;
mod spark;
mod sslwords;
mod tls;
mod views;

use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;

use crate::args::{Args, Wish};
use crate::door::Door;

/// What every request may need.
pub struct App {
    pub args: Args,
    pub door: Door,
}

/// The largest form that is read.
const LARGEST_FORM: usize = 64 * 1024;

fn main() -> ExitCode {
    let args = match args::parse(lexopt::Parser::from_env()) {
        Ok(Wish::Serve(args)) => args,
        Ok(Wish::Say(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&format!("{error}; --help lists the options")),
    };
    // One thread: the work is the server's, and pages are small.
    match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => match runtime.block_on(serve(args)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(text) => fail(&text),
        },
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("my_worker_web: {text}");
    ExitCode::FAILURE
}

async fn serve(args: Args) -> Result<(), String> {
    let server = pgenv::server(args.connection.as_deref(), args.login, &pgenv::of_process)?;
    let listener = TcpListener::bind(args.listen)
        .await
        .map_err(|e| format!("{}: {e}", args.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let door = Door::new(&args, server)?;
    if !door.asks() && !address.ip().is_loopback() {
        eprintln!(
            "my_worker_web: whoever reaches {address} acts as role {}: --login asks each viewer for a role",
            door.role()
        );
    }
    println!("my_worker_web: http://{address}/");
    let app = Arc::new(App { args, door });
    axum::serve(listener, routes(app))
        .with_graceful_shutdown(told_to_stop())
        .await
        .map_err(|e| e.to_string())
}

fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(pages::overview))
        .route("/queue", get(pages::queue))
        .route("/jobs", get(pages::jobs::jobs))
        .route("/jobs/more", get(pages::jobs::more))
        .route("/job/{id}", get(pages::jobs::job))
        .route("/schedules", get(pages::schedules::schedules))
        .route("/schedules/preview", get(pages::schedules::preview))
        .route("/processes", get(pages::processes))
        .route("/consumers", get(pages::consumers))
        .route("/dead", get(pages::jobs::dead))
        .route("/handlers", get(pages::handlers))
        .route("/settings", get(pages::settings))
        .route("/live", get(events::live))
        .route("/do/{what}", post(actions::act))
        .route("/login", get(door::login_page).post(door::login))
        .route("/logout", post(door::logout))
        .route("/assets/{name}", get(assets::serve))
        .fallback(pages::missing)
        .layer(DefaultBodyLimit::max(LARGEST_FORM))
        .layer(axum::middleware::from_fn_with_state(
            app.clone(),
            guard::guard,
        ))
        .with_state(app)
}

/// Open pages hang on events that never end: they are cut a moment later.
async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut term), Ok(mut int)) = (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    tokio::spawn(async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        std::process::exit(0);
    });
}
