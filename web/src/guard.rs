//! Looks at each request before anything else does, and sets what all answers carry.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::App;

/// Nothing from elsewhere, nothing inline, in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(POLICY),
    ),
    (
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    ),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut answer = match refusal(request.method(), request.headers(), &app.args.hosts) {
        Some(why) => (StatusCode::FORBIDDEN, format!("{why}\n")).into_response(),
        None => next.run(request).await,
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, value);
    }
    // What a role sees must not stay in a cache.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    if app.args.verbose {
        // The path alone: the query may hold part of a payload.
        eprintln!(
            "{method} {path} {} {:.1} ms",
            answer.status().as_u16(),
            begin.elapsed().as_secs_f64() * 1000.0
        );
    }
    answer
}

fn refusal(method: &Method, headers: &HeaderMap, names: &[String]) -> Option<&'static str> {
    let host = text(headers, &header::HOST).unwrap_or_default();
    if !is_ours(host, names) {
        return Some("this name is not known here: start with --host NAME to allow it");
    }
    if *method == Method::GET || *method == Method::HEAD {
        return None;
    }
    let site = text(headers, &HeaderName::from_static("sec-fetch-site"));
    let origin = text(headers, &header::ORIGIN)
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, host)| host);
    let from_elsewhere = !matches!(site, None | Some("same-origin" | "none"))
        || text(headers, &header::ORIGIN).is_some() && origin.is_none_or(|origin| origin != host);
    from_elsewhere.then_some("the request comes from another site")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A page of somebody else can make a name of theirs point here, but no address and no localhost.
fn is_ours(host: &str, names: &[String]) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_lowercase();
    name == "localhost" || name.parse::<IpAddr>().is_ok() || names.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_are_refused() {
        let names = ["jobs.example.com".to_owned()];
        for host in [
            "localhost:80",
            "127.0.0.1:8432",
            "[::1]:1",
            "10.0.0.1",
            "JOBS.example.com:443",
        ] {
            assert!(is_ours(host, &names), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "localhost.evil.com",
            "127.0.0.1.evil.com:80",
            "evil.com:127",
        ] {
            assert!(!is_ours(host, &names), "{host}");
        }
    }

    #[test]
    fn posts_from_other_sites_are_refused() {
        let post = |headers: &[(&'static str, &'static str)]| {
            let mut map = HeaderMap::new();
            map.insert("host", HeaderValue::from_static("localhost:8432"));
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            refusal(&Method::POST, &map, &[]).is_none()
        };
        assert!(post(&[]));
        assert!(post(&[
            ("origin", "http://localhost:8432"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!post(&[("origin", "http://evil.com")]));
        assert!(!post(&[("origin", "null")]));
        assert!(!post(&[("sec-fetch-site", "cross-site")]));
        assert!(!post(&[("sec-fetch-site", "same-site")]));
    }
}
