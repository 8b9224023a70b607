//! What can go wrong on the way to an answer, in words for the viewer.

use tokio_postgres::error::SqlState;

#[derive(Clone, Debug)]
pub enum Fault {
    /// The server cannot be reached, or the connection was lost.
    Away(String),
    /// The server has refused a statement.
    Refused {
        code: String,
        message: String,
        detail: Option<String>,
        hint: Option<String>,
    },
    /// The dashboard itself has refused.
    Own(String),
}

impl Fault {
    pub fn own(text: impl Into<String>) -> Self {
        Fault::Own(text.into())
    }

    pub fn is_away(&self) -> bool {
        matches!(self, Fault::Away(_))
    }

    pub fn is_code(&self, state: &SqlState) -> bool {
        matches!(self, Fault::Refused { code, .. } if code == state.code())
    }

    /// The role has no right to that: for many pages that is an answer, and no fault.
    pub fn is_denied(&self) -> bool {
        self.is_code(&SqlState::INSUFFICIENT_PRIVILEGE)
    }

    pub fn is_timeout(&self) -> bool {
        self.is_code(&SqlState::QUERY_CANCELED)
    }

    /// For the log: what the server says may quote a payload, so its code alone.
    pub fn code(&self) -> &str {
        match self {
            Fault::Away(_) => "connection",
            Fault::Refused { code, .. } => code,
            Fault::Own(_) => "own",
        }
    }

    pub fn text(&self) -> String {
        match self {
            Fault::Away(text) | Fault::Own(text) => text.clone(),
            Fault::Refused { code, message, .. } => format!("{message} (SQLSTATE {code})"),
        }
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(told) = error.as_db_error() else {
            return Fault::Away(with_cause(&error));
        };
        // Class 57P is the server's way to say goodbye.
        if told.code().code().starts_with("57P") {
            return Fault::Away(told.message().to_owned());
        }
        Fault::Refused {
            code: told.code().code().to_owned(),
            message: told.message().to_owned(),
            detail: told.detail().map(str::to_owned),
            hint: told.hint().map(str::to_owned),
        }
    }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}
