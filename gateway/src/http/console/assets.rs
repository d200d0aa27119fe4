//! The files of the page, compiled in.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::http::Shared;

/// What a page may load and talk to: this node. No script of another origin
/// runs in it, and it is not shown inside another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

struct Asset {
    name: &'static str,
    kind: &'static str,
    content: &'static str,
}

macro_rules! asset {
    ($name:literal, $kind:literal) => {
        Asset {
            name: $name,
            kind: $kind,
            content: include_str!(concat!("../web/", $name)),
        }
    };
}

const PAGE: Asset = asset!("index.html", "text/html; charset=utf-8");

const ASSETS: [Asset; 10] = [
    asset!("style.css", "text/css; charset=utf-8"),
    asset!("main.js", "text/javascript; charset=utf-8"),
    asset!("dom.js", "text/javascript; charset=utf-8"),
    asset!("node.js", "text/javascript; charset=utf-8"),
    asset!("tree.js", "text/javascript; charset=utf-8"),
    asset!("chart.js", "text/javascript; charset=utf-8"),
    asset!("charts.js", "text/javascript; charset=utf-8"),
    asset!("pages.js", "text/javascript; charset=utf-8"),
    asset!("login.js", "text/javascript; charset=utf-8"),
    asset!("icon.svg", "image/svg+xml"),
];

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/", get(async |headers: HeaderMap| answer(&PAGE, &headers)))
        .route("/console/{name}", get(asset))
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match ASSETS.iter().find(|asset| asset.name == name) {
        Some(asset) => answer(asset, &headers),
        None => (StatusCode::NOT_FOUND, "the console has no such file\n").into_response(),
    }
}

/// The file, or that the browser has it already.
fn answer(asset: &Asset, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:08x}\"", crc32c::crc32c(asset.content.as_bytes()));
    let known = headers.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let head = [
        (header::CONTENT_TYPE, asset.kind.to_owned()),
        // Asked again each time: another version may answer after an upgrade.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
        (header::ETAG, tag),
        (header::CONTENT_SECURITY_POLICY, POLICY.to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    match is_known {
        true => (StatusCode::NOT_MODIFIED, head).into_response(),
        false => (head, asset.content).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the page loads is here, and all of it together is small.
    #[test]
    fn every_file_that_the_page_names_is_compiled_in() {
        let all = ASSETS.iter().chain([&PAGE]);
        let len: usize = all.map(|asset| asset.content.len()).sum();
        assert!(len < 200_000, "{len} bytes");
        for asset in ASSETS.iter().chain([&PAGE]) {
            let named = asset.content.split(['"', '\'']);
            for name in named.filter_map(|text| {
                text.strip_prefix("/console/")
                    .or_else(|| text.strip_prefix("./"))
            }) {
                assert!(ASSETS.iter().any(|asset| asset.name == name), "{name}");
            }
        }
    }

    /// The colours of one scheme, as red, green and blue.
    fn colours(style: &str) -> Vec<(String, [f64; 3])> {
        let mut colours = Vec::new();
        for line in style.lines().take_while(|line| *line != "}") {
            let Some((name, code)) = line.trim().split_once(": #") else {
                continue;
            };
            let channel = |at: usize| {
                let digits = &code[at..at + 2];
                f64::from(u8::from_str_radix(digits, 16).expect("a colour has six digits"))
            };
            colours.push((name.to_owned(), [channel(0), channel(2), channel(4)]));
        }
        colours
    }

    /// WCAG 2.2, "relative luminance".
    fn luminance(colour: [f64; 3]) -> f64 {
        let linear = colour.map(|channel| {
            let part = channel / 255.0;
            match part <= 0.04045 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    /// WCAG 2.2, success criterion 1.4.3: at least 4.5 to 1 for text.
    #[test]
    fn every_text_has_contrast_in_both_schemes() {
        let style = include_str!("../web/style.css");
        let dark = style.split_once("dark) {").expect("a dark scheme").1;
        for scheme in [colours(style), colours(dark)] {
            let of = |name: &str| {
                let found = scheme.iter().find(|(known, _)| known == name);
                luminance(found.expect("the scheme has all colours").1)
            };
            let texts = ["--ink", "--quiet", "--good", "--warn", "--bad", "--accent"];
            let lines = ["--first", "--second", "--third", "--fourth"];
            let on_ground = texts
                .iter()
                .chain(&lines)
                .flat_map(|text| ["--ground", "--panel"].map(|ground| (*text, ground)));
            for (text, ground) in on_ground.chain([("--on-accent", "--accent")]) {
                let (a, b) = (of(text), of(ground));
                let contrast = (a.max(b) + 0.05) / (a.min(b) + 0.05);
                assert!(contrast >= 4.5, "{text} on {ground}: {contrast:.2}");
            }
        }
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in ASSETS.iter().chain([&PAGE]) {
            let elsewhere = asset.content.matches("http://").count()
                + asset.content.matches("https://").count();
            let names = asset.content.matches("http://www.w3.org/").count();
            assert_eq!(elsewhere, names, "{}", asset.name);
        }
    }
}
