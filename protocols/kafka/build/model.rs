//! What a definition file says.

/// One API: a request and its response.
pub struct Api {
    pub doc: String,
    pub name: String,
    pub key: i16,
    pub versions: Versions,
    /// First version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
    pub request: Struct,
    pub response: Struct,
}

/// An inclusive range of versions.
#[derive(Clone, Copy, PartialEq)]
pub struct Versions {
    pub min: i16,
    pub max: i16,
}

/// A message or a structure within one.
pub struct Struct {
    pub name: String,
    pub fields: Vec<Field>,
}

/// One field of a structure.
pub struct Field {
    pub name: String,
    pub base: Base,
    pub is_array: bool,
    /// Versions in which null is allowed.
    pub nullable: Option<Versions>,
    pub versions: Versions,
    pub tag: Option<u32>,
    pub default: Option<String>,
}

/// The type of a field, or of the elements of an array.
pub enum Base {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uuid,
    Str,
    Bytes,
    Struct(Struct),
}

impl Base {
    /// The Rust type.
    pub fn rust(&self) -> String {
        match self {
            Self::Bool => "bool".into(),
            Self::Int8 => "i8".into(),
            Self::Int16 => "i16".into(),
            Self::Int32 => "i32".into(),
            Self::Int64 => "i64".into(),
            Self::Uuid => "[u8; 16]".into(),
            Self::Str => "crate::KStr".into(),
            Self::Bytes => "bytes::Bytes".into(),
            Self::Struct(inner) => inner.name.clone(),
        }
    }
}

impl Field {
    /// The Rust type of the field.
    pub fn rust(&self) -> String {
        let mut text = self.base.rust();
        if self.is_array {
            text = format!("Vec<{text}>");
        }
        if self.nullable.is_some() {
            text = format!("Option<{text}>");
        }
        text
    }

    /// The expression of the field's default.
    pub fn default_value(&self) -> String {
        match self.default.as_deref() {
            None => "Default::default()".into(),
            Some("empty") => "Some(Default::default())".into(),
            Some(value) => value.into(),
        }
    }
}

impl Versions {
    /// A condition on `version` that holds in this range, if any is needed within `outer`.
    pub fn condition(self, outer: Versions) -> Option<String> {
        match (self.min > outer.min, self.max < outer.max) {
            (false, false) => None,
            (true, false) => Some(format!("version >= {}", self.min)),
            (false, true) => Some(format!("version <= {}", self.max)),
            (true, true) => Some(format!("({}..={}).contains(&version)", self.min, self.max)),
        }
    }

    /// How the range reads in documentation.
    pub fn describe(self, outer: Versions) -> String {
        if self.min == self.max {
            format!("version {}", self.min)
        } else if self.max == outer.max {
            format!("versions {} and later", self.min)
        } else {
            format!("versions {} to {}", self.min, self.max)
        }
    }
}
