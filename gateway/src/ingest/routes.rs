//! Ordered routes from a path to a log topic.
//!
//! A route is an MQTT topic filter whose single-level wildcards may carry a
//! name, `plant/{site}/+/{machine}/#`. The first route that matches wins; when
//! none does, the default route sends the path to the topic `readings`. A
//! route's topic and key may mention the named levels.

use parking_lot::RwLock;
use thiserror::Error;

/// The topic that takes every path no configured route matches.
pub const DEFAULT_TOPIC: &str = "readings";

/// Partitions of the default route's topic. One keeps a small device's commit
/// at one file; a hub that needs more says so in a route.
pub const DEFAULT_PARTITIONS: u32 = 1;

/// Longest topic name that Kafka clients accept.
pub const TOPIC_NAME_LEN_MAX: usize = 249;

/// Most routes in one configuration. Each publish to a path that is not cached
/// tries them in order, so the list stays short enough to be read in a row.
pub const ROUTES_MAX: usize = 1024;

/// Most partitions that one route may ask for: each is a directory, a segment
/// and preallocated space.
pub const PARTITIONS_MAX: u32 = 1024;

/// A route as it is written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSpec {
    /// MQTT filter with optional named levels: `plant/{site}/#`.
    pub filter: String,
    /// Topic name, may mention named levels: `plant.{site}`.
    pub topic: String,
    /// Record key, may mention named levels. `None` is the whole path.
    pub key: Option<String>,
    /// Partitions of the topic when it is created.
    pub partitions: u32,
    /// Where MQTT publishes on it are kept. With [`Durability::Memory`] the
    /// topic, key and partitions are of no use.
    pub durability: Durability,
}

/// Where MQTT publishes are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// In the log, before they are acknowledged.
    #[default]
    Log,
    /// Nowhere: connected subscribers get them.
    Memory,
}

/// Why a route cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteError {
    /// The filter breaks the MQTT filter syntax or a name is malformed.
    #[error("route filter {filter:?}: {reason}")]
    Filter {
        /// The filter as written.
        filter: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A template mentions a name that the filter does not define.
    #[error("route {filter:?}: {template:?} mentions {{{name}}}, which the filter does not name")]
    UnknownName {
        /// The filter as written.
        filter: String,
        /// The template as written.
        template: String,
        /// The name without a level.
        name: String,
    },
    /// A template has an unmatched brace.
    #[error("route {filter:?}: {template:?} has an unmatched brace")]
    Brace {
        /// The filter as written.
        filter: String,
        /// The template as written.
        template: String,
    },
    /// The fixed part of a topic is not a legal Kafka topic name.
    #[error(
        "route {filter:?}: topic {topic:?} must be 1 to 249 characters of a-z, A-Z, 0-9, '.', '_' or '-' and not begin with \"__\""
    )]
    Topic {
        /// The filter as written.
        filter: String,
        /// The topic as written.
        topic: String,
    },
    /// The partition count is out of range.
    #[error("route {filter:?}: partitions = {partitions}, expected 1 to {PARTITIONS_MAX}")]
    Partitions {
        /// The filter as written.
        filter: String,
        /// The count as written.
        partitions: u32,
    },
    /// There are more routes than [`ROUTES_MAX`].
    #[error("{count} routes, expected at most {ROUTES_MAX}")]
    TooMany {
        /// How many there are.
        count: usize,
    },
}

/// Where a path goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Log topic.
    pub topic: String,
    /// Record key; `None` means the path itself.
    pub key: Option<String>,
    /// Partitions the topic is created with when it does not exist.
    pub partitions: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Level {
    Literal(String),
    One,
    Rest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// Position of the level in the path.
    Level(usize),
}

#[derive(Clone, Debug)]
struct Route {
    levels: Vec<Level>,
    topic: Vec<Piece>,
    key: Option<Vec<Piece>>,
    partitions: u32,
    is_memory: bool,
}

/// The named levels of a filter with their positions.
type Names = Vec<(String, usize)>;

/// The compiled routes of a node, the default route last.
#[derive(Debug)]
pub struct Routes {
    routes: Vec<Route>,
    has_memory: bool,
    /// Where continuous queries put their results; these come first, and change
    /// while the node runs.
    results: RwLock<Vec<Route>>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            routes: vec![Route {
                levels: vec![Level::Rest],
                topic: vec![Piece::Text(DEFAULT_TOPIC.to_owned())],
                key: None,
                partitions: DEFAULT_PARTITIONS,
                is_memory: false,
            }],
            has_memory: false,
            results: RwLock::default(),
        }
    }
}

impl Routes {
    /// Compiles routes in their order and adds the default route at the end.
    ///
    /// # Errors
    /// All mistakes at once, in the order of the routes.
    pub fn new(specs: &[RouteSpec]) -> Result<Self, Vec<RouteError>> {
        let mut errors = Vec::new();
        if specs.len() > ROUTES_MAX {
            errors.push(RouteError::TooMany { count: specs.len() });
        }
        let mut routes = Vec::with_capacity(specs.len() + 1);
        for spec in specs {
            match Route::compile(spec) {
                Ok(route) => routes.push(route),
                Err(error) => errors.push(error),
            }
        }
        routes.extend(Self::default().routes);
        if errors.is_empty() {
            let has_memory = routes.iter().any(|route| route.is_memory);
            Ok(Self {
                routes,
                has_memory,
                results: RwLock::default(),
            })
        } else {
            Err(errors)
        }
    }

    /// Whether MQTT publishes on `path` are kept in no log: its first route
    /// says so.
    pub fn is_memory(&self, path: &str) -> bool {
        if !self.has_memory {
            return false;
        }
        let levels: Vec<&str> = path.split('/').collect();
        let first = self.routes.iter().find(|route| route.matches(&levels));
        first.is_some_and(|route| route.is_memory)
    }

    /// The destination of `path`, a topic name without wildcards. Routes to
    /// memory are passed over: what comes here is to be kept, like the readings
    /// of devices.
    pub fn resolve(&self, path: &str) -> Destination {
        let levels: Vec<&str> = path.split('/').collect();
        let results = self.results.read();
        for route in results.iter().chain(&self.routes) {
            if !route.is_memory && route.matches(&levels) {
                return route.destination(&levels);
            }
        }
        // The default route is `#`, which leaves out paths that begin with
        // `$`; they go to the same topic.
        Destination {
            topic: DEFAULT_TOPIC.to_owned(),
            key: None,
            partitions: DEFAULT_PARTITIONS,
        }
    }

    /// True when records of the log topic `name` are part of the MQTT
    /// namespace: some route can send a path there.
    pub fn covers_topic(&self, name: &str) -> bool {
        self.has_results(name)
            || self
                .routes
                .iter()
                .any(|route| !route.is_memory && template_matches(&route.topic, name))
    }

    /// Puts the routes of results in front, in place of those before.
    ///
    /// # Errors
    /// All mistakes at once; nothing has changed.
    pub fn set_results(&self, specs: &[RouteSpec]) -> Result<(), Vec<RouteError>> {
        let compiled: Vec<_> = specs.iter().map(Route::compile).collect();
        let (routes, errors): (Vec<_>, Vec<_>) = compiled.into_iter().partition(Result::is_ok);
        if errors.is_empty() {
            *self.results.write() = routes.into_iter().flatten().collect();
            return Ok(());
        }
        Err(errors.into_iter().filter_map(Result::err).collect())
    }

    /// Whether the log topic is one of results.
    pub fn has_results(&self, name: &str) -> bool {
        let results = self.results.read();
        results
            .iter()
            .any(|route| template_matches(&route.topic, name))
    }

    /// True when a path that matches the subscription `filter` can be found in
    /// the log topic `name`.
    ///
    /// It may say yes for a topic that holds no such path, never no for one
    /// that does, as long as Kafka producers keep to the routes.
    pub fn topic_may_match(&self, name: &str, filter: &str) -> bool {
        if filter.starts_with("$SYS/") {
            // What the node says about itself is in no log.
            return false;
        }
        let overlaps = |route: &Route| {
            !route.is_memory
                && template_matches(&route.topic, name)
                && levels_overlap(&route.levels, filter)
        };
        self.results.read().iter().any(overlaps) || self.routes.iter().any(overlaps)
    }

    /// The topics without named levels and their partition counts, for
    /// creation at start.
    pub fn fixed_topics(&self) -> Vec<(String, u32)> {
        let mut topics: Vec<(String, u32)> = Vec::new();
        for route in &self.routes {
            let [Piece::Text(name)] = route.topic.as_slice() else {
                continue;
            };
            if !topics.iter().any(|(known, _)| known == name) {
                topics.push((name.clone(), route.partitions));
            }
        }
        topics
    }
}

impl Route {
    fn compile(spec: &RouteSpec) -> Result<Self, RouteError> {
        let (levels, names) = compile_filter(&spec.filter)?;
        if spec.durability == Durability::Memory {
            return Ok(Self {
                levels,
                topic: Vec::new(),
                key: None,
                partitions: DEFAULT_PARTITIONS,
                is_memory: true,
            });
        }
        if spec.partitions == 0 || spec.partitions > PARTITIONS_MAX {
            return Err(RouteError::Partitions {
                filter: spec.filter.clone(),
                partitions: spec.partitions,
            });
        }
        let topic = compile_template(&spec.filter, &spec.topic, &names)?;
        let fixed_part_is_legal = topic.iter().all(|piece| match piece {
            Piece::Text(text) => text.chars().all(is_topic_character),
            Piece::Level(_) => true,
        });
        let reserved = spec.topic.starts_with("__") || matches!(spec.topic.as_str(), "." | "..");
        if topic.is_empty()
            || !fixed_part_is_legal
            || reserved
            || spec.topic.len() > TOPIC_NAME_LEN_MAX
        {
            return Err(RouteError::Topic {
                filter: spec.filter.clone(),
                topic: spec.topic.clone(),
            });
        }
        let key = match &spec.key {
            Some(template) => Some(compile_template(&spec.filter, template, &names)?),
            None => None,
        };
        Ok(Self {
            levels,
            topic,
            key,
            partitions: spec.partitions,
            is_memory: false,
        })
    }

    fn matches(&self, path: &[&str]) -> bool {
        let hidden = path.first().is_some_and(|level| level.starts_with('$'));
        if hidden && !matches!(self.levels.first(), Some(Level::Literal(_))) {
            return false;
        }
        for (position, level) in self.levels.iter().enumerate() {
            match level {
                Level::Rest => return true,
                Level::One if position < path.len() => {}
                Level::Literal(text) if path.get(position) == Some(&text.as_str()) => {}
                _ => return false,
            }
        }
        self.levels.len() == path.len()
    }

    fn destination(&self, path: &[&str]) -> Destination {
        let mut topic: String = expand(&self.topic, path)
            .chars()
            .map(|c| if is_topic_character(c) { c } else { '_' })
            .take(TOPIC_NAME_LEN_MAX)
            .collect();
        // A level may expand to something reserved: an internal name, or "."
        // and "..", which are directories.
        if topic.is_empty() || topic.starts_with("__") || topic == "." || topic == ".." {
            topic = DEFAULT_TOPIC.to_owned();
        }
        Destination {
            topic,
            key: self.key.as_ref().map(|pieces| expand(pieces, path)),
            partitions: self.partitions,
        }
    }
}

fn compile_filter(filter: &str) -> Result<(Vec<Level>, Names), RouteError> {
    let wrong = |reason| RouteError::Filter {
        filter: filter.to_owned(),
        reason,
    };
    if filter.is_empty() {
        return Err(wrong("is empty"));
    }
    if filter.len() > usize::from(u16::MAX) || filter.contains('\0') {
        return Err(wrong("is longer than 65535 bytes or contains U+0000"));
    }
    let mut levels = Vec::new();
    let mut names: Names = Vec::new();
    let count = filter.split('/').count();
    for (position, text) in filter.split('/').enumerate() {
        let level = match text {
            "+" => Level::One,
            "#" if position + 1 == count => Level::Rest,
            "#" => return Err(wrong("'#' must be the last level")),
            _ if text.starts_with('{') && text.ends_with('}') => {
                let name = &text[1..text.len() - 1];
                let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
                if name.is_empty() || !name.chars().all(legal) {
                    return Err(wrong("a level's name is letters, digits, '_' and '-'"));
                }
                if names.iter().any(|(known, _)| known == name) {
                    return Err(wrong("two levels have the same name"));
                }
                names.push((name.to_owned(), position));
                Level::One
            }
            _ if text.contains(['+', '#', '{', '}']) => {
                return Err(wrong("a wildcard or a name must be a whole level"));
            }
            _ => Level::Literal(text.to_owned()),
        };
        levels.push(level);
    }
    Ok((levels, names))
}

fn compile_template(
    filter: &str,
    template: &str,
    names: &[(String, usize)],
) -> Result<Vec<Piece>, RouteError> {
    let brace = || RouteError::Brace {
        filter: filter.to_owned(),
        template: template.to_owned(),
    };
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some(open) = rest.find(['{', '}']) {
        let (text, tail) = rest.split_at(open);
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let inside = tail.strip_prefix('{').ok_or_else(brace)?;
        let (name, after) = inside.split_once('}').ok_or_else(brace)?;
        let found = names.iter().find(|(known, _)| known == name);
        let Some((_, position)) = found else {
            return Err(RouteError::UnknownName {
                filter: filter.to_owned(),
                template: template.to_owned(),
                name: name.to_owned(),
            });
        };
        pieces.push(Piece::Level(*position));
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Ok(pieces)
}

fn expand(pieces: &[Piece], path: &[&str]) -> String {
    let mut text = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(fixed) => text.push_str(fixed),
            Piece::Level(position) => text.push_str(path.get(*position).copied().unwrap_or("")),
        }
    }
    text
}

/// Whether `name` can come out of the topic template. Each named level may
/// stand for any text, so this is a match with `*` at those places.
fn template_matches(pieces: &[Piece], name: &str) -> bool {
    match pieces {
        [] => name.is_empty(),
        [Piece::Text(text), rest @ ..] => name
            .strip_prefix(text.as_str())
            .is_some_and(|tail| template_matches(rest, tail)),
        [Piece::Level(_)] => true,
        [Piece::Level(_), rest @ ..] => name
            .char_indices()
            .map(|(at, _)| at)
            .chain([name.len()])
            .any(|at| template_matches(rest, &name[at..])),
    }
}

/// Whether some path matches both the compiled levels and the MQTT filter.
fn levels_overlap(levels: &[Level], filter: &str) -> bool {
    let mut others = filter.split('/');
    for level in levels {
        let other = others.next();
        match (level, other) {
            (Level::Rest, _) | (_, Some("#")) => return true,
            (_, None) => return false,
            (Level::One, Some(_)) | (Level::Literal(_), Some("+")) => {}
            (Level::Literal(text), Some(other)) if text == other => {}
            (Level::Literal(_), Some(_)) => return false,
        }
    }
    // `a/#` also matches `a`.
    matches!(others.next(), None | Some("#"))
}

fn is_topic_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// The partition that Kafka's default partitioner picks for `key`.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

/// MurmurHash2 with the seed of Kafka's Java client.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Keys are bounded by the packet size, far below 4 GiB.
    let mut hash = SEED ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (position, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * position);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests;
