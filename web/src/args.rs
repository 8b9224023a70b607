//! The command line, read once at the start.

use std::net::SocketAddr;
use std::time::Duration;

use lexopt::prelude::*;

pub const HELP: &str = "\
my_worker_web: a dashboard for my_worker

Usage: my_worker_web [OPTION]... [CONNECTION STRING]

Connects as psql does: by a connection string or URL, else by PGHOST, PGPORT, PGUSER, PGDATABASE,
PGPASSWORD, PGPASSFILE and PGOPTIONS. Shows and does what that role may.

  --listen ADDRESS:PORT   where browsers reach it (127.0.0.1:8432); port 0 takes a free one
  --read-only             show everything, change nothing
  --login                 each viewer logs in by a PostgreSQL role and its password
  --host NAME             a name that browsers may use for it, beside localhost and addresses;
                          may be given several times
  --behind-tls            a proxy adds TLS: cookies are sent over https only
  --statement-timeout MS  the longest that a statement of a page may run (500)
  --verbose               a line in the log for each request, without what was asked for
  -h, --help              this text
  -V, --version           the version
";

#[derive(Clone, Debug)]
pub struct Args {
    pub listen: SocketAddr,
    pub read_only: bool,
    pub login: bool,
    pub hosts: Vec<String>,
    pub behind_tls: bool,
    pub statement_timeout: Duration,
    pub verbose: bool,
    pub connection: Option<String>,
}

pub enum Wish {
    Serve(Args),
    Say(String),
}

pub fn parse(mut parser: lexopt::Parser) -> Result<Wish, lexopt::Error> {
    let mut args = Args {
        listen: SocketAddr::from(([127, 0, 0, 1], 8432)),
        read_only: false,
        login: false,
        hosts: Vec::new(),
        behind_tls: false,
        statement_timeout: Duration::from_millis(500),
        verbose: false,
        connection: None,
    };
    while let Some(arg) = parser.next()? {
        match arg {
            Long("listen") => args.listen = parser.value()?.parse()?,
            Long("read-only") => args.read_only = true,
            Long("login") => args.login = true,
            Long("host") => args.hosts.push(parser.value()?.string()?.to_lowercase()),
            Long("behind-tls") => args.behind_tls = true,
            Long("statement-timeout") => {
                let ms: u32 = parser.value()?.parse()?;
                if !(50..=60_000).contains(&ms) {
                    return Err("--statement-timeout takes 50 to 60000 milliseconds".into());
                }
                args.statement_timeout = Duration::from_millis(u64::from(ms));
            }
            Long("verbose") => args.verbose = true,
            Short('h') | Long("help") => return Ok(Wish::Say(HELP.to_owned())),
            Short('V') | Long("version") => {
                return Ok(Wish::Say(format!(
                    "my_worker_web {}\n",
                    env!("CARGO_PKG_VERSION")
                )));
            }
            Value(text) if args.connection.is_none() => args.connection = Some(text.string()?),
            _ => return Err(arg.unexpected()),
        }
    }
    Ok(Wish::Serve(args))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serve(args: &[&str]) -> Args {
        match parse(lexopt::Parser::from_args(args)).unwrap() {
            Wish::Serve(args) => args,
            Wish::Say(text) => panic!("{text}"),
        }
    }

    #[test]
    fn binds_to_this_machine_unless_told_otherwise() {
        assert!(serve(&[]).listen.ip().is_loopback());
        assert_eq!(
            serve(&["--listen", "0.0.0.0:80"]).listen.to_string(),
            "0.0.0.0:80"
        );
    }

    #[test]
    fn takes_one_connection_string() {
        assert_eq!(serve(&["dbname=x"]).connection.as_deref(), Some("dbname=x"));
        assert!(parse(lexopt::Parser::from_args(["a", "b"])).is_err());
        assert!(parse(lexopt::Parser::from_args(["--statement-timeout", "1"])).is_err());
    }
}
