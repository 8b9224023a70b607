//! The frame around each page.

use maud::{DOCTYPE, Markup, html};

use crate::assets::VERSION;
use crate::door::Viewer;
use crate::fault::Fault;
use crate::seat::Abilities;
use crate::snapshot::{Part, Snapshot};

/// Pages in the order of the menu: name, address, and the key that follows `g`.
const MENU: [(&str, &str, char); 8] = [
    ("Overview", "/", 'o'),
    ("Jobs", "/jobs", 'j'),
    ("Schedules", "/schedules", 's'),
    ("Processes", "/processes", 'p'),
    ("Consumers", "/consumers", 'c'),
    ("Dead letters", "/dead", 'd'),
    ("Handlers", "/handlers", 'h'),
    ("Settings", "/settings", 't'),
];

#[derive(Default)]
pub struct Page {
    pub title: String,
    /// The address in the menu that stands for it.
    pub menu: &'static str,
    /// What /live is asked for while the page is open.
    pub live: String,
    pub body: Markup,
    pub health: Markup,
}

pub fn head(title: &str) -> Markup {
    html! {
        meta charset="utf-8";
        meta name="viewport" content="width=device-width, initial-scale=1";
        meta name="color-scheme" content="light dark";
        meta name="htmx-config" content=r#"{"includeIndicatorStyles":false,"allowEval":false,"allowScriptTags":false,"selfRequestsOnly":true,"historyEnabled":false,"defaultSwapStyle":"outerHTML"}"#;
        title { (title) " · my_worker" }
        link rel="icon" href=(asset("icon.svg"));
        link rel="stylesheet" href=(asset("style.css"));
        script src=(asset("theme.js")) {}
        script src=(asset("htmx.js")) defer {}
        script src=(asset("app.js")) defer {}
    }
}

fn asset(name: &str) -> String {
    format!("/assets/{name}?{VERSION}")
}

pub fn frame(viewer: &Viewer, can: Option<&Abilities>, page: Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head(&page.title)) }
            body data-live=(page.live) {
                a.skip href="#main" { "Skip to the page" }
                header {
                    a.brand href="/" { "my_worker" }
                    nav aria-label="Pages" {
                        @for (name, address, key) in MENU {
                            a href=(address) data-key=(key) aria-current=[(page.menu == address).then_some("page")] { (name) }
                        }
                    }
                    (about(viewer, can, &page.health))
                }
                p #lost role="status" hidden {}
                main #main tabindex="-1" {
                    @if let Some(said) = &viewer.said {
                        p.said.bad[!said.good] role="status" { (said.text) }
                    }
                    h1 { (page.title) }
                    (page.body)
                }
                (keys())
            }
        }
    }
}

fn about(viewer: &Viewer, can: Option<&Abilities>, health: &Markup) -> Markup {
    html! {
        div.about {
            span #health { (health) }
            span.who title="role and database" {
                @match can {
                    Some(can) => { (can.role) "@" (can.database) },
                    None => (viewer.seat.role()),
                }
            }
            @if viewer.seat.read_only { span.tag { "read only" } }
            @if can.is_some_and(|can| can.standby) { span.tag.warn { "standby" } }
            button #theme type="button" title="Theme: as the system, dark or light (t)" { "Theme" }
            button #help type="button" title="Keys (?)" { "Keys" }
            @if viewer.by_login {
                form method="post" action="/logout" { (token(viewer)) button { "Log out" } }
            }
        }
    }
}

fn keys() -> Markup {
    html! {
        dialog #keys aria-labelledby="keys-title" {
            h2 #keys-title { "Keys" }
            dl {
                @for (name, _, key) in MENU { div { dt { kbd { "g" } " " kbd { (key) } } dd { (name) } } }
                div { dt { kbd { "/" } } dd { "Filter" } }
                div { dt { kbd { "j" } " " kbd { "k" } } dd { "Next and previous row" } }
                div { dt { kbd { "Enter" } } dd { "Open the row" } }
                div { dt { kbd { "t" } } dd { "Theme" } }
                div { dt { kbd { "?" } } dd { "This list" } }
            }
            p { label { input #keys-on type="checkbox" checked; " Single keys work" } }
            form method="dialog" { button { "Close" } }
        }
    }
}

pub fn token(viewer: &Viewer) -> Markup {
    html! { input type="hidden" name="token" value=(viewer.token); }
}

/// A button that does one thing: a form, so that it works without a script; with it the page stays.
pub fn button(viewer: &Viewer, what: &str, label: &str, fields: &[(&str, &str)]) -> Markup {
    html! {
        form.do method="post" action=(format!("/do/{what}")) hx-post=(format!("/do/{what}"))
            hx-target="#main" hx-select="#main" hx-swap="outerHTML show:none" {
            (token(viewer))
            input type="hidden" name="back" value=(viewer.here);
            @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
            button { (label) }
        }
    }
}

/// Whether all is well, in one line.
pub fn health(snapshot: Option<&Snapshot>) -> Markup {
    let checks = match snapshot.map(|s| &s.health) {
        Some(Ok(checks)) => checks,
        _ => return html! { a.health.unknown href="/#health-list" { "health unknown" } },
    };
    let bad: Vec<_> = checks
        .iter()
        .filter(|c| !c.ok)
        .map(|c| c.name.as_str())
        .collect();
    html! {
        @if bad.is_empty() {
            a.health.good href="/#health-list" { "healthy" }
        } @else {
            a.health.bad href="/#health-list" title=(bad.join(", ")) {
                (bad.len()) @if bad.len() == 1 { " check fails" } @else { " checks fail" }
            }
        }
    }
}

/// What stands in place of a part that could not be read.
pub fn fault(fault: &Fault) -> Markup {
    // A refusal for want of rights is an answer, and no alarm.
    let denied = fault.is_denied() || matches!(fault, Fault::Own(_));
    html! {
        div.fault.denied[denied] role=(if denied { "note" } else { "alert" }) {
            p { @if fault.is_denied() { "Not for this role: " } (fault.text()) }
            @if let Fault::Refused { detail, hint, .. } = fault {
                @if let Some(detail) = detail { p { (detail) } }
                @if let Some(hint) = hint { p { "Hint: " (hint) } }
            }
        }
    }
}

pub fn part<T>(part: &Part<T>, show: impl FnOnce(&T) -> Markup) -> Markup {
    match part {
        Ok(value) => show(value),
        Err(error) => fault(error),
    }
}

/// The page that says that there is no page: the server is away, or has refused.
pub fn trouble(viewer: &Viewer, fault_: &Fault) -> Markup {
    let title = if fault_.is_away() {
        "The server does not answer"
    } else {
        "That did not work"
    };
    let body = html! {
        (fault(fault_))
        @if fault_.is_away() {
            p { "This page looks again by itself." }
            p { a href=(viewer.here) { "Look now" } }
        }
    };
    let live = if fault_.is_away() {
        "page=away".to_owned()
    } else {
        String::new()
    };
    frame(
        viewer,
        None,
        Page {
            title: title.to_owned(),
            live,
            body,
            health: health(None),
            ..Page::default()
        },
    )
}
