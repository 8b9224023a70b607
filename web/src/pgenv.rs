//! Where the server is and who logs in: the connection string, else what libpq's environment says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::sslwords;
use crate::tls::{self, Tls};

/// The environment as a function, so that tests need not change the process's own.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A server, and how it is reached.
#[derive(Clone)]
pub struct Server {
    pub config: Config,
    pub tls: Tls,
}

/// With `login` each viewer brings role and password, and a password of our own must not open the door.
pub fn server(connection: Option<&str>, login: bool, env: Env) -> Result<Server, String> {
    let (text, given) = sslwords::part(connection.unwrap_or_default());
    let mut config: Config = text
        .parse()
        .map_err(|e| format!("in the connection string: {e}"))?;
    add_hosts(&mut config, env)?;
    add_role(&mut config, login, env)?;
    let over_socket = config
        .get_hosts()
        .iter()
        .all(|host| matches!(host, Host::Unix(_)))
        && config.get_hostaddrs().is_empty();
    let tls = tls::tls(given, over_socket, env)?;
    config.ssl_mode(tls.mode);
    Ok(Server { config, tls })
}

fn add_role(config: &mut Config, login: bool, env: Env) -> Result<(), String> {
    if config.get_user().is_none() {
        let user = env("PGUSER")
            .or_else(|| env("USER"))
            .or_else(|| env("LOGNAME"));
        config.user(user.ok_or("who logs in is not known: set PGUSER")?);
    }
    if config.get_dbname().is_none() {
        let user = config.get_user().unwrap_or_default().to_owned();
        config.dbname(env("PGDATABASE").unwrap_or(user));
    }
    if config.get_options().is_none() {
        env("PGOPTIONS").map(|options| config.options(options));
    }
    if login {
        if config.get_password().is_some() {
            return Err(
                "a password in the connection string and --login exclude each other".to_owned(),
            );
        }
    } else if config.get_password().is_none() {
        env("PGPASSWORD")
            .or_else(|| password_from_file(config, env))
            .map(|p| config.password(p));
    }
    if config.get_connect_timeout().is_none() {
        let seconds = env("PGCONNECT_TIMEOUT")
            .and_then(|s| s.parse().ok())
            .unwrap_or(3);
        config.connect_timeout(Duration::from_secs(seconds));
    }
    Ok(())
}

fn add_hosts(config: &mut Config, env: Env) -> Result<(), String> {
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let hosts = env("PGHOST")
            .or_else(|| env("PGHOSTADDR"))
            .unwrap_or_else(default_host);
        for host in hosts.split(',') {
            config.host(host);
        }
    }
    if config.get_ports().is_empty() {
        for port in env("PGPORT")
            .unwrap_or_else(|| "5432".to_owned())
            .split(',')
        {
            config.port(
                port.parse()
                    .map_err(|_| format!("PGPORT is no port: {port}"))?,
            );
        }
    }
    Ok(())
}

/// libpq's default is a directory that its packager chose: Debian's, then the project's own.
fn default_host() -> String {
    ["/var/run/postgresql", "/tmp"]
        .into_iter()
        .find(|dir| Path::new(dir).join(".s.PGSQL.5432").exists())
        .unwrap_or("localhost")
        .to_owned()
}

// ---- .pgpass --------------------------------------------------------------------------------

fn password_from_file(config: &Config, env: Env) -> Option<String> {
    let path = env("PGPASSFILE")
        .map(PathBuf::from)
        .or_else(|| env("HOME").map(|home| PathBuf::from(home).join(".pgpass")))?;
    if is_open_to_others(&path) {
        eprintln!(
            "my_worker_web: {} is open to others, and is left out: chmod 600",
            path.display()
        );
        return None;
    }
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) => name.clone(),
        // libpq: a socket in the default directory is "localhost".
        _ => "localhost".to_owned(),
    };
    let port = config
        .get_ports()
        .first()
        .copied()
        .unwrap_or(5432)
        .to_string();
    let wanted = [
        host.as_str(),
        &port,
        config.get_dbname()?,
        config.get_user()?,
    ];
    password_for(&std::fs::read_to_string(path).ok()?, wanted)
}

fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

/// The password of the first line whose four fields are those wanted, or `*`.
fn password_for(file: &str, wanted: [&str; 4]) -> Option<String> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = split_fields(line);
            let (password, names) = fields.split_last()?;
            let fits =
                names.len() == 4 && names.iter().zip(wanted).all(|(f, w)| f == "*" || f == w);
            fits.then(|| password.clone())
        })
}

/// Fields are parted by colons; a backslash takes the next character as it is.
fn split_fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        let letter = match letter {
            ':' if fields.len() < 5 => {
                fields.push(String::new());
                continue;
            }
            '\\' => letters.next().unwrap_or('\\'),
            other => other,
        };
        if let Some(last) = fields.last_mut() {
            last.push(letter);
        }
    }
    fields
}

pub fn of_process(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn read(connection: Option<&str>, values: &[(&str, &str)]) -> Result<Config, String> {
        let env = |name: &str| {
            values
                .iter()
                .find(|(k, _)| *k == name)
                .map(|(_, v)| (*v).to_owned())
        };
        server(connection, false, &env).map(|server| server.config)
    }

    #[test]
    fn environment_is_that_of_libpq() {
        let c = read(
            None,
            &[("PGHOST", "/run/x"), ("PGPORT", "5433"), ("PGUSER", "ann")],
        )
        .unwrap();
        assert_eq!(c.get_hosts(), [Host::Unix("/run/x".into())]);
        assert_eq!((c.get_ports(), c.get_dbname()), (&[5433][..], Some("ann")));
    }

    #[test]
    fn connection_string_wins() {
        let c = read(
            Some("host=a dbname=b user=c"),
            &[("PGHOST", "x"), ("PGDATABASE", "y")],
        )
        .unwrap();
        assert_eq!(c.get_hosts(), [Host::Tcp("a".into())]);
        assert_eq!((c.get_dbname(), c.get_user()), (Some("b"), Some("c")));
    }

    #[test]
    fn password_file_goes_by_its_first_line_that_fits() {
        let file = "# x\nother:*:*:ann:no\n*:5432:my\\:db:ann:a\\:b:c\n*:*:*:*:last\n";
        assert_eq!(
            password_for(file, ["h", "5432", "my:db", "ann"]).as_deref(),
            Some("a:b:c")
        );
        assert_eq!(
            password_for(file, ["h", "5432", "d", "bob"]).as_deref(),
            Some("last")
        );
    }

    #[test]
    fn tls_is_for_hosts_and_not_for_sockets() {
        let mode = |values: &[_]| read(None, values).map(|c| c.get_ssl_mode());
        assert_eq!(
            mode(&[("PGUSER", "a"), ("PGHOST", "h")]),
            Ok(SslMode::Prefer)
        );
        assert_eq!(
            mode(&[("PGUSER", "a"), ("PGHOST", "h"), ("PGSSLMODE", "require")]),
            Ok(SslMode::Require)
        );
        assert_eq!(
            mode(&[
                ("PGUSER", "a"),
                ("PGHOST", "/run"),
                ("PGSSLMODE", "require")
            ]),
            Ok(SslMode::Disable)
        );
        assert!(
            mode(&[
                ("PGUSER", "a"),
                ("PGHOST", "h"),
                ("PGSSLMODE", "verify-full")
            ])
            .is_err()
        );
        assert_eq!(
            read(
                Some("user=a host=h sslmode=disable"),
                &[("PGSSLMODE", "require")]
            )
            .map(|c| c.get_ssl_mode()),
            Ok(SslMode::Disable)
        );
    }
}
