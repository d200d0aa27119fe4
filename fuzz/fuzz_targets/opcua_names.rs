//! Any text is a node id, a browse pattern and an endpoint, or an error; what is
//! read is written the same, and a pattern agrees with the plain definition of
//! what it means.
#![no_main]

use forebay_opcua::names;
use forebay_opcua::node::{Namespaces, NodeRef};
use forebay_opcua::pattern::Pattern;
use forebay_opcua::settings::Url;
use libfuzzer_sys::fuzz_target;

/// Levels of paths and patterns that the plain definition is tried with: it takes
/// exponential time.
const PLAIN_LEVELS_MAX: usize = 8;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(node) = NodeRef::parse(text) {
        let written = node.to_string();
        let again = NodeRef::parse(&written).expect("what was read can be written");
        assert_eq!(again, node, "{written}");
        let uris = ["http://opcfoundation.org/UA/", "urn:x"].map(str::to_owned);
        let _ = node.resolve(&Namespaces::new(uris.to_vec()));
    }
    if let Ok(url) = Url::parse(text) {
        assert_eq!(url.as_str(), text);
        assert!(!url.host().is_empty() && url.port() > 0);
    }
    let (pattern, path) = text.split_once('\n').unwrap_or((text, ""));
    let level = names::level(path);
    assert!(!level.is_empty() && !level.contains(['/', '+', '#', '\0']));
    let Ok(parsed) = Pattern::parse(pattern) else {
        return;
    };
    assert_eq!(parsed.to_string(), pattern);
    let path: Vec<&str> = path.split('/').collect();
    let is_meant = parsed.matches(&path);
    let levels: Vec<&str> = pattern.split('/').collect();
    if levels.len() <= PLAIN_LEVELS_MAX && path.len() <= PLAIN_LEVELS_MAX {
        assert_eq!(is_meant, means(&levels, &path), "{pattern} {path:?}");
    }
    if is_meant {
        // Whoever walks down finds it.
        for depth in 0..path.len() {
            assert!(parsed.reaches_below(&path[..depth]), "{pattern} {path:?}");
        }
    }
});

/// What a pattern means, without any thought of time.
fn means(levels: &[&str], path: &[&str]) -> bool {
    match (levels.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((&"**", rest)), _) => {
            means(rest, path)
                || path
                    .split_first()
                    .is_some_and(|(_, below)| means(levels, below))
        }
        (Some((level, rest)), Some((name, below))) => {
            let name: Vec<char> = name.chars().collect();
            let level: Vec<char> = level.chars().collect();
            is_level(&level, &name) && means(rest, below)
        }
        _ => false,
    }
}

/// By a table of which beginnings fit, so that many `*` take no time.
fn is_level(level: &[char], name: &[char]) -> bool {
    let mut fits = vec![false; name.len() + 1];
    fits[0] = true;
    for &wanted in level {
        let mut next = vec![false; name.len() + 1];
        for end in 0..=name.len() {
            next[end] = match wanted {
                '*' => fits[end] || (end > 0 && next[end - 1]),
                '?' => end > 0 && fits[end - 1],
                _ => end > 0 && fits[end - 1] && name[end - 1] == wanted,
            };
        }
        fits = next;
    }
    fits[name.len()]
}
