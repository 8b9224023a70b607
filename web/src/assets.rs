//! What browsers load beside pages: all of it is in the binary.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

const CSS: &str = include_str!("../assets/style.css");
const APP: &str = include_str!("../assets/app.js");
const THEME: &str = include_str!("../assets/theme.js");
const HTMX: &str = include_str!("../assets/htmx.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// Part of each asset's address, so that a browser may keep it for ever.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-", env!("ASSETS_HASH"));

pub async fn serve(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "style.css" => ("text/css; charset=utf-8", CSS),
        "app.js" => ("text/javascript; charset=utf-8", APP),
        "theme.js" => ("text/javascript; charset=utf-8", THEME),
        "htmx.js" => ("text/javascript; charset=utf-8", HTMX),
        "icon.svg" => ("image/svg+xml", ICON),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "max-age=31536000, immutable"),
    ];
    (headers, text).into_response()
}
