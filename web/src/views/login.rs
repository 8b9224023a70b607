//! Where a viewer shows his role's password.

use maud::{DOCTYPE, Markup, html};

use super::layout::{fault, head};
use crate::fault::Fault;

pub fn page(next: &str, role: &str, wrong: Option<&Fault>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { (head("Log in")) }
            body.login {
                main #main {
                    h1 { "my_worker" }
                    p { "Log in by a role of the PostgreSQL server. You see and may do what that role may." }
                    @if let Some(wrong) = wrong { (fault(wrong)) }
                    form method="post" action="/login" {
                        input type="hidden" name="next" value=(next);
                        label { "Role" input name="role" value=(role) required autofocus autocomplete="username" autocapitalize="off" spellcheck="false"; }
                        label { "Password" input name="password" type="password" required autocomplete="current-password"; }
                        button.main { "Log in" }
                    }
                }
            }
        }
    }
}
